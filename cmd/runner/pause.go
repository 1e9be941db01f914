package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/plaintext"
	"dbrunner/internal/report"
)

const pauseHelp = `Pause the jobs of a database, or with --queue those of one of its queues: from then on no runner starts one, until "runner
resume". Jobs that run finish; jobs that had started continue with further attempts. Migrations and health checks go on,
publishers publish as before, and the jobs wait in the stream. The pause lasts through restarts of runners and NATS.

The command waits up to 10 seconds until every runner of the database that sends heartbeats has confirmed the pause. With
--wait it then waits until no job runs any more. It needs an operator's permissions and "$KV.DBRUNNER_STATE.pause.<database>",
for a queue "$KV.DBRUNNER_STATE.pause.<database>.queue.<queue>".

Exit codes: 0 every runner has confirmed the pause, and with --wait nothing runs; 1 the pause is not stored, runners have not
confirmed it (they are named; the pause is stored), or jobs still run; 78 the command line is wrong.
` + clientHelp

// confirmTimeout is how long runners have to confirm a pause or its end.
const confirmTimeout = 10 * time.Second

type pauseFlags struct {
	clientFlags
	auditFlags
	queue    string // of the database, which is paused instead of it
	schedule string // that is paused instead of the database
	wait     time.Duration
	json     bool
}

func newPause() *cobra.Command {
	f := &pauseFlags{}
	cmd := &cobra.Command{
		Use:     "pause DATABASE --reason TEXT",
		Short:   "Pause the jobs of a database",
		Long:    pauseHelp,
		Example: "  runner pause shop --reason 'upgrade of the server'\n  runner pause shop --reason restore --wait 10m\n  runner pause shop --queue bulk --reason 'the reports are due'",
		Args:    arguments(1, 1),
		RunE:    func(cmd *cobra.Command, args []string) error { return f.pause(cmd, args[0]) },
	}
	cmd.Flags().StringVar(&f.queue, "queue", "", "queue of the database (default: all of its jobs)")
	f.addAudit(cmd, "who pauses, stored with the pause and in the audit entry (default: this user's name)", reasonFlag)
	cmd.Flags().Lookup(reasonFlag).Usage = "why, for everyone who waits (required)"
	cmd.Flags().DurationVar(&f.wait, "wait", 0, "then wait this long until no job runs")
	cmd.Flags().BoolVar(&f.json, "json", false, "print JSON")
	cmd.Flags().StringVar(&f.schedule, "schedule", "", "pause this schedule of the database instead, by its key")
	f.add(cmd)
	return cmd
}

// pauseView is what both commands print.
type pauseView struct {
	Database    string                `json:"database"`
	Queue       string                `json:"queue,omitempty"`    // that was paused or resumed instead of the database
	Schedule    string                `json:"schedule,omitempty"` // the same
	Paused      bool                  `json:"paused"`
	Pause       *contract.ActivePause `json:"pause,omitempty"`    // that was stored
	Replaced    *contract.ActivePause `json:"replaced,omitempty"` // that was in force before
	Confirmed   []string              `json:"confirmed"`          // runners
	Unconfirmed []string              `json:"unconfirmed"`
	Running     int                   `json:"running"` // jobs that had started
}

// target is what the flags name.
func (f *pauseFlags) target(database string) (contract.PauseTarget, error) {
	if !contract.ValidName(database) {
		return contract.PauseTarget{}, usage(errors.New("a database is 1 to 64 of A-Z a-z 0-9 _ -"))
	}
	switch {
	case f.queue != "" && f.schedule != "":
		return contract.PauseTarget{}, usage(errors.New("give either --queue or --schedule"))
	case f.queue != "" && !contract.ValidQueue(f.queue):
		return contract.PauseTarget{}, usage(errors.New("a queue is 1 to 64 of a-z 0-9 _"))
	case f.schedule == "":
		return contract.PauseTarget{Database: database, Queue: f.queue}, nil
	}
	key, err := contract.ParseScheduleKey(f.schedule)
	switch {
	case err != nil:
		return contract.PauseTarget{}, usage(fmt.Errorf("the key of a schedule: %w", err))
	case key.Database != database:
		return contract.PauseTarget{}, usage(fmt.Errorf("the schedule %s is one of the database %s", f.schedule, key.Database))
	case f.wait > 0:
		return contract.PauseTarget{}, usage(errors.New("--wait is for databases: a paused schedule publishes no jobs, and those that it has published run"))
	}
	return contract.PauseTarget{Database: database, Schedule: f.schedule}, nil
}

