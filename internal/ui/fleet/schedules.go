package fleet

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/cron"
)

const (
	schedulesWhole = time.Minute // everything is read again, so that what was purged is gone
	schedulesBytes = 64 << 20    // of records or states in one reading
	nextTicks      = 5           // that are shown
)

// Schedule is a schedule as the buckets have it.
type Schedule struct {
	Key    contract.ScheduleKey
	Record *contract.Schedule      // nil: it cannot be read
	State  *contract.ScheduleState // nil: no runner has taken it up
	Pause  *contract.ActivePause   // nil: it is not paused
	Status string                  // active, finished, error, paused or new
	Error  string

	job      contract.ScheduleJob
	revision uint64
}

// Times is when it fires, as its record has it.
func (s *Schedule) Times() string {
	if s.Record == nil {
		return ""
	}
	return s.Record.Times()
}

// Next returns the next ticks by its state; none if it does not fire.
func (s *Schedule) Next() (out []time.Time) {
	if s.State == nil || s.State.Status != contract.ScheduleActive {
		return nil
	}
	times := s.times()
	for at := s.State.Position; times != nil && len(out) < nextTicks; {
		next, found := times.Next(at)
		if !found {
			break
		}
		out, at = append(out, next), next
	}
	return out
}

// Job returns its job to be published once, now, under an id that ends in a word. The error is why it cannot be.
func (s *Schedule) Job(word string, now time.Time) (*client.Job, error) {
	if s.Record == nil || s.Status == contract.ScheduleInError {
		return nil, fmt.Errorf("the schedule cannot be used: %s", s.Error)
	}
	body, err := contract.ParseBody(s.Record.Job)
	if err != nil {
		return nil, err
	}
	id := s.Key.TaggedID(word)
	body = body.Without("expires_in").With("expires_at", s.Record.ExpiresAt(now, s.job).Format(time.RFC3339)).With("id", id)
	return &client.Job{Database: s.Key.Database, Queue: s.Key.Queue, Kind: s.Key.Kind, Name: s.Key.Call, ID: id, Body: body.Bytes()}, nil
}

// times are the times in force; nil: they cannot be read.
func (s *Schedule) times() *cron.Times {
	var times cron.Times
	switch every, err := time.ParseDuration(s.State.Every); {
	case s.State.Cron != "":
		zone, err := cron.NewZones().Load(s.State.TimeZone)
		if err != nil {
			return nil
		}
		if times, err = cron.Parse(s.State.Cron, zone); err != nil {
			return nil
		}
	case s.State.Every != "" && err == nil && every > 0:
		times = cron.Every(every, s.State.Anchor)
	case s.State.At != nil:
		times = cron.At(*s.State.At)
	default:
		return nil
	}
	return &times
}

// Schedules are the schedules of each database that was asked for, read while pages are open: all of them once, then what is new.
type Schedules struct {
	Source *Source
	all    kept[schedulesOf]
}

// schedulesOf are those of a database.
type schedulesOf struct {
	mu      sync.Mutex
	records bucket // by key
	states  bucket
	pauses  bucket
}

// bucket is a part of a key-value bucket.
type bucket struct {
	values  map[string]client.Message // the last one of each key
	next    uint64                    // the first sequence that was not read
	created time.Time
	whole   time.Time
}

// Of returns the schedules of a database by name.
func (s *Schedules) Of(ctx context.Context, database string) ([]Schedule, error) {
	d := s.all.of(database)
	d.mu.Lock()
	defer d.mu.Unlock()
	records, state := contract.SchedulesBucket(s.Source.Subjects), s.Source.Subjects.StateBucket()
	if err := s.read(ctx, &d.records, records, "*."+database+".>"); err != nil {
		return nil, err
	}
	if err := s.read(ctx, &d.states, state, contract.ScheduleStateKey("*."+database+".>")); err != nil {
		return nil, err
	}
	if err := s.read(ctx, &d.pauses, state, contract.PauseKey(contract.PauseTarget{Database: database, Schedule: ">"})); err != nil {
		return nil, err
	}
	var out []Schedule
	for name := range d.records.values {
		if one, ok := d.schedule(name); ok {
			out = append(out, one)
		}
	}
	slices.SortFunc(out, func(a, b Schedule) int { return strings.Compare(a.Key.String(), b.Key.String()) })
	return out, nil
}

// schedule joins what the buckets have of a key.
func (d *schedulesOf) schedule(name string) (Schedule, bool) {
	stored := d.records.values[name]
	if deleted(&stored) {
		return Schedule{}, false
	}
	key, err := contract.ParseScheduleKey(name)
	if err != nil {
		return Schedule{}, false
	}
	one := Schedule{Key: key, Status: "new", revision: stored.Sequence}
	if one.Record, one.job, err = contract.ReadSchedule(stored.Data); err != nil {
		one.Record, one.Status, one.Error = nil, contract.ScheduleInError, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	if m, ok := d.states.values[contract.ScheduleStateKey(name)]; ok && !deleted(&m) {
		one.State, _ = contract.ReadScheduleState(m.Data) // one of a later version is left alone
	}
	if s := one.State; s != nil && s.Record.Revision == one.revision {
		one.Status, one.Error = s.Status, s.Error
	}
	target := contract.PauseTarget{Database: key.Database, Schedule: name}
	if m, ok := d.pauses.values[contract.PauseKey(target)]; ok && !deleted(&m) {
		record, _ := contract.ReadPause(m.Data) // what cannot be read pauses as well
		one.Pause = &contract.ActivePause{Key: contract.PauseKey(target), Revision: m.Sequence, Reason: record.Reason, By: record.By}
		if one.Status != contract.ScheduleInError {
			one.Status = contract.DatabasePaused
		}
	}
	return one, true
}

func deleted(m *client.Message) bool {
	operation := m.Headers.Get("KV-Operation")
	return operation != "" && operation != "PUT"
}

// read takes over what is new in a part of a bucket.
func (s *Schedules) read(ctx context.Context, b *bucket, name, keys string) error {
	stream, prefix := "KV_"+name, "$KV."+name+"."
	info, err := s.Source.Info(ctx, stream, struct{}{})
	if err != nil {
		return err
	}
	now := s.Source.Now()
	if b.values == nil || !info.Created.Equal(b.created) || info.State.LastSeq+1 < b.next || now.Sub(b.whole) > schedulesWhole {
		*b = bucket{values: map[string]client.Message{}, created: info.Created, whole: now}
	}
	if info.State.LastSeq < b.next {
		return nil
	}
	next := b.next
	request := client.MessagesRequest{Stream: stream, Subject: prefix + keys, From: next, MaxBytes: schedulesBytes}
	err = s.Source.Messages(ctx, request, func(m *client.Message) error {
		b.values[strings.TrimPrefix(m.Subject, prefix)] = *m
		next = m.Sequence + 1
		return nil
	})
	if err != nil {
		b.values = nil // half of it means nothing
		return err
	}
	b.next = max(next, info.State.LastSeq+1)
	return nil
}
