package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
)

const redriveHelp = `Publish the job of a dead letter again under a new id (<id>_r1, then <id>_r2 and so on), without its reply_to and expiry,
and remove the dead letter once the stream has stored the new job. The result is stored under the new id.

A job that finished as unknown may have taken effect, so it is published again only with --force. A job that took effect but
whose result could not be stored under its id (result_id_taken) is never published again. If the new id is already taken,
set another one with --id.

With --all, the command publishes the jobs of all dead letters that match the filters when it starts. It keeps and lists those
that must not be published again, and exits with 1.
` + clientHelp

type redriveFlags struct {
	lettersFlags
	id          string
	force, json bool
}

// redriven is what became of one dead letter.
type redriven struct {
	Letter   string `json:"letter"`
	JobID    string `json:"job_id"`
	NewID    string `json:"new_id"`
	Sequence uint64 `json:"sequence"`
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
	if err := f.recordLetters(cmd, s, contract.AuditRedrive, names, after); err != nil {
		return err
	}
	done := []redriven{}
	err = eachLetter(cmd, s, names, func(ctx context.Context, letter *client.DeadLetter) error {
		r, err := f.redrive(ctx, s, letter)
		if err == nil {
			done = append(done, r)
		}
		return err
	})
	if f.json {
		return errors.Join(err, printJSON(cmd.OutOrStdout(), done))
	}
	for _, r := range done {
		if _, printed := fmt.Fprintf(cmd.OutOrStdout(), "%s: published as %s, sequence %d\n", r.Letter, r.NewID, r.Sequence); printed != nil {
			return errors.Join(err, printed)
		}
	}
	return err
}

// redrive publishes the job of one dead letter again. The dead letter is removed last: whatever dies in between leaves it there, and
// the next attempt finds the new id taken.
func (f *redriveFlags) redrive(ctx context.Context, s *session, letter *client.DeadLetter) (redriven, error) {
	if err := f.allowed(ctx, s, letter); err != nil {
		return redriven{}, err
	}
	out := redriven{Letter: letter.Name(), JobID: letter.JobID(), NewID: cmp.Or(f.id, nextID(letter.JobID()))}
	taken := fmt.Errorf("the id %s is taken, perhaps by an earlier redrive; choose another with --id", out.NewID)
	if !contract.ValidID(out.NewID) {
		return redriven{}, fmt.Errorf("%q is not a valid job id; choose one with --id", out.NewID)
	}
	switch _, err := s.LatestResult(ctx, letter.Database, out.NewID); {
	case err == nil:
		return redriven{}, taken
	case !errors.Is(err, client.ErrNoResult):
		return redriven{}, err
	}
	// The old reply subject has no subscriber any more, the old expiry is over, and an answer that goes only to a reply would go
	// nowhere.
	body, err := parseBody(letter.Body)
	if err != nil {
		return redriven{}, fmt.Errorf("%w: publish a corrected job instead", err)
	}
	body = body.without("reply_to", "expires_at", "expires_in", "answer").with("id", out.NewID)
	headers := nats.Header{contract.HeaderRedriveOf: {out.JobID}}
	for name, values := range letter.Headers { // the job's own, such as a trace, without those that meant something to the server
		if !strings.HasPrefix(name, contract.HeaderPrefix) {
			headers[name] = values
		}
	}
	receipt, err := s.Submit(ctx, &client.Job{
		Database: letter.Database, Kind: letter.Kind, Name: letter.JobName(), ID: out.NewID, Body: body.bytes(), Headers: headers,
	})
	if err != nil {
		return redriven{}, err
	}
	if receipt.Duplicate {
		return redriven{}, taken
	}
	out.Sequence = receipt.Sequence
	return out, s.DeleteDeadLetter(ctx, letter)
}

// allowed refuses jobs whose effect happened, and without --force those that may have had theirs.
func (f *redriveFlags) allowed(ctx context.Context, s *session, letter *client.DeadLetter) error {
	switch letter.Reason() {
	case string(contract.Rejected), string(contract.Failed), string(contract.Canceled), string(contract.Expired), contract.ReasonJobIDReused:
		return nil
	case contract.ReasonResultIDTaken:
		return fmt.Errorf("the job has taken effect; its result is stored under %s", letter.Headers.Get(contract.HeaderResultID))
	case contract.ReasonTooManyDeliveries: // the stored result tells how it finished
		r, err := s.LatestResult(ctx, letter.Database, letter.Headers.Get(contract.HeaderResultID))
		if err != nil && !errors.Is(err, client.ErrNoResult) {
			return err
		}
		if err == nil && r.Status == contract.Failed { // and is the result of this message, not of another one under its id
			sequence, err := strconv.ParseUint(letter.Headers.Get(contract.HeaderSequence), 10, 64)
			queued, queuedErr := time.Parse(time.RFC3339Nano, letter.Headers.Get(contract.HeaderQueuedAt))
			if err == nil && queuedErr == nil && r.Sequence == sequence && r.QueuedAt.Equal(queued) {
				return nil
			}
		}
	}
	if f.force {
		return nil
	}
	return errors.New("the job's outcome is unknown; it may have taken effect; check the database, then use --force")
}

var redriveSuffix = regexp.MustCompile(`^(.+)_r([1-9][0-9]{0,8})$`)

// nextID counts one further than the id itself does.
func nextID(id string) string {
	if m := redriveSuffix.FindStringSubmatch(id); m != nil {
		if n, err := strconv.Atoi(m[2]); err == nil {
			return m[1] + "_r" + strconv.Itoa(n+1)
		}
	}
	return id + "_r1"
}
