package main

import (
	"context"
	"errors"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/test/faults/check"
)

// pauseLength is how long a pause lasts, and blockedFor how long the jobs run that are published shortly before: they use
// all connections, so that jobs wait in flight when the pause comes, and could start during it.
const (
	pauseLength = 2500 * time.Millisecond
	blockedFor  = 1900 * time.Millisecond
	blockers    = 20
)

// pausing is a pause that an operator makes, and ends after a time; 0: never.
type pausing struct {
	at     time.Duration // since the beginning
	target contract.PauseTarget
	length time.Duration
}

// addPauses adds the pauses of a run: of a database, of its queue, and of a schedule; calm: none.
func addPauses(p *planner, calm bool) {
	if calm {
		return
	}
	start := p.length/5 + time.Duration(p.rng.Int64N(int64(p.length/4)))
	for range blockers {
		name := nextName(p, "blocker")
		r := p.request(name, "blocker", primary(p), "transaction", check.ExactlyOnce, 1, body{"statements": []body{
			effect(name, 0, 0, 0), sleeping(primary(p), blockedFor.Seconds()),
		}})
		p.messages = append(p.messages, message{at: start - 300*time.Millisecond, request: r, msgID: true})
	}
	for _, a := range []struct {
		at     time.Duration
		target contract.PauseTarget
	}{
		{start, contract.PauseTarget{Database: primary(p)}},
		{time.Duration(p.rng.Int64N(int64(p.length / 2))), contract.PauseTarget{Database: primary(p), Queue: bulk}},
	} {
		p.acts = append(p.acts, act{at: a.at, what: "pause", pauses: []pausing{{at: a.at, target: a.target, length: pauseLength}}})
	}
}

// pauseBound is how soon a pause has to be in force everywhere: a second, and what two processes' clocks may be apart. On a busy machine
// it is more, by what reads of the bench itself take.
const pauseBound = 1300 * time.Millisecond

// longDelay is from when on a read is noted.
const longDelay = 20 * time.Millisecond

// probe reads the bucket of pauses again and again, as runners do, and notes how long that takes.
func (c *clients) probe(ctx context.Context) {
	for ctx.Err() == nil {
		d := check.Delay{From: time.Now()}
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, _ = client.ReadPause(bounded, c.r.client, contract.PauseTarget{Database: shop}) // how long it takes is what counts
		_ = wait(bounded, longDelay/2)
		cancel()
		if d.Until = time.Now(); d.Until.Sub(d.From) >= longDelay {
			c.mu.Lock()
			c.delays = append(c.delays, d)
			c.mu.Unlock()
		}
		_ = wait(ctx, 50*time.Millisecond)
	}
}

// slowest is the longest read that was noted since a time.
func (c *clients) slowest(since time.Time) (longest time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range c.delays {
		if d.Until.After(since) {
			longest = max(longest, d.Until.Sub(d.From))
		}
	}
	return longest
}

// pauseInTurn makes pauses of one target, one after the other.
func (c *clients) pauseInTurn(ctx context.Context, list []pausing) {
	for i := range list {
		if wait(ctx, time.Until(c.r.started.Add(list[i].at))) == nil {
			c.pause(ctx, &list[i])
		}
	}
}

// pause makes a pause and ends it again.
func (c *clients) pause(ctx context.Context, p *pausing) {
	made := check.Pause{Database: p.target.Database, Queue: p.target.Queue, Schedule: p.target.Schedule}
	active := c.makePause(ctx, p.target)
	if active == nil {
		return
	}
	made.From = time.Now()
	if p.length > 0 {
		_ = wait(ctx, p.length)
		made.Until = time.Now()
	}
	c.mu.Lock()
	c.pauses = append(c.pauses, made)
	c.mu.Unlock()
	for p.length > 0 && ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := client.EndPause(bounded, c.r.client, p.target, active)
		cancel()
		if err == nil || errors.Is(err, client.ErrPauseChanged) { // it was ended before, without an answer
			return
		}
		_ = wait(ctx, 50*time.Millisecond)
	}
}

// makePause stores the record, and returns when it is known to be stored; nil: ctx has ended.
func (c *clients) makePause(ctx context.Context, target contract.PauseTarget) *contract.ActivePause {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		active, err := client.CreatePause(bounded, c.r.client, target, contract.Pause{Reason: "fault bench", By: "faults"})
		if errors.Is(err, client.ErrPauseChanged) { // stored before, without an answer
			active, err = client.ReadPause(bounded, c.r.client, target)
		}
		cancel()
		if err == nil && active != nil {
			return active
		}
		_ = wait(ctx, 50*time.Millisecond)
	}
	return nil
}

// schedulesEnded is when the last of the schedules was paused for good; zero: not yet.
func (c *clients) schedulesEnded() (at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, p := range c.pauses {
		if p.Schedule != "" && p.Until.IsZero() {
			n++
			if p.From.After(at) {
				at = p.From
			}
		}
	}
	if n < len(c.r.plan.schedules) {
		return time.Time{}
	}
	return at
}