func (f *pauseFlags) pause(cmd *cobra.Command, database string) error {
	target, err := f.target(database)
	switch {
	case err != nil:
		return err
	case strings.TrimSpace(f.why) == "":
		return usage(errors.New("--reason is required: everyone who waits for the database sees it"))
	case f.wait < 0:
		return usage(errors.New("--wait must not be negative"))
	}
	record := contract.Pause{Reason: f.why, By: cmp.Or(f.by, thisUser())}
	if _, err := contract.EncodePause(record); err != nil {
		return usage(fmt.Errorf("the pause is not valid: %w", err))
	}
	return f.change(cmd, target, func(ctx context.Context, s *session, before *report.Pause) (*report.Pause, error) {
		entry := pauseEntry(contract.AuditPause, target, before)
		entry.After = map[string]string{"reason": record.Reason, "by": record.By}
		if err := f.record(ctx, cmd, s, entry); err != nil {
			return nil, err
		}
		return control.SetPause(ctx, s.conn, target, record)
	})
}

// pauseEntry is the audit entry about a pause, with the one that it replaces or ends.
func pauseEntry(action string, target contract.PauseTarget, before *report.Pause) *contract.AuditEntry {
	e := &contract.AuditEntry{Action: action, Database: target.Database}
	if target.Schedule != "" {
		e.Targets = []string{target.Schedule}
	}
	if target.Queue != "" {
		e.Targets = []string{"queue " + target.Queue}
	}
	if before != nil {
		e.Before = map[string]string{"reason": before.Reason, "by": before.By, "revision": strconv.FormatUint(before.Revision, 10)}
	}
	return e
}

// change stores a pause or ends one, and waits for the runners.
func (f *pauseFlags) change(cmd *cobra.Command, target contract.PauseTarget, store func(context.Context, *session, *report.Pause) (*report.Pause, error)) error {
	ctx, stop := context.WithTimeout(cmd.Context(), clientTimeout+confirmTimeout+f.wait)
	defer stop()
	s, err := f.connect(ctx, false)
	if err != nil {
		return err
	}
	defer s.close(ctx)
	bounded, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	before, err := control.ReadPause(bounded, s.conn, target)
	if err != nil {
		return explainPause(s, err)
	}
	if before == nil {
		if err := known(bounded, s, target); err != nil {
			return err
		}
	}
	pause, err := store(bounded, s, before)
	if err != nil {
		return explainPause(s, err)
	}
	view := &pauseView{Database: target.Database, Queue: target.Queue, Schedule: target.Schedule, Paused: pause != nil}
	if pause != nil {
		view.Pause = &pause.ActivePause
	}
	if before != nil {
		view.Replaced = &before.ActivePause
	}
	if !f.json {
		view.announce(cmd.OutOrStdout())
	}
	err = f.await(ctx, s, view, view.Pause)
	if f.json {
		return errors.Join(err, printJSON(cmd.OutOrStdout(), view))
	}
	if err == nil {
		view.conclude(cmd.OutOrStdout(), f.wait > 0)
	}
	return err
}

// explainPause adds what to do about an error of the bucket.
func explainPause(s *session, err error) error {
	bucket := s.conn.Subjects().StateBucket()
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return fmt.Errorf("the bucket %s is missing, so that nothing can be paused; runner topology apply creates it", bucket)
	case errors.Is(err, bus.ErrStreamFull):
		return fmt.Errorf("the bucket %s is full; raise topology.state.max_bytes and run runner topology apply: %w", bucket, err)
	}
	return err
}

// known refuses a database that has neither runners nor a stream of jobs, a queue that the stream does not have, and a schedule without a record.
func known(ctx context.Context, s *session, target contract.PauseTarget) error {
	if target.Schedule != "" {
		return explainSchedules(s, schedules.New(s.conn).Known(ctx, target.Schedule))
	}
	info, err := bus.StreamInfo(ctx, s.conn, s.conn.Subjects().JobsStream(target.Database))
	if err == nil && target.Queue != "" {
		return knownQueue(s, target, info.Config.Subjects)
	}
	if !errors.Is(err, bus.ErrNotFound) {
		return nil //nolint:nilerr // not permitted, for example: the runners' heartbeats show whether there is one
	}
	found, err := s.DatabaseHeartbeats(ctx, "")
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for i := range found {
		names[found[i].Database] = true
	}
	if names[target.Database] {
		return nil
	}
	text := "no runner sends heartbeats"
	if len(names) > 0 {
		text = "runners have " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	}
	return fmt.Errorf("there is no database %s here (%s); check the name and the namespace", target.Database, text)
}

