package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/ordered"
	"dbrunner/internal/order"
	"dbrunner/internal/plaintext"
	"dbrunner/internal/report"
)

const resumeHelp = `End the pause of a database, or with --queue the pause of that queue alone. The command waits up to 10 seconds until every runner of the database that sends heartbeats has
taken it over.

With --queue and --job, it ends no pause: it resumes an ordered queue that waits because its first job failed. That job must be
named, so that no other one is released. Its message leaves the queue, its result stays as it is, and the next job starts. To repair
first, what the failed job should have done, use "runner dead redrive --now": its jobs run while the queue waits. The command waits up to
10 seconds until the runner that has the job has released it. It needs an operator's permissions and "$KV.DBRUNNER_STATE.resume.<database>.<queue>".

Exit codes: 0 the database is not paused, or the job is released; 1 the pause is not ended, or runners have not confirmed its end (they are named),
or the job is not the first one of the queue, has not failed, or is not released yet; 78 the command line is wrong.
` + clientHelp

func newResume() *cobra.Command {
	f, job := &pauseFlags{}, ""
	cmd := &cobra.Command{
		Use:     "resume DATABASE",
		Short:   "End the pause of a database, or release a failed job of an ordered queue",
		Long:    resumeHelp,
		Example: "  runner resume shop\n  runner resume shop --queue bulk\n  runner resume shop --queue feed --job order-1734",
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("job") {
				return f.release(cmd, args[0], job)
			}
			return f.resume(cmd, args[0])
		},
	}
	cmd.Flags().StringVar(&f.queue, "queue", "", "queue of the database (default: the pause of all of its jobs)")
	cmd.Flags().StringVar(&job, "job", "", "failed job that the ordered queue waits for, by its id: release it")
	f.addAudit(cmd, byUsage, reasonFlag)
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&f.schedule, "schedule", "", "end the pause of this schedule of the database instead, by its key")
	f.add(cmd)
	return cmd
}

func (f *pauseFlags) resume(cmd *cobra.Command, database string) error {
	target, err := f.target(database)
	if err != nil {
		return err
	}
	return f.change(cmd, target, func(ctx context.Context, s *session, before *report.Pause) (*report.Pause, error) {
		if before == nil {
			return nil, nil
		}
		if err := f.record(ctx, cmd, s, pauseEntry(contract.AuditResume, target, before)); err != nil {
			return nil, err
		}
		err := control.EndPause(ctx, s.conn, target, before)
		if errors.Is(err, control.ErrPauseChanged) {
			err = fmt.Errorf("%w; run the command again if that one shall end as well", err)
		}
		return nil, err
	})
}

// releaseView is what the command prints about a job that it releases.
type releaseView struct {
	Database string          `json:"database"`
	Queue    string          `json:"queue"`
	JobID    string          `json:"job_id"`
	Sequence uint64          `json:"sequence"`
	Status   contract.Status `json:"status"`
	Code     string          `json:"code,omitempty"`
	Released bool            `json:"released"` // its message has left the queue
}

// release releases the failed job that an ordered queue waits for.
func (f *pauseFlags) release(cmd *cobra.Command, database, id string) error {
	target, err := f.target(database)
	switch {
	case err != nil:
		return err
	case target.Queue == "":
		return usage(errors.New("--job is for ordered queues: name the queue with --queue"))
	case !contract.ValidResultID(id):
		return usage(errors.New("--job is not the id of a job"))
	}
	ctx, stop := context.WithTimeout(cmd.Context(), 2*clientTimeout+confirmTimeout)
	defer stop()
	s, err := f.connect(ctx, true)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	first, failed, err := failedFirst(ctx, s, target, id)
	if err != nil {
		return err
	}
	view := &releaseView{Database: database, Queue: target.Queue, JobID: id, Sequence: first.Sequence, Status: failed.Status, Code: failed.Code}
	entry := &contract.AuditEntry{
		Action: contract.AuditResume, Database: database, Targets: []string{"queue " + target.Queue, "job " + id},
		Before: map[string]string{"status": string(view.Status), "code": view.Code, "sequence": fmt.Sprint(view.Sequence)},
	}
	if err := f.record(ctx, cmd, s, entry); err != nil {
		return err
	}
	record := contract.QueueResume{Sequence: first.Sequence, QueuedAt: first.Timestamp, JobID: id, By: f.by, Reason: f.why}
	if record.By == "" {
		record.By = thisUser()
	}
	if err := ordered.Resume(ctx, s.conn, database, target.Queue, record); err != nil {
		return explainPause(s, err)
	}
	bounded, cancel := context.WithTimeout(ctx, confirmTimeout)
	defer cancel()
	view.Released, err = ordered.Await(bounded, s.conn, database, target.Queue, first.Sequence, first.Timestamp)
	if err == nil && !view.Released {
		err = fmt.Errorf("the record is stored, but no runner has released the job within %s: none has it (runner ps %s); the next one that gets it will", confirmTimeout, database)
	}
	if f.json {
		return errors.Join(err, printJSON(cmd.OutOrStdout(), view))
	}
	if err == nil {
		view.print(cmd.OutOrStdout())
	}
	return err
}

