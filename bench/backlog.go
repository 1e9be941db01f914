package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/bench/figures"
)

// drainTime bounds one backlog, from the start of the worker to its last answer.
const drainTime = 15 * time.Minute

// contender drains backlogs: the bare worker, or the runner in one mode.
type contender struct {
	mode    string
	subject func(w *work) string
	stored  bool // answers come from the results stream, otherwise they are replies
	start   func(w *work) (*process, error)
}

func (w *world) bare() contender {
	return contender{
		mode: "bare", subject: func(*work) string { return "bare.jobs" },
		start: func(k *work) (*process, error) { return w.startBare(k.engine) },
	}
}

// bareJetStream answers without a database.
func (w *world) bareJetStream() contender {
	return contender{
		mode: "raw-jetstream", subject: func(*work) string { return "bare.jobs" },
		start: func(*work) (*process, error) { return w.startBare("none") },
	}
}

func (w *world) runner(mode string) contender {
	return contender{
		mode: mode, stored: mode != "reply",
		subject: func(k *work) string { return "dbrunner.jobs." + k.engine + "." + k.kind },
		start:   func(k *work) (*process, error) { return w.startRunner(k.engine) },
	}
}

// drain fills a backlog, starts the worker and takes the time from the tenth part of the answers to the last.
func (w *world) drain(ctx context.Context, c contender, k *work, jobs int) (s figures.Sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	if err := w.reset(ctx, k.engine); err != nil {
		return s, err
	}
	w.serial++
	a, sub, err := subscribe(w.nc, w.subjects(c, k), k, jobs, jobs/10)
	if err != nil {
		return s, err
	}
	defer func() { _ = sub.Unsubscribe() }()
	if err := w.publish(c, k, jobs); err != nil {
		return s, err
	}
	p, err := c.start(k)
	if err != nil {
		return s, err
	}
	s, err = w.clock(ctx, p, a)
	s.Peak = p.memory("VmHWM")
	if err == nil {
		err = w.settled(ctx, c, k, jobs)
	}
	return s, errors.Join(err, p.stop())
}

// subjects are where a contender's answers come.
func (w *world) subjects(c contender, k *work) string {
	if c.stored {
		return "dbrunner.results." + k.engine + ".*"
	}
	return fmt.Sprintf("_INBOX.bench.%d.*", w.serial)
}

// publish fills the backlog. Only the last jobs' acknowledgements are waited for, but each counts.
func (w *world) publish(c contender, k *work, jobs int) error {
	futures := make([]interface{ Err() <-chan error }, 0, jobs)
	for n := range jobs {
		id, reply := fmt.Sprintf("b%d_%d", w.serial, n), ""
		if !c.stored {
			reply = fmt.Sprintf("_INBOX.bench.%d.x_%d", w.serial, n)
		}
		f, err := w.js.PublishMsgAsync(&nats.Msg{Subject: c.subject(k), Data: k.job(nil, n, id, c.mode, reply)})
		if err != nil {
			return err
		}
		futures = append(futures, f)
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-time.After(time.Minute):
		return errors.New("the backlog is not acknowledged")
	}
	for _, f := range futures {
		select {
		case err := <-f.Err():
			return err
		default:
		}
	}
	return nil
}

func (w *world) clock(ctx context.Context, p *process, a *answers) (figures.Sample, error) {
	if err := p.await(ctx, a.started); err != nil {
		return figures.Sample{}, errors.Join(err, a.failure())
	}
	worker, server, postgres := p.cpu(), w.nats.cpu(), cpuOf(w.postgres.PID(), true)
	if err := p.await(ctx, a.ended); err != nil {
		return figures.Sample{}, errors.Join(err, a.failure())
	}
	per := func(now, before time.Duration) float64 {
		return float64((now - before).Microseconds()) / float64(a.total-a.warm)
	}
	return figures.Sample{
		Rate: a.rate(), Worker: per(p.cpu(), worker), NATS: per(w.nats.cpu(), server),
		Postgres: per(cpuOf(w.postgres.PID(), true), postgres),
	}, a.failure()
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

func (w *world) awaitCount(ctx context.Context, stream string, want uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		s, err := w.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		got := s.CachedInfo().State.Msgs
		if got == want {
			return nil
		}
		wait(ctx, 20*time.Millisecond)
		if ctx.Err() != nil {
			return fmt.Errorf("stream %s has %d messages, not %d", stream, got, want)
		}
	}
}