// knownQueue refuses a queue for which a database's stream has no subject.
func knownQueue(s *session, target contract.PauseTarget, subjects []string) error {
	names := map[string]bool{}
	for _, subject := range subjects {
		if of, ok := s.conn.Subjects().SplitJob(subject); ok && of.Queue != "" {
			names[of.Queue] = true
		}
	}
	if names[target.Queue] {
		return nil
	}
	text := "it has none"
	if len(names) > 0 {
		text = "it has " + strings.Join(slices.Sorted(maps.Keys(names)), ", ")
	}
	return fmt.Errorf("the stream of database %s has no queue %s (%s); check the name, or run runner topology apply", target.Database, target.Queue, text)
}

// await waits until every runner has confirmed the pause, or none has one any more, and, with a time to wait, nothing runs.
func (f *pauseFlags) await(ctx context.Context, s *session, view *pauseView, pause *contract.ActivePause) error {
	started := time.Now()
	for {
		found, err := s.DatabaseHeartbeats(ctx, view.Database)
		if err != nil {
			return err
		}
		view.take(found, pause)
		switch waited := time.Since(started); {
		case len(view.Unconfirmed) > 0 && waited < confirmTimeout:
		case len(view.Unconfirmed) > 0:
			return fmt.Errorf("not confirmed within %s by %s: an earlier release, or without permissions (docs/security.md)",
				confirmTimeout, strings.Join(view.Unconfirmed, ", "))
		case pause == nil || view.Running == 0 || f.wait == 0:
			return nil
		case waited >= f.wait:
			return fmt.Errorf("paused, but %d jobs still run after %s; wait longer, or cancel them", view.Running, f.wait)
		}
		if !sleep(ctx, 100*time.Millisecond) {
			return context.Cause(ctx)
		}
	}
}

// take takes over what runners report.
func (v *pauseView) take(found []contract.DatabaseHeartbeat, pause *contract.ActivePause) {
	v.Confirmed, v.Unconfirmed, v.Running = []string{}, []string{}, 0
	for i := range found {
		h := &found[i]
		at := slices.IndexFunc(h.Pauses, func(p contract.ActivePause) bool { return p.Key == v.key() })
		if pause == nil && at >= 0 || pause != nil && (at < 0 || h.Pauses[at].Revision < pause.Revision) {
			v.Unconfirmed = append(v.Unconfirmed, h.Instance)
			continue
		}
		v.Confirmed = append(v.Confirmed, h.Instance)
		switch {
		case v.Queue != "" && at >= 0:
			v.Running += h.Pauses[at].Running
		case v.Queue == "" && h.Running != nil:
			v.Running += *h.Running
		}
	}
}

func (v *pauseView) key() string {
	return contract.PauseKey(contract.PauseTarget{Database: v.Database, Queue: v.Queue, Schedule: v.Schedule})
}

// what names what is paused.
func (v *pauseView) what() string {
	if v.Schedule != "" {
		return "schedule " + v.Schedule
	}
	if v.Queue != "" {
		return "queue " + v.Queue + " of database " + v.Database
	}
	return "database " + v.Database
}

func (v *pauseView) announce(w io.Writer) {
	switch {
	case v.Paused:
		_, _ = fmt.Fprintf(w, "paused: %s (revision %d)\n", v.what(), v.Pause.Revision)
		if v.Replaced != nil {
			_, _ = fmt.Fprintln(w, "it was "+pausedText(v.Replaced)+" before; that record is replaced")
		}
	case v.Replaced != nil:
		_, _ = fmt.Fprintln(w, "resumed: "+v.what()+", which was "+pausedText(v.Replaced))
	default:
		_, _ = fmt.Fprintln(w, v.what()+" is not paused")
	}
}

func (v *pauseView) conclude(w io.Writer, waited bool) {
	switch {
	case len(v.Confirmed) == 0:
		_, _ = fmt.Fprintln(w, "no runner of the database sends heartbeats; those that start obey")
	case v.Paused && waited:
		_, _ = fmt.Fprintln(w, "confirmed by "+strings.Join(v.Confirmed, ", ")+"; nothing runs")
	case v.Paused && v.Running > 0:
		_, _ = fmt.Fprintf(w, "confirmed by %s; %d jobs still run\n", strings.Join(v.Confirmed, ", "), v.Running)
	default:
		_, _ = fmt.Fprintln(w, "confirmed by "+strings.Join(v.Confirmed, ", "))
	}
}

func pausedText(p *contract.ActivePause) string {
	text := "paused"
	if p.By != "" {
		text += " by " + plaintext.Visible(p.By, "")
	}
	if p.Reason != "" {
		text += ": " + plaintext.Visible(p.Reason, "")
	}
	return text
}
