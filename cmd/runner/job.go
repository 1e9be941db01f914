package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/jobs"
	"dbrunner/internal/plaintext"
)

const jobHelp = `Show where a job is: finished (with its stored result), running, or queued. The queue has no index of ids, so a job without a
result is searched for in its database's queue, message by message from the oldest, up to --scan messages.

Running means that the message was delivered to a runner and is not acknowledged: it runs, or will be redelivered. Runners are
asked which of them has it and since when (dbrunner.api.running.<database>). A job that is neither in the queue nor among
the results is looked for in the database's ledger (dbrunner.api.result.<database>.<id>); one that is not there either was
never published, or its result has expired.

Exit codes: 0 finished, with any status; 1 the job is unknown, or NATS refuses access; 5 queued or running; 78 the command
line is wrong.
` + clientHelp

type jobFlags struct {
	clientFlags
	scan int
	json bool
}

// jobView is where a job is.
type jobView struct {
	Database string          `json:"database"`
	JobID    string          `json:"job_id"`
	State    string          `json:"state"`           // finished, running, queued, unknown
	Queue    string          `json:"queue,omitempty"` // missing: it is in none
	Kind     string          `json:"kind,omitempty"`
	Status   contract.Status `json:"status,omitempty"`
	Sequence uint64          `json:"sequence,omitempty"`
	QueuedAt *time.Time      `json:"queued_at,omitempty"`
	Ahead    *int            `json:"ahead,omitempty"`   // older jobs in the queue, of all kinds
	Scanned  int             `json:"scanned,omitempty"` // messages of the queue that were read
	Result   json.RawMessage `json:"result,omitempty"`

	Running []client.RunningJob `json:"running,omitempty"` // on the runners that have it and answered
}

func newJob() *cobra.Command {
	f := &jobFlags{}
	cmd := &cobra.Command{
		Use:     "job DATABASE JOB-ID",
		Short:   "Show where a job is",
		Long:    jobHelp,
		Example: "  runner job shop pay-4711\n  runner job shop pay-4711 --json",
		Args:    arguments(2, 2),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.run(cmd, args[0], args[1]) },
	}
	cmd.Flags().IntVar(&f.scan, "scan", 10_000, "maximum number of queue messages to read")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd
}

func (f *jobFlags) run(cmd *cobra.Command, database, id string) error {
	if err := checkJob(database, id); err != nil {
		return err
	}
	if f.scan < 0 {
		return usage(errors.New("--scan must not be below zero"))
	}
	var v *jobView
	err := f.with(cmd.Context(), func(ctx context.Context, s *session) (err error) {
		v, err = f.find(ctx, s, database, id)
		return err
	})
	if err != nil {
		return err
	}
	code, text := exitTimeout, ""
	switch v.State {
	case "finished":
		code = exitOK
		text = fmt.Sprintf("finished: job %s of %s %s; runner result get %s %s", id, database, v.Status, database, id)
	case "running":
		text = fmt.Sprintf("running: job %s of %s (%s, sequence %d), queued at %s", id, database, v.Kind, v.Sequence, v.QueuedAt.Format(time.RFC3339))
		for i := range v.Running {
			text += "; " + runningText(&v.Running[i])
		}
	case "queued":
		text = fmt.Sprintf("queued: job %s of %s (%s, sequence %d), queued at %s, %d older jobs in the queue",
			id, database, v.Kind, v.Sequence, v.QueuedAt.Format(time.RFC3339), *v.Ahead)
	default:
		code = exitFailure
		where := fmt.Sprintf("is not among all %d queued jobs", v.Scanned)
		switch v.Scanned {
		case f.scan:
			where = fmt.Sprintf("is not among the first %d of the queue (--scan)", v.Scanned)
		case 0:
			where = "the queue is empty"
		}
		text = fmt.Sprintf("unknown: job %s of %s has no result, and %s", id, database, where)
	}
	return printOutcome(cmd.OutOrStdout(), f.json, v, plaintext.Visible(text, ""), code)
}