func (v *releaseView) print(w io.Writer) {
	outcome := string(v.Status)
	if v.Code != "" {
		outcome += ", " + v.Code
	}
	_, _ = fmt.Fprintf(w, "resumed: queue %s of database %s; its job %s (%s) is released\n", v.Queue, v.Database, plaintext.Visible(v.JobID, ""), plaintext.Visible(outcome, ""))
}

// failedFirst returns the first job of a queue and how it failed, if it is that with the id.
func failedFirst(ctx context.Context, s *session, target contract.PauseTarget, id string) (*bus.QueuedJob, *contract.FailedJob, error) {
	where := "queue " + target.Queue + " of database " + target.Database
	m, err := ordered.First(ctx, s.conn, target.Database, target.Queue)
	if err == nil && m == nil {
		if err = known(ctx, s, target); err == nil {
			err = fmt.Errorf("%s is empty; nothing is to be released", where)
		}
	}
	if err != nil {
		return nil, nil, err
	}
	first, err := bus.ReadJob(ctx, s.conn, target.Database, m.Sequence)
	if err == nil && first == nil {
		err = fmt.Errorf("the first job of %s has just left it; nothing was released", where)
	}
	if err != nil {
		return nil, nil, err
	}
	if now := idOf(first); now != id && contract.DerivedID(first.Sequence, first.Timestamp) != id {
		return nil, nil, fmt.Errorf("%s is not the first job of %s: that is %s (sequence %d); nothing was released", id, where, now, first.Sequence)
	}
	failed, err := failureOf(ctx, s, target, first)
	if err == nil && failed == nil {
		err = fmt.Errorf("%s has no stored failure, so that %s does not wait for it; see runner job %s %s; nothing was released", id, where, target.Database, id)
	}
	return first, failed, err
}

// failureOf returns how a job failed that its ordered queue waits for; nil: it has not. Its result, or the runner that has it, shows that: a result
// expires, and a job that reused an id has none.
func failureOf(ctx context.Context, s *session, target contract.PauseTarget, job *bus.QueuedJob) (*contract.FailedJob, error) {
	for _, id := range []string{idOf(job), contract.DerivedID(job.Sequence, job.Timestamp)} {
		result, err := s.LatestResult(ctx, target.Database, id)
		if errors.Is(err, client.ErrNoResult) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if result.Sequence == job.Sequence && result.QueuedAt.Equal(job.Timestamp) && order.Stays(result.Status) {
			failed := &contract.FailedJob{Status: result.Status}
			if result.Error != nil {
				failed.Code = string(result.Error.Code)
			}
			return failed, nil
		}
	}
	running, err := s.Running(ctx, client.RunningOptions{Databases: []string{target.Database}})
	if err != nil {
		return nil, nil //nolint:nilerr // no runner answers: there is no proof
	}
	for i := range running.Jobs {
		if j := &running.Jobs[i]; j.State == contract.JobAwaitingResume && j.Sequence == job.Sequence && j.QueuedAt.Equal(job.Timestamp) {
			return &contract.FailedJob{Status: contract.Failed, Code: j.Code}, nil
		}
	}
	return nil, nil
}
