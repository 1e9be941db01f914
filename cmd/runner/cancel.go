package main

import (
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
	wait time.Duration
	by   string
	json bool
}

func newCancel() *cobra.Command {
	f := &cancelFlags{}
	cmd := &cobra.Command{
		Use:     "cancel DATABASE JOB-ID",
		Short:   "Cancel a job",
		Long:    cancelHelp,
		Example: "  runner cancel shop pay-4711\n  runner cancel shop pay-4711 --wait 30s --json",
		Args:    cobra.ExactArgs(2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	cmd.Flags().DurationVar(&f.wait, "wait", 2*time.Second, "how long to wait until the job finishes")
	cmd.Flags().StringVar(&f.by, "by", "", "requester, stored with the request (default: this user's name)")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *cancelFlags) run(cmd *cobra.Command, database, id string) error {
	switch {
	case !contract.ValidName(database):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case !contract.ValidID(id) && !contract.IsDerivedID(id):
		return usage(errors.New("the job id is not 1 to 100 of A-Z a-z 0-9 _ -"))
	case f.wait <= 0:
		return usage(errors.New("--wait must be above zero"))
	}
	ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout+f.wait)
	defer stop()
	s, err := f.connect(ctx, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	answer, err := s.Cancel(ctx, database, id, client.CancelOptions{By: requester(f.by), Wait: f.wait})
	if errors.Is(err, client.ErrNoService) {
		return fmt.Errorf("no runner answers; nothing was cancelled: %w", err)
	}
	if err != nil {
		return err
	}
	if err := printCancel(cmd.OutOrStdout(), answer, f.json); err != nil {
		return err
	}
	switch answer.Outcome {
	case contract.CancelDone:
		return nil
	case contract.CancelTooLate:
		return &exitError{code: exitJob}
	default:
		return &exitError{code: exitTimeout}
	}
}

// requester is who asks: as the flag says, else the user of this process.
func requester(by string) string {
	if by != "" {
		return by
	}
	host, _ := os.Hostname() // none is as good as an unknown one
	if u, err := user.Current(); err == nil {
		return u.Username + "@" + host
	}
	return host
}

func printCancel(w io.Writer, a *contract.CancelAnswer, asJSON bool) error {
	if asJSON {
		return printJSON(w, a)
	}
	var err error
	switch a.Outcome {
	case contract.CancelDone:
		_, err = fmt.Fprintf(w, "cancelled: job %s of %s\n", a.JobID, a.Database)
	case contract.CancelTooLate:
		_, err = fmt.Fprintf(w, "already finished: job %s of %s %s\n", a.JobID, a.Database, a.Status)
	default:
		_, err = fmt.Fprintf(w, "requested: job %s of %s is not known yet", a.JobID, a.Database)
		if a.KeptUntil != nil {
			_, err = fmt.Fprintf(w, "; the request expires at %s", a.KeptUntil.Format(time.RFC3339))
		}
		_, _ = fmt.Fprintln(w)
	}
	return err
}
