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
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	P999 float64 `json:"p999_ms"`
	Max  float64 `json:"max_ms"`
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
			o, err := w.openLoop(ctx, c, k, latencyRate, jobs)
			if err != nil {
				return fmt.Errorf("%s: %w", c.mode, err)
			}
			all[c.mode] = append(all[c.mode], o.took...)
			one := percentiles(o.took)
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
	at := func(permille int) float64 {
		return figures.Round(float64(times[(len(times)-1)*permille/1000].Microseconds())/1000, 1000)
	}
	return latency{P50: at(500), P99: at(990), P999: at(999), Max: at(1000)}
}

// stopwatch holds when each job was published and how long it took.
type stopwatch struct {
	mu        sync.Mutex
	published []time.Time
	took      []time.Duration // 0: not answered
	count     int
	failed    error
	all       chan struct{}
}

func newStopwatch(jobs int) *stopwatch {
	return &stopwatch{published: make([]time.Time, jobs), took: make([]time.Duration, jobs), all: make(chan struct{})}
}

func (s *stopwatch) publish(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.published[n] = time.Now()
}

func (s *stopwatch) answer(m *nats.Msg, k *work) {
	now := time.Now()
	n, err := numberOf(m.Subject)
	if err == nil {
		err = k.check(m.Data, n, nil)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err != nil:
	case n >= len(s.took) || s.published[n].IsZero():
		err = fmt.Errorf("an answer to job %d, which was not published", n)
	case s.took[n] != 0:
		err = fmt.Errorf("a second answer to job %d", n)
	}
	if s.failed != nil {
		return
	}
	if s.failed = err; err != nil {
		if s.count < len(s.took) {
			close(s.all)
		}
		return
	}
	s.took[n] = max(now.Sub(s.published[n]), 1)
	if s.count++; s.count == len(s.took) {
		close(s.all)
	}
}

func (s *stopwatch) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// openLoad is how jobs at a fixed rate went.
type openLoad struct {
	took   []time.Duration
	late   time.Duration // the longest that a job was published after its time
	sample figures.Sample
}

// openLoop publishes jobs at the rate, in a second, and returns how long each took. The first quarter of a second warms up.
func (w *world) openLoop(ctx context.Context, c contender, k *work, rate, jobs int) (o openLoad, err error) {
	if err := w.reset(ctx, k.engine); err != nil {
		return o, err
	}
	w.serial++
	warm := rate / 4
	watch := newStopwatch(jobs + warm)
	sub, err := w.nc.Subscribe(w.subjects(c, k), func(m *nats.Msg) { watch.answer(m, k) })
	if err != nil {
		return o, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		return o, err
	}
	ps, err := c.start(k)
	if err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, ps.Stop()) }()
	wait(ctx, time.Second) // a runner has opened its connections by then
	var before usage
	late, err := watch.pace(ctx, rate, func(n int) error {
		if n == warm {
			before = w.usage(ps)
		}
		if n > 0 && n%(progressEvery*rate) == 0 {
			progress("  published %d of %d jobs  %.0f MB", n, jobs+warm, figures.Megabytes(ps.Memory("VmRSS")))
		}
		return w.publishOne(ctx, c, k, n)
	})
	if err == nil {
		err = w.acknowledged(ctx)
	}
	if err != nil {
		return o, errors.Join(err, watch.failure())
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := errors.Join(ps.Await(waiting, watch.all, func() {}), watch.failure()); err != nil {
		return o, err
	}
	o = openLoad{took: watch.took[warm:], late: late, sample: w.usage(ps).since(before, jobs)}
	return o, w.settled(ctx, c, k, jobs+warm)
}

// pace publishes each job at its time, and returns how long one was published after its time, at most.
func (s *stopwatch) pace(ctx context.Context, rate int, publish func(n int) error) (late time.Duration, err error) {
	begin := time.Now()
	for n := range s.published {
		due := begin.Add(time.Duration(n) * time.Second / time.Duration(rate))
		wait(ctx, time.Until(due))
		late = max(late, time.Since(due))
		s.publish(n)
		if err := errors.Join(publish(n), s.failure()); err != nil {
			return late, err
		}
	}
	return late, nil
}
