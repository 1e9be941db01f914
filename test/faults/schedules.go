package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
	"dbrunner/test/faults/check"
)

// scheduling is a schedule of a run. Its jobs have the labels and the effects of one request.
type scheduling struct {
	request *check.Request
	key     string
	job     body
	every   time.Duration // 0: it fires once, half way
	overlap string
	edited  bool // its record is put again half way, with another job
}

// addSchedules adds the schedules of a run. When its time is over, they are paused for good; one is paused before as well.
func addSchedules(p *planner, calm bool) {
	list := []scheduling{
		{key: "jobs.shop.transaction.regular", every: time.Second, overlap: contract.OverlapAllow},
		{key: "jobs.edge.transaction.careful", every: time.Second, overlap: contract.OverlapSkip},
		{key: "jobs.shop.transaction.edited", every: time.Second, overlap: contract.OverlapAllow, edited: true},
		{key: "queues.shop." + bulk + ".transaction.in_turn", every: time.Second, overlap: contract.OverlapAllow},
		{key: "jobs.shop.call.pay.paying", every: time.Second, overlap: contract.OverlapAllow},
		{key: "jobs.shop.transaction.closing"},
	}
	if p.home == depot {
		list = depotSchedules()
	}
	for _, s := range list {
		of, err := contract.ParseScheduleKey(s.key)
		if err != nil {
			panic(err) // they are listed above
		}
		s.request = &check.Request{
			Name: of.Name, Class: "scheduled", Database: of.Database, Queue: of.Queue, Kind: of.Kind, Call: of.Call, Effect: check.ExactlyOnce, Rows: 1,
			Statuses: []string{check.Succeeded, check.Expired}, Schedule: s.key, Every: s.every,
		}
		p.requests[s.request.Name] = s.request
		s.job = body{"statements": []body{effect(of.Name, 0, 0, 0)}}
		if of.Call != "" {
			s.job = body{"params": payment(p, of.Name)}
		}
		p.schedules = append(p.schedules, &s)
		target := contract.PauseTarget{Database: s.request.Database, Schedule: s.key}
		pauses := []pausing{{at: p.length, target: target}}
		if s.overlap == contract.OverlapSkip && !calm {
			pauses = slices.Insert(pauses, 0, pausing{at: p.when() / 3, target: target, length: pauseLength})
		}
		p.acts = append(p.acts, act{what: "schedule", schedule: &s}, act{at: pauses[0].at, what: "pause", pauses: pauses})
	}
}

// record is the record of the schedule in a run that starts at a time.
func (s *scheduling) record(started time.Time, length time.Duration, edited bool) ([]byte, error) {
	labels := body{"request": s.request.Name}
	if edited {
		labels["edited"] = "yes"
	}
	job := maps.Clone(s.job)
	job["labels"] = labels
	record := body{"job": job, "catch_up": "30s"}
	if s.overlap != "" {
		record["overlap"] = s.overlap
	}
	if s.every > 0 {
		record["every"] = s.every.String()
	} else {
		record["at"] = started.Add(length / 2).UTC().Format(time.RFC3339)
	}
	return json.Marshal(record)
}

// schedule creates the record of a schedule, and edits it half way.
func (c *clients) schedule(ctx context.Context, s *scheduling) {
	started, length := c.r.started, c.r.opts.length
	put := func(edited bool, store func(context.Context, jetstream.KeyValue, []byte) error) {
		value, err := s.record(started, length, edited)
		if err != nil {
			panic(err) // maps of texts
		}
		c.inBucket(ctx, "SCHEDULES", func(ctx context.Context, bucket jetstream.KeyValue) error { return store(ctx, bucket, value) })
	}
	put(false, func(ctx context.Context, bucket jetstream.KeyValue, value []byte) error {
		_, err := bucket.Create(ctx, s.key, value)
		if errors.Is(err, jetstream.ErrKeyExists) {
			return nil
		}
		return err
	})
	if s.edited && wait(ctx, time.Until(started.Add(length/2))) == nil {
		put(true, func(ctx context.Context, bucket jetstream.KeyValue, value []byte) error {
			_, err := bucket.Put(ctx, s.key, value)
			return err
		})
	}
}

// inBucket does something with a bucket, again until it succeeds.
func (c *clients) inBucket(ctx context.Context, what string, do func(context.Context, jetstream.KeyValue) error) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		bucket, err := c.r.js.KeyValue(bounded, c.r.bucket(what))
		if err == nil {
			err = do(bounded, bucket)
		}
		cancel()
		if err == nil {
			return
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
}

// readSchedules reads the records and the states of the run's schedules, as a user would.
func readSchedules(ctx context.Context, r *round) (list []check.Schedule, err error) {
	records, err := r.js.KeyValue(ctx, r.bucket("SCHEDULES"))
	if err != nil {
		return nil, fmt.Errorf("the bucket of schedules: %w", err)
	}
	states, err := r.js.KeyValue(ctx, r.bucket("STATE"))
	if err != nil {
		return nil, fmt.Errorf("the bucket of states: %w", err)
	}
	for _, s := range r.plan.schedules {
		out := check.Schedule{Request: s.request.Name, IDs: tickIDs(s.key, s.request.Name)}
		entries, err := records.History(ctx, s.key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue // no client could create it
		}
		if err != nil {
			return nil, fmt.Errorf("the record of %s: %w", s.key, err)
		}
		for _, e := range entries {
			out.Records = append(out.Records, e.Created())
		}
		state, err := states.Get(ctx, "schedule."+s.key)
		if err == nil {
			err = json.Unmarshal(state.Value(), &out.State)
		}
		if err != nil && !errors.Is(err, jetstream.ErrKeyNotFound) { // no runner has fired it
			return nil, fmt.Errorf("the state of %s: %w", s.key, err)
		}
		list = append(list, out)
	}
	return list, nil
}

// tickIDs is what the ids of a schedule's jobs start with; the time of the tick follows.
func tickIDs(key, name string) string {
	sum := sha256.Sum256([]byte(key))
	return name + "-" + hex.EncodeToString(sum[:])[:12] + "-"
}

// unsettledSchedules counts the schedules that may still publish a job: they were paused at the end, and have not passed the time of that.
func unsettledSchedules(ctx context.Context, r *round) (n uint64) {
	list, err := readSchedules(ctx, r)
	if err != nil {
		return 1
	}
	ended := r.clients.schedulesEnded()
	if r.works("clock_skew") { // runners whose clocks are wrong settle nothing
		if ended.IsZero() || time.Since(ended) < pauseBound+3*r.clients.slowest(ended) {
			return 1
		}
		return 0
	}
	for _, s := range list {
		over := s.State.Status == "finished" || !ended.IsZero() && s.State.Position.After(ended.Add(pauseBound+3*r.clients.slowest(ended)))
		if s.State.Claim != nil || !over {
			n++
		}
	}
	return n
}

// tickPublications are the jobs that the schedules may have published, one for each tick that was due.
func tickPublications(h *check.History) (list []check.Publication) {
	for i := range h.Schedules {
		s := &h.Schedules[i]
		for _, tick := range s.Ticks(h.Requests[s.Request].Every) {
			list = append(list, check.Publication{Request: s.Request, ID: s.ID(tick), From: tick, Until: tick})
		}
	}
	return list
}
