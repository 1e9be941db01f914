package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

const redriveHelp = `Publish the job of a dead letter again under a new id (<id>_r1, then <id>_r2 and so on), without its reply_to and expiry,
and remove the dead letter once the stream has stored the new job. The result is stored under the new id.

A job that finished as unknown may have taken effect, so it is published again only with --force. A job that took effect but
whose result could not be stored under its id (result_id_taken) is never published again. If the new id is already taken,
set another one with --id.

A job that was in a queue goes to the end of that queue; with --now it goes to none, and so waits behind no other job of the
queue.

With --all, the command publishes the jobs of all dead letters that match the filters when it starts. It keeps and lists those
that must not be published again, and exits with 1.
` + clientHelp

type redriveFlags struct {
	deadLetterFlags
	id          string
	now         bool
	force, json bool
}

// redriven is what became of one dead letter.
type redriven struct {
	DeadLetter string `json:"letter"`
	JobID      string `json:"job_id"`
	NewID      string `json:"new_id"`
	Sequence   uint64 `json:"sequence"`
}

func newDeadRedrive() *cobra.Command {
	f := &redriveFlags{}
	cmd := &cobra.Command{
		Use:   "redrive [LETTER...]",
		Short: "Publish jobs of dead letters again",
		Long:  redriveHelp,
		Example: "  runner dead redrive shop.transaction.s42_cz1n2hxkq8s1\n" +
			"  runner dead redrive --all --database shop --code deadlock --since 2h --yes",
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, args) },
	}
	cmd.Flags().StringVar(&f.id, "id", "", "id of the new job (one dead letter only)")
	cmd.Flags().BoolVar(&f.now, "now", false, "to no queue, also a job that was in one")
	cmd.Flags().BoolVar(&f.force, "force", false, "also a job that may have taken effect")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *redriveFlags) run(cmd *cobra.Command, names []string) error {
	if f.id != "" && (f.all || len(names) > 1 || !contract.ValidID(f.id)) {
		return usage(errors.New("--id takes 1 to 100 of A-Z a-z 0-9 _ -, for one dead letter"))
	}
	s, names, err := f.open(cmd, names, "published again")
	if err != nil {
		return err
	}
	defer s.close(cmd.Context())
	after := map[string]string{"id": f.id}
	if f.force {
		after["force"] = "true"
	}
	if err := f.recordDeadLetters(cmd, s, contract.AuditRedrive, names, after); err != nil {
		return err
	}
	done := []redriven{}
	err = eachDeadLetter(cmd, s, names, func(ctx context.Context, deadLetter *client.DeadLetter) error {
		r, err := f.redrive(ctx, s, deadLetter)
		if err == nil {
			done = append(done, r)
		}
		return err
	})
	if f.json {
		return errors.Join(err, printJSON(cmd.OutOrStdout(), done))
	}
	for _, r := range done {
		if _, printed := fmt.Fprintf(cmd.OutOrStdout(), "%s: published as %s, sequence %d\n", r.DeadLetter, r.NewID, r.Sequence); printed != nil {
			return errors.Join(err, printed)
		}
	}
	return err
}

// redrive publishes the job of one dead letter again.
func (f *redriveFlags) redrive(ctx context.Context, s *session, deadLetter *client.DeadLetter) (redriven, error) {
	out, err := client.Redrive(ctx, s.Client, deadLetter, client.RedriveOptions{ID: f.id, Force: f.force, Now: f.now})
	switch {
	case errors.Is(err, client.ErrIDTaken), errors.Is(err, client.ErrInvalidID):
		err = fmt.Errorf("%w; choose another with --id", err)
	case errors.Is(err, client.ErrMayHaveEffect):
		err = fmt.Errorf("%w, then use --force", err)
	}
	return redriven{DeadLetter: deadLetter.Name(), JobID: out.JobID, NewID: out.NewID, Sequence: out.Sequence}, err
}
