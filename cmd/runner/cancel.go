package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

const cancelHelp = `Request the cancellation of a job that is queued, waits for a retry or runs, anywhere in the fleet. At least one runner
of the database must be connected to accept the request. The request is kept for a day (topology.control.max_age), so that
a job that is delivered later does not start.

A queued job cannot be looked up by its id. If no runner knows the job within --wait, the request is kept and applies when a
runner receives a job with that id that was published before the request. A job that changes its database is reported as
cancelled only when that is certain; while its database is down, it waits.

Exit codes: 0 the job was cancelled; 1 the request failed; 3 the job had already finished; 5 the request is kept, and no
runner knows the job yet; 78 the command line is wrong.
` + clientHelp

type cancelFlags struct {
	clientFlags
	auditFlags
	wait time.Duration
	json bool
}

func newCancel() *cobra.Command {
	f := &cancelFlags{}
	cmd := &cobra.Command{
		Use:     "cancel DATABASE JOB-ID",
		Short:   "Cancel a job",
		Long:    cancelHelp,
		Example: "  runner cancel shop pay-4711\n  runner cancel shop pay-4711 --wait 30s --json",
		Args:    arguments(2, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	cmd.Flags().DurationVar(&f.wait, "wait", 2*time.Second, "how long to wait until the job finishes")
	f.addAudit(cmd, "requester, stored with the request and in the audit entry (default: this user's name)", reasonFlag)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *cancelFlags) run(cmd *cobra.Command, database, id string) error {
	if err := checkJob(database, id); err != nil {
		return err
	}
	if f.wait <= 0 {
		return usage(errors.New("--wait must be above zero"))
	}
	ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout+f.wait)
	defer stop()
	s, err := f.connect(ctx, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	if err := f.record(ctx, cmd, s, &contract.AuditEntry{Action: contract.AuditCancel, Database: database, Targets: []string{id}}); err != nil {
		return err
	}
	answer, err := s.Cancel(ctx, database, id, client.CancelOptions{By: cmp.Or(f.by, thisUser()), Wait: f.wait})
	if errors.Is(err, client.ErrNoService) {
		return fmt.Errorf("%w; nothing was cancelled", client.ErrNoService)
	}
	if err != nil {
		return err
	}
	code, text := exitOK, ""
	switch answer.Outcome {
	case contract.CancelDone:
		text = fmt.Sprintf("cancelled: job %s of %s", answer.JobID, answer.Database)
	case contract.CancelTooLate:
		code = exitJob
		text = fmt.Sprintf("already finished: job %s of %s %s", answer.JobID, answer.Database, answer.Status)
	default:
		code = exitTimeout
		text = fmt.Sprintf("requested: job %s of %s is not known yet", answer.JobID, answer.Database)
		if answer.KeptUntil != nil {
			text += "; the request expires at " + answer.KeptUntil.Format(time.RFC3339)
		}
	}
	return printOutcome(cmd.OutOrStdout(), f.json, answer, text, code)
}

// thisUser is who runs this process.
func thisUser() string {
	host, _ := os.Hostname() // none is as good as an unknown one
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return host
}

// printOutcome prints a value as JSON, or what it means, and returns the exit code that goes with it.
func printOutcome(w io.Writer, asJSON bool, v any, text string, code int) error {
	var err error
	if asJSON {
		err = printJSON(w, v)
	} else {
		_, err = fmt.Fprintln(w, text)
	}
	if err != nil || code == exitOK {
		return err
	}
	return &exitError{code: code}
}
