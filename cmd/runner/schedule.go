package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/cron"
	"dbrunner/internal/manager"
	"dbrunner/internal/schedule"
)

const scheduleHelp = `Manage schedules: records in the bucket DBRUNNER_SCHEDULES by which runners publish jobs at set times (docs/flow.md).

The key of a schedule is the subject of its jobs after the namespace, and its name: jobs.<database>.<kind>.<name>. A permission
to write keys is a permission for jobs of these subjects.
`

func newSchedule() *cobra.Command {
	cmd := &cobra.Command{Use: "schedule", Short: "Manage schedules: apply, ls, show, rm, run, pause, resume", Long: scheduleHelp}
	cmd.AddCommand(newScheduleApply(), newScheduleLs(), newScheduleShow(), newScheduleRm(), newScheduleRun(), newSchedulePause(), newScheduleResume())
	return cmd
}

type scheduleFlags struct {
	clientFlags
	auditFlags
	json bool
}

// recordSchedules writes the audit entries of what a command is about to do with schedules, one for each database.
func (f *auditFlags) recordSchedules(ctx context.Context, cmd *cobra.Command, s *session, what string, keys []string) error {
	byDatabase := map[string][]string{}
	for _, key := range keys {
		byDatabase[databaseOf(key)] = append(byDatabase[databaseOf(key)], key)
	}
	for _, database := range slices.Sorted(maps.Keys(byDatabase)) {
		entry := &contract.AuditEntry{
			Action: contract.AuditSchedule, Database: database, Targets: byDatabase[database], After: map[string]string{"change": what},
		}
		if err := f.record(ctx, cmd, s, entry); err != nil {
			return err
		}
	}
	return nil
}

// runSchedule is what a command for schedules does once it is connected.
type runSchedule func(ctx context.Context, cmd *cobra.Command, s *session, args []string, f *scheduleFlags) error

// reading is a command for schedules that changes nothing.
func reading(use, short, long, example string, args cobra.PositionalArgs, run runSchedule) *cobra.Command {
	cmd, _ := scheduleCommand(use, short, long, example, args, run)
	return cmd
}

// acting is a command for schedules that acts, after an audit entry.
func acting(use, short, long, example string, args cobra.PositionalArgs, run runSchedule) *cobra.Command {
	cmd, f := scheduleCommand(use, short, long, example, args, run)
	f.addAudit(cmd, byUsage, reasonFlag)
	return cmd
}

func scheduleCommand(use, short, long, example string, args cobra.PositionalArgs, run runSchedule) (*cobra.Command, *scheduleFlags) {
	f := &scheduleFlags{}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + clientHelp, Example: example, Args: args,
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd.Context(), func(ctx context.Context, s *session) error {
				return explainSchedules(s, run(ctx, cmd, s, args, f))
			})
		},
	}
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	f.add(cmd)
	return cmd, f
}

// explainSchedules adds what to do about an error of a bucket.
func explainSchedules(s *session, err error) error {
	subjects := s.conn.Subjects()
	switch {
	case errors.Is(err, bus.ErrNotFound), errors.Is(err, bus.ErrNoStream):
		return fmt.Errorf("the bucket %s or %s is missing, so that nothing can be scheduled; runner topology apply creates it",
			contract.SchedulesBucket(subjects), subjects.StateBucket())
	case errors.Is(err, bus.ErrStreamFull):
		return fmt.Errorf("the bucket %s is full; raise topology.schedules.max_bytes and run runner topology apply: %w", contract.SchedulesBucket(subjects), err)
	case errors.Is(err, schedules.ErrChanged):
		return fmt.Errorf("the schedule was changed by another command in the same moment; run the command again: %w", err)
	}
	return err
}

// clientRules are the rules of schedules that a command knows: not those of the database's configuration.
func clientRules() *schedule.Rules {
	return &schedule.Rules{Zones: cron.NewZones(), Check: func(key contract.ScheduleKey, body []byte) error {
		return manager.CheckJob(key.Database, key.Kind, key.Call, body)
	}}
}

func listSchedules(ctx context.Context, s *session) ([]schedule.Listed, error) {
	return schedule.List(ctx, schedules.Records(s.conn, time.Now), schedules.States(s.conn, time.Now), schedules.Pauses(s.conn, time.Now))
}

// findSchedule returns one schedule.
func findSchedule(ctx context.Context, s *session, key string) (*schedule.Listed, error) {
	if _, err := contract.ParseScheduleKey(key); err != nil {
		return nil, usage(fmt.Errorf("the key of a schedule: %w", err))
	}
	all, err := listSchedules(ctx, s)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Key == key && all[i].Record.Exists {
			return &all[i], nil
		}
	}
	return nil, fmt.Errorf("there is no schedule %s; runner schedule ls lists them", key)
}

func newScheduleLs() *cobra.Command {
	return reading("ls [DATABASE]", "List schedules", "List the schedules of a database, or of all of them.\n",
		"  runner schedule ls shop", arguments(0, 1),
		func(ctx context.Context, cmd *cobra.Command, s *session, args []string, f *scheduleFlags) error {
			all, err := listSchedules(ctx, s)
			if err != nil {
				return err
			}
			views := []scheduleView{}
			for i := range all {
				if !all[i].Record.Exists || len(args) > 0 && databaseOf(all[i].Key) != args[0] {
					continue
				}
				views = append(views, viewSchedule(&all[i]))
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), views)
			}
			rows := [][]string{{"SCHEDULE", "TIMES", "STATUS", "NEXT", "LAST FIRED", "FIRED", "MISSED", "SKIPPED", "UNCONFIRMED"}}
			for i := range views {
				rows = append(rows, views[i].row())
			}
			return table(cmd.OutOrStdout(), "", rows)
		})
}

