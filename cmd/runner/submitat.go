package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/schedule"
)

// later reports whether the job is to be published later.
func (f *submitFlags) later() bool { return f.at != "" || f.in != 0 }

// moment is when the job is to be published.
func (f *submitFlags) moment() (time.Time, error) {
	var at time.Time
	switch {
	case f.at != "" && f.in != 0:
		return at, errors.New("give either --at or --in")
	case f.id == "":
		return at, errors.New("--at and --in need --id: with it, submitting again schedules nothing more")
	case f.outputFlags.file != "":
		return at, errors.New("--output waits for the result, and --at and --in do not")
	case f.in < 0:
		return at, errors.New("--in must not be negative")
	case f.in > 0:
		return time.Now().Add(f.in).UTC(), nil
	}
	if err := at.UnmarshalText([]byte(f.at)); err != nil {
		return at, errors.New("--at is not a time with its zone; write one such as 2030-01-31T12:00:00Z")
	}
	if at.Before(time.Now()) {
		return at, errors.New("--at is over")
	}
	return at.UTC(), nil
}

// schedule stores the job as a one-time schedule, unless its id was used before.
func (f *submitFlags) schedule(cmd *cobra.Command, job *submission) error {
	at, err := f.moment()
	if err != nil {
		return usage(err)
	}
	kind, call, _ := strings.Cut(f.kind, ".")
	key := contract.ScheduleKey{Database: f.database, Queue: f.queue, Kind: kind, Call: call, Name: contract.OneTimeName(job.id)}
	if _, err := contract.ParseScheduleKey(key.String()); err != nil {
		return usage(err)
	}
	value, err := contract.EncodeSchedule(&contract.Schedule{At: &at, Job: json.RawMessage(job.body), Description: "job " + job.id})
	if err == nil {
		_, err = clientRules().Read(key, value, time.Now())
	}
	if err != nil {
		return usage(fmt.Errorf("the job cannot be scheduled: %w", err))
	}
	return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
		stored, err := createOnce(ctx, s, key, value, func() error { return f.recordSchedules(ctx, cmd, s, "created", []string{key.String()}) })
		if err != nil {
			return explainSchedules(s, err)
		}
		if stored != nil {
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "runner: the id %s was used before; nothing new was scheduled\n", job.id)
			at = *stored
		}
		if f.json {
			return printJSON(cmd.OutOrStdout(), map[string]any{"job_id": job.id, "schedule": key.String(), "at": at, "duplicate": stored != nil})
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  at %s  %s\n", job.id, at.Format(time.RFC3339), key)
		return err
	})
}

// createOnce stores the record of a one-time job, unless there is one: then it returns when that is due. It calls record once, before it
// stores anything.
func createOnce(ctx context.Context, s *session, key contract.ScheduleKey, value []byte, record func() error) (*time.Time, error) {
	store, recorded := schedules.New(s.conn), false
	for {
		_, last, err := store.ReadRecord(ctx, key.String(), 1)
		if err != nil {
			return nil, err
		}
		var expected uint64
		if last != nil {
			expected = last.Sequence
		}
		if last != nil && !last.Deleted {
			have, _, err := contract.ReadSchedule(last.Value)
			want, _, _ := contract.ReadSchedule(value) // it was read before
			if err != nil || have.At == nil || !schedule.SameAs(have.Job, want.Job) {
				return nil, &exitError{exitJob, errors.New("the id belongs to a different job, which is scheduled; use a new id")}
			}
			return have.At, nil
		}
		if !recorded {
			if err := record(); err != nil {
				return nil, err
			}
			recorded = true
		}
		if _, err := store.PutRecord(ctx, key.String(), value, expected); !errors.Is(err, schedules.ErrChanged) {
			return nil, err
		}
	}
}
