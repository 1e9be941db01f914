package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/bench/figures"
	"dbrunner/bench/process"
)

const (
	// drainTime bounds one backlog, from its first job to its last answer, with drainTimePerJob.
	drainTime       = 15 * time.Minute
	drainTimePerJob = time.Millisecond
	// progressEvery is how many seconds, or how many jobs of a backlog that is published, a line of progress stands for.
	progressEvery = 30
	publishedEach = 1_000_000
)

// contender drains backlogs: the bare worker, or the runner in one mode.
type contender struct {
	mode    string
	subject func(w *work) string
	stored  bool // answers come from the results stream, otherwise they are replies
	runners int  // that share the backlog, each with answers of its own; 0: it does not matter who answers
	start   func(w *work) (process.List, error)
}

func (w *world) bare() contender {
	return contender{
		mode: "bare", subject: func(*work) string { return "bare.jobs" },
		start: func(k *work) (process.List, error) { return process.One(w.startBare(k.engine)) },
	}
}

// bareJetStream answers without a database.
func (w *world) bareJetStream() contender {
	return contender{
		mode: "raw-jetstream", subject: func(*work) string { return "bare.jobs" },
		start: func(*work) (process.List, error) { return process.One(w.startBare("none")) },
	}
}

func (w *world) runner(mode string) contender {
	return contender{
		mode: mode, stored: mode != "reply",
		subject: func(k *work) string { return "dbrunner.jobs." + k.engine + "." + k.kind },
		start:   func(k *work) (process.List, error) { return process.One(w.startRunner(k.engine)) },
	}
}

// drain fills a backlog, starts the worker and takes the time from the tenth part of the answers to the last.
func (w *world) drain(ctx context.Context, c contender, k *work, jobs int) (s figures.Sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTime+time.Duration(jobs)*drainTimePerJob)
	defer cancel()
	if err := w.reset(ctx, k.engine); err != nil {
		return s, err
	}
	w.serial++
	a, sub, err := subscribe(w.nc, w.subjects(c, k), newAnswers(k, jobs, jobs/10, c.runners))
	if err != nil {
		return s, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.publish(ctx, c, k, jobs); err != nil {
		return s, err
	}
	ps, err := c.start(k)
	if err != nil {
		return s, err
	}
	s, err = w.clock(ctx, ps, a)
	if err == nil {
		err = w.settled(ctx, c, k, jobs)
	}
	return s, errors.Join(err, ps.Stop())
}

// subjects are where a contender's answers come.
func (w *world) subjects(c contender, k *work) string {
	if c.stored {
		return "dbrunner.results." + k.engine + ".*"
	}
	return fmt.Sprintf("_INBOX.bench.%d.*", w.serial)
}

// publish fills the backlog. Only the last jobs' acknowledgements are waited for, but each counts.
func (w *world) publish(ctx context.Context, c contender, k *work, jobs int) error {
	for n := range jobs {
		if err := w.publishOne(ctx, c, k, n); err != nil {
			return err
		}
		if (n+1)%publishedEach == 0 {
			progress("  published %d of %d jobs", n+1, jobs)
		}
	}
	return w.acknowledged(ctx)
}

func (w *world) publishOne(ctx context.Context, c contender, k *work, n int) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	id, reply := fmt.Sprintf("b%d_%d", w.serial, n), ""
	if !c.stored {
		reply = fmt.Sprintf("_INBOX.bench.%d.x_%d", w.serial, n)
	}
	_, err := w.js.PublishAsync(c.subject(k), k.job(nil, n, id, c.mode, reply), jetstream.WithStallWait(time.Minute))
	return err
}

// usage is what processes have used until a moment.
type usage struct {
	worker, nats, postgres time.Duration // CPU
	memory, peak           int64         // of the worker
}

func (w *world) usage(ps process.List) usage {
	return usage{
		worker: ps.CPU(), nats: w.nats.CPU(), postgres: process.CPUOf(w.postgres.PID(), true), memory: ps.Memory("VmRSS"), peak: ps.Memory("VmHWM"),
	}
}

// since is what some jobs have used since an earlier moment.
func (u usage) since(before usage, jobs int) figures.Sample {
	per := func(now, before time.Duration) float64 { return float64((now - before).Microseconds()) / float64(jobs) }
	return figures.Sample{
		Worker: per(u.worker, before.worker), NATS: per(u.nats, before.nats), Postgres: per(u.postgres, before.postgres),
		Begin: before.memory, End: u.memory, Peak: u.peak,
	}
}

func (w *world) clock(ctx context.Context, ps process.List, a *answers) (s figures.Sample, err error) {
	seconds := 0
	tick := func() {
		if seconds++; seconds%progressEvery == 0 {
			progress("  %d of %d jobs answered  %.0f MB", a.answered(), a.total, figures.Megabytes(ps.Memory("VmRSS")))
		}
	}
	if err := ps.Await(ctx, a.started, tick); err != nil {
		return s, errors.Join(err, a.failure())
	}
	before := w.usage(ps)
	if err := ps.Await(ctx, a.ended, tick); err != nil {
		return s, errors.Join(err, a.failure())
	}
	if err := a.failure(); err != nil {
		return s, err
	}
	s = w.usage(ps).since(before, a.total-a.warm)
	s.Rate = a.rate()
	s.Least, s.Most = a.shares()
	return s, nil
}

// settled checks what a drained backlog leaves: no job, one stored result each, the effects of each once.
func (w *world) settled(ctx context.Context, c contender, k *work, jobs int) error {
	stream := bareStream
	if c.mode != "bare" && c.mode != "raw-jetstream" {
		stream = "DBRUNNER_JOBS_" + k.engine
	}
	if err := w.awaitCount(ctx, stream, 0); err != nil {
		return err
	}
	if c.stored {
		if err := w.awaitCount(ctx, "DBRUNNER_RESULTS_"+k.engine, uint64(jobs)); err != nil { //nolint:gosec // a count
			return err
		}
	}
	if k.kind == "transaction" {
		return w.checkEffects(ctx, k, jobs)
	}
	return nil
}