func databaseOf(key string) string {
	tokens := strings.Split(key, ".")
	if len(tokens) < 2 {
		return ""
	}
	return tokens[1]
}

func newScheduleRm() *cobra.Command {
	return acting("rm KEY...", "Remove schedules", "Remove schedules. Jobs that they have published go on.\n",
		"  runner schedule rm jobs.shop.query.nightly_report", arguments(1, 1000),
		func(ctx context.Context, cmd *cobra.Command, s *session, args []string, f *scheduleFlags) error {
			var errs []error
			found := make([]*schedule.Listed, len(args))
			for i, key := range args {
				l, err := findSchedule(ctx, s, key)
				found[i], errs = l, append(errs, err)
			}
			if err := errors.Join(errs...); err != nil {
				return err
			}
			if err := f.recordSchedules(ctx, cmd, s, "removed", args); err != nil {
				return err
			}
			for _, l := range found {
				if _, err := schedules.New(s.conn).RemoveRecord(ctx, l.Key, l.Record.Revision); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", l.Key, explainSchedules(s, err)))
					continue
				}
				_, _ = fmt.Fprintln(cmd.OutOrStdout(), "removed "+l.Key)
			}
			return errors.Join(errs...)
		})
}

const scheduleRunHelp = `Publish the job of a schedule once, now, whether or not it is paused. It does not change when the schedule fires. The job gets an
id of its own, which is printed, and expires after the schedule's catch_up.

The command needs permission to publish the job: dbrunner.jobs.<database>.<kind>, of a queue dbrunner.queues.<database>.<queue>.<kind>.
`

func newScheduleRun() *cobra.Command {
	return acting("run KEY", "Publish the job of a schedule now", scheduleRunHelp,
		"  runner schedule run jobs.shop.query.nightly_report", arguments(1, 1),
		func(ctx context.Context, cmd *cobra.Command, s *session, args []string, f *scheduleFlags) error {
			l, err := findSchedule(ctx, s, args[0])
			if err != nil {
				return err
			}
			id, err := contract.ParseScheduleKey(l.Key)
			if err != nil {
				return err
			}
			d, err := clientRules().Read(id, l.Record.Value, l.Record.Stored)
			if err != nil {
				return fmt.Errorf("the schedule cannot be used: %w", err)
			}
			if err := f.recordSchedules(ctx, cmd, s, "run", args); err != nil {
				return err
			}
			jobID := id.TaggedID(strings.ToLower(rand.Text())) // chosen once: publishing again has no second effect
			sequence, err := publishScheduled(ctx, s, d, jobID)
			if err != nil {
				return err
			}
			if f.json {
				return printJSON(cmd.OutOrStdout(), map[string]any{"job_id": jobID, "sequence": sequence})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  sequence %d\n", jobID, sequence)
			return err
		})
}

// publishScheduled publishes a schedule's job under an id until the stream has it.
func publishScheduled(ctx context.Context, s *session, d *schedule.Definition, jobID string) (uint64, error) {
	body := d.Body(jobID, d.Record.ExpiresAt(time.Now(), d.Job))
	for attempt := 0; ; attempt++ {
		sequence, err := schedules.New(s.conn).Publish(ctx, d.Key, contract.ScheduleMessageID(jobID), body)
		if refused, ok := errors.AsType[*schedules.RefusedError](err); err == nil || ok {
			if ok {
				err = fmt.Errorf("not published: %w", refused)
			}
			return sequence, err
		}
		if waitErr := bus.Pause(ctx, bus.Backoff(attempt, 100*time.Millisecond, time.Second)); waitErr != nil {
			return 0, errors.Join(waitErr, err)
		}
	}
}

func newSchedulePause() *cobra.Command {
	return pauseOfSchedule(newPause(), "pause KEY --reason TEXT", "Pause a schedule",
		"Pause a schedule: its ticks are counted as skipped until it is resumed. Jobs that it has published go on.\n",
		"  runner schedule pause jobs.shop.query.nightly_report --reason 'wrong figures'")
}

func newScheduleResume() *cobra.Command {
	return pauseOfSchedule(newResume(), "resume KEY", "End the pause of a schedule", "End the pause of a schedule. Its next tick fires.\n",
		"  runner schedule resume jobs.shop.query.nightly_report")
}

// pauseOfSchedule makes a command for databases one for a schedule, named by its key alone.
func pauseOfSchedule(cmd *cobra.Command, use, short, long, example string) *cobra.Command {
	run := cmd.RunE
	cmd.Use, cmd.Short, cmd.Long, cmd.Example = use, short, long+clientHelp, example
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := cmd.Flags().Set("schedule", args[0]); err != nil {
			return err
		}
		id, err := contract.ParseScheduleKey(args[0])
		if err != nil {
			return usage(fmt.Errorf("the key of a schedule: %w", err))
		}
		return run(cmd, []string{id.Database})
	}
	for _, name := range []string{"schedule", "wait", "queue", "job"} {
		_ = cmd.Flags().MarkHidden(name) // fails only without the flag: resume has no wait
	}
	return cmd
}
