package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/manager"
)

const approveHelp = `Approve a dry run: show its stored result, ask, and have a runner execute the same transaction again. It is committed only if its
effect is the same as the dry run's; otherwise the job fails with effect_changed, and nothing is committed.

The user needs permission to read results and to publish dbrunner.jobs.<database>.approve, or ….approve.<name> for the dry run of a
named statement (docs/security.md). A dry run can be approved once: an approval that has failed needs a new dry run.

In scripts, --yes approves without a question; --digest approves only if the dry run's effect has this digest.

Exit codes: as of "runner submit".
` + clientHelp

type approveFlags struct {
	submitFlags
	auditFlags
	yes    bool
	digest string
}

func newApprove() *cobra.Command {
	f := &approveFlags{}
	cmd := &cobra.Command{
		Use:     "approve DATABASE ID",
		Short:   "Approve a dry run, and commit it",
		Long:    approveHelp,
		Example: "  runner approve shop close-7\n  runner approve shop close-7 --yes --digest sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Args:    arguments(2, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	flags := cmd.Flags()
	flags.BoolVar(&f.yes, "yes", false, "approve without a question")
	flags.StringVar(&f.digest, "digest", "", "approve only if this is the dry run's effect_digest")
	flags.DurationVar(&f.jobTimeout, "job-timeout", 0, "the approval's own time limit (default: the database's)")
	flags.DurationVar(&f.timeout, "timeout", time.Minute, "how long to wait for the result")
	flags.BoolVar(&f.noWait, "no-wait", false, "return once the approval is stored")
	flags.BoolVar(&f.json, "json", false, "print the result's own JSON")
	f.addAudit(cmd, byUsage, reasonFlag)
	f.clientFlags.add(cmd)
	return cmd
}

func (f *approveFlags) run(cmd *cobra.Command, database, id string) error {
	if err := checkJob(database, id); err != nil {
		return err
	}
	if f.timeout <= 0 {
		return usage(errors.New("--timeout must be above zero"))
	}
	approval, err := f.look(cmd, database, id)
	if err != nil {
		return err
	}
	if f.jobTimeout > 0 {
		approval.Options = map[string]any{"timeout": f.jobTimeout.String()}
	}
	job, err := approval.Job()
	if err != nil {
		return err
	}
	f.database, f.kind = database, kindApprove
	if approval.Name != "" {
		f.kind += "." + approval.Name
	}
	return f.submitFlags.run(cmd, &submission{id: job.ID, body: job.Body, hash: manager.RequestHash(database, f.kind, job.Body)})
}

// look shows the dry run, asks, and records that it is approved.
func (f *approveFlags) look(cmd *cobra.Command, database, id string) (*client.Approval, error) {
	ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout)
	defer stop()
	s, err := f.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	defer s.close(cmd.Context())
	r, err := s.Result(ctx, database, id)
	if errors.Is(err, client.ErrNoResult) {
		err = fmt.Errorf("no result of %s is stored in %s: the dry run has not finished, or its result has expired; make a new one with runner submit --dry-run", id, database)
	}
	if err != nil {
		return nil, err
	}
	approval, err := client.ApprovalOf(r)
	if err != nil {
		return nil, err
	}
	if f.digest != "" && f.digest != approval.Digest {
		return nil, &exitError{exitJob, fmt.Errorf("the dry run %s has another effect: %s; nothing was published", id, approval.Digest)}
	}
	out := cmd.OutOrStdout()
	if f.json {
		out = cmd.ErrOrStderr()
	}
	if err := printDryRun(out, styleFor(out), r); err != nil {
		return nil, err
	}
	switch {
	case f.yes:
	case onTerminal(cmd.InOrStdin()):
		err = confirm(cmd.Context(), cmd, fmt.Sprintf("Commit this on %s?", database))
	default:
		err = usage(errors.New("add --yes to approve without a question"))
	}
	if err == nil {
		ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout)
		defer stop()
		err = f.record(ctx, cmd, s, &contract.AuditEntry{
			Action: contract.AuditApprove, Database: database, Targets: []string{id}, After: map[string]string{"effect_digest": approval.Digest},
		})
	}
	return approval, err
}
