package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/cron"
	"dbrunner/internal/jobs"
	"dbrunner/internal/schedule"
)

// scheduler fires the schedules of the runner's databases.
type scheduler struct {
	*schedule.Tracker
	r    *running
	news chan struct{}
}

// unreadableAfter is how long a bucket may be unreadable, as while its stream elects a leader, until that is reported.
const unreadableAfter = 5 * time.Second

func (r *running) newSchedules() *scheduler {
	s := &scheduler{r: r, news: make(chan struct{}, 1)}
	zones := cron.NewZones()
	rules := make(map[string]*schedule.Rules, len(r.databases))
	for _, d := range r.databases {
		rules[d.Name] = &schedule.Rules{Zones: zones, Check: d.checkScheduled}
		if d.Config.HasLedger() {
			rules[d.Name].Retention = d.Config.Ledger.Retention
		}
	}
	s.Tracker = schedule.New(schedule.Options{
		Records: schedules.Records(r.conn, time.Now), States: schedules.States(r.conn, time.Now), Store: schedules.New(r.conn),
		Databases: rules, Runner: r.cfg.Instance, Log: r.log.Named("schedules"), Link: r.conn.Link, News: s.news, Paused: r.schedulePaused,
		PausesKnown: r.pauses.Known,
		Now:         time.Now, Explain: s.explain,
	})
	return s
}

// run fires schedules until ctx ends.
func (s *scheduler) run(ctx context.Context) error {
	stop, err := schedules.Announced(s.r.conn, s.news)
	if err != nil {
		return err
	}
	defer stop()
	return s.Run(ctx)
}

// checkScheduled returns why the database's runners would reject a scheduled job; nil: they would not. Whether there is such a
// queue, the stream decides when the job is published.
func (d *database) checkScheduled(key contract.ScheduleKey, body []byte) error {
	_, rejection := d.executor.Decoder().Decode(&jobs.Message{
		Database: key.Database, Queue: key.Queue, Kind: key.Kind, Name: key.Call, Timestamp: time.Now(), Body: body,
	})
	if rejection == nil {
		return nil
	}
	return errors.New(rejection.Message())
}

// schedulePaused returns whether a schedule is paused, and by whom and why.
func (r *running) schedulePaused(key contract.ScheduleKey) (by string, paused bool) {
	name := contract.PauseKey(contract.PauseTarget{Database: key.Database, Schedule: key.String()})
	for _, p := range r.pauses.Of(key.Database) {
		if p.Key != name {
			continue
		}
		if p.By != "" {
			by = " by " + p.By
		}
		if p.Reason != "" {
			by += ": " + p.Reason
		}
		return by, true
	}
	return "", false
}

// explain returns why the buckets have not been read for some time; empty: it is not worth a report.
func (s *scheduler) explain(err error, since time.Duration) string {
	bucket := contract.SchedulesBucket(s.r.conn.Subjects())
	switch {
	case errors.Is(err, bus.ErrNotFound):
		return fmt.Sprintf("the bucket %s or %s is missing; runner topology apply creates it", bucket, s.r.conn.Subjects().StateBucket())
	case errors.Is(err, bus.ErrDenied):
		return fmt.Sprintf("NATS does not permit this runner to read the bucket %s or %s; grant the permissions (docs/security.md)", bucket, s.r.conn.Subjects().StateBucket())
	case since < unreadableAfter:
		return ""
	}
	return "the bucket " + bucket + " cannot be read: " + bus.ErrorText(err)
}
