package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/bench/figures"
)

const latencyRate = 200 // jobs a second, whether they are answered or not

// latency is from the publish of a job to its answer at a subscriber, milliseconds.
type latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// measureLatency publishes point selects at a fixed rate, for each contender in turn, several times.
func (w *world) measureLatency(ctx context.Context, r *report) error {
	turns, jobs := 4, 5*latencyRate
	if w.opts.quick {
		turns, jobs = 2, 2*latencyRate
	}
	k := &works()[1]
	r.Latency = map[string]latency{}
	all := map[string][]time.Duration{}
	for turn := range turns {
		for _, c := range []contender{w.bare(), w.runner("stored"), w.runner("reply")} {
			times, err := w.openLoop(ctx, c, k, jobs)
			if err != nil {
				return fmt.Errorf("%s: %w", c.mode, err)
			}
			all[c.mode] = append(all[c.mode], times...)
			one := percentiles(times)
			progress("latency %d  %-8s p50 %.2f ms  p99 %.2f ms", turn+1, c.mode, one.P50, one.P99)
		}
	}
	for mode, times := range all {
		r.Latency[mode] = percentiles(times)
	}
	return nil
}

func percentiles(times []time.Duration) latency {
	slices.Sort(times)
	at := func(p int) float64 {
		return figures.Round(float64(times[(len(times)-1)*p/100].Microseconds())/1000, 1000)
	}
	return latency{P50: at(50), P99: at(99)}
}

// stopwatch holds when each job was published and answered.
type stopwatch struct {
	mu        sync.Mutex
	published []time.Time
	took      []time.Duration
	failed    error
	all       chan struct{}
}

func (s *stopwatch) answer(m *nats.Msg, k *work) {
	now := time.Now()
	n, err := numberOf(m.Subject)
	if err == nil {
		err = k.check(m.Data, n, nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = err
		return
	}
	s.took = append(s.took, now.Sub(s.published[n]))
	if len(s.took) == len(s.published) {
		close(s.all)
	}
}

// openLoop publishes jobs at the rate and returns how long each took. The first quarter of a second warms up.
func (w *world) openLoop(ctx context.Context, c contender, k *work, jobs int) (took []time.Duration, err error) {
	if err := w.reset(ctx, k.engine); err != nil {
		return nil, err
	}
	w.serial++
	warm := latencyRate / 4
	watch := &stopwatch{published: make([]time.Time, jobs+warm), all: make(chan struct{})}
	sub, err := w.nc.Subscribe(w.subjects(c, k), func(m *nats.Msg) { watch.answer(m, k) })
	if err != nil {
		return nil, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	p, err := c.start(k)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	wait(ctx, time.Second) // a runner has opened its connections by then
	begin := time.Now()
	for n := range jobs + warm {
		wait(ctx, time.Until(begin.Add(time.Duration(n)*time.Second/latencyRate)))
		id, reply := fmt.Sprintf("b%d_%d", w.serial, n), ""
		if !c.stored {
			reply = fmt.Sprintf("_INBOX.bench.%d.x_%d", w.serial, n)
		}
		body := k.job(nil, n, id, c.mode, reply)
		watch.mu.Lock()
		watch.published[n] = time.Now()
		watch.mu.Unlock()
		if _, err := w.js.PublishAsync(c.subject(k), body); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = p.await(ctx, watch.all)
	watch.mu.Lock()
	defer watch.mu.Unlock()
	if err = errors.Join(err, watch.failed); err != nil {
		return nil, err
	}
	return watch.took[warm:], nil
}