// checkJob checks the arguments that name a job.
func checkJob(database, id string) error {
	switch {
	case !contract.ValidName(database):
		return usage(errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -"))
	case !contract.ValidID(id) && !contract.IsDerivedID(id):
		return usage(errors.New("the job id is not 1 to 100 of A-Z a-z 0-9 _ -"))
	}
	return nil
}

// find looks for the result before and after the queue: a job that finishes meanwhile is in neither for no moment.
func (f *jobFlags) find(ctx context.Context, s *session, database, id string) (*jobView, error) {
	v := &jobView{Database: database, JobID: id}
	if done, err := v.finished(ctx, s); done || err != nil {
		return v, err
	}
	var found *bus.QueuedJob
	err := bus.ListJobs(ctx, s.conn, database, func(job *bus.QueuedJob) bool {
		if v.Scanned == f.scan {
			return false
		}
		v.Scanned++
		if idOf(job) == id {
			found = job
		}
		return found == nil
	})
	if err != nil {
		return nil, err
	}
	if done, err := v.finished(ctx, s); done || err != nil {
		return v, err
	}
	if found == nil {
		if r, err := s.recorded(ctx, database, id); err == nil {
			v.take(r)
			return v, nil
		}
		v.State = "unknown"
		return v, nil
	}
	ahead := v.Scanned - 1
	v.State, v.Queue, v.Kind, v.Sequence, v.QueuedAt, v.Ahead = "queued", found.Queue, found.Kind, found.Sequence, &found.Timestamp, &ahead
	lane := jobs.LaneOf(found.Kind)
	if found.Queue != "" {
		lane = contract.QueueConsumer(found.Queue)
	}
	delivered, err := bus.WasDelivered(ctx, s.conn, database, lane, found.Sequence)
	if delivered {
		v.State, v.Ahead = "running", nil
		v.findRunners(ctx, s)
	}
	return v, err
}

// findRunners asks the runners which of them has the job. Without an answer it is not known.
func (v *jobView) findRunners(ctx context.Context, s *session) {
	if !s.asks {
		return
	}
	all, err := s.Running(ctx, client.RunningOptions{Databases: []string{v.Database}})
	if err != nil {
		return
	}
	for i := range all.Jobs {
		if all.Jobs[i].Sequence == v.Sequence {
			v.Running = append(v.Running, all.Jobs[i])
		}
	}
}

// runningText describes a job in flight.
func runningText(j *client.RunningJob) string {
	since := j.Since
	if j.ExecutingSince != nil {
		since = *j.ExecutingSince
	}
	text := fmt.Sprintf("%s on %s since %s, delivery %d, attempt %d", j.State, j.Runner, since.Format(time.RFC3339), j.Deliveries, j.Attempts)
	if j.LeaseLost {
		text += " (lease lost)"
	}
	return text
}

func (v *jobView) finished(ctx context.Context, s *session) (bool, error) {
	r, err := s.LatestResult(ctx, v.Database, v.JobID)
	if errors.Is(err, client.ErrNoResult) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v.take(r)
	return true, nil
}

func (v *jobView) take(r *client.Result) {
	v.State, v.Result, v.Status, v.Scanned = "finished", r.Body, r.Status, 0
}

// idOf is the id of a job in the queue, as runners resolve it.
func idOf(job *bus.QueuedJob) string {
	var body struct {
		ID *string `json:"id"`
	}
	if json.Unmarshal(job.Body, &body) == nil && body.ID != nil && contract.ValidID(*body.ID) {
		return *body.ID
	}
	if header := job.Headers[contract.HeaderMessageID]; body.ID == nil && len(header) > 0 && contract.ValidID(header[0]) {
		return header[0]
	}
	return contract.DerivedID(job.Sequence, job.Timestamp)
}
