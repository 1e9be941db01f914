package bus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// TopologyInterval is how often a runner compares the server's streams and consumers with what it needs: what an operator
// changes by hand is known within it. One comparison costs one STREAM.INFO or CONSUMER.INFO for each of them, which their
// leaders answer: five for each database and five for the fleet.
const TopologyInterval = 10 * time.Second

// The bounds of one comparison.
const (
	topologyRequests = 8               // at once
	topologyTimeout  = 8 * time.Second // of all of them together
	topologyDoubts   = 2               // times in a row that something cannot be read until that is reported
)

// Problem is a stream or consumer that is not as the runner needs it.
type Problem struct {
	Difference
	Database string    // whose jobs it concerns; empty: those of all databases
	Failure  string    // why it could not be read or created; empty: it was
	Since    time.Time // when it was noticed
}

func (p *Problem) String() string {
	switch {
	case p.Missing && p.Failure != "":
		return p.Difference.String() + " and could not be created: " + p.Failure
	case p.Failure != "":
		return p.Resource + " cannot be read: " + p.Failure
	}
	return p.Difference.String()
}

// Stops reports whether jobs wait because of it.
func (p *Problem) Stops() bool { return p.Failure != "" || p.Difference.Stops() }

// Remedy says what ends it.
func (p *Problem) Remedy() string {
	if p.Failure != "" && !p.Missing {
		return "nats stream info shows whether it has a leader; check the NATS servers"
	}
	return p.Difference.Remedy()
}

// same reports whether two problems are one that goes on.
func (p *Problem) same(other *Problem) bool {
	return p.Difference == other.Difference && (p.Failure == "") == (other.Failure == "")
}

// topologyWatch is what the comparisons have found.
type topologyWatch struct {
	doubts map[string]int // failures in a row, by resource; of the watching goroutine

	mu       sync.Mutex
	problems []Problem
}

// Problems are what the last comparison found, streams first. WatchTopology has to run.
func (c *Conn) Problems() []Problem {
	c.topology.mu.Lock()
	defer c.topology.mu.Unlock()
	return slices.Clone(c.topology.problems)
}

// WatchTopology compares streams and consumers with what Manage or Verify was called with, again and again until the
// context ends. After Manage it creates what is missing. It runs once and returns nil.
func (c *Conn) WatchTopology(ctx context.Context, every time.Duration) error {
	c.topology.doubts = make(map[string]int)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if _, connected := c.link(); connected {
			c.compareTopology(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// compareTopology compares once. What was found before stays where the link is lost meanwhile.
func (c *Conn) compareTopology(ctx context.Context) {
	plan := c.currentPlan()
	if plan == nil {
		return
	}
	w, err := c.want(plan.topology)
	if err != nil {
		return // Manage and Verify have refused it
	}
	renewals, _ := c.link()
	bounded, cancel := context.WithTimeout(ctx, topologyTimeout)
	defer cancel()
	found := c.examine(bounded, &w, plan.create)
	if now, connected := c.link(); ctx.Err() != nil || !connected || now != renewals {
		return
	}
	c.noteProblems(found)
}

// examine looks at all streams, and then at the consumers of those that are there.
func (c *Conn) examine(ctx context.Context, w *wanted, create bool) []Problem {
	missing := make(map[string]bool)
	streams := each(len(w.streams), func(i int) []Problem {
		s := &w.streams[i]
		found := c.examined(streamResource(s.config.Name), s.database, func() ([]Difference, error) { return c.lookAtStream(ctx, s) })
		return c.recreated(found, create, func() error { return c.createStream(ctx, &s.config) })
	})
	for i := range w.streams {
		missing[w.streams[i].config.Name] = len(streams[i]) == 1 && streams[i][0].Missing
	}
	consumers := each(len(w.consumers), func(i int) []Problem {
		o := &w.consumers[i]
		if missing[o.stream] {
			return nil // the stream says it
		}
		found := c.examined(consumerResource(o), o.database, func() ([]Difference, error) { return c.lookAtConsumer(ctx, o) })
		return c.recreated(found, create, func() error { return c.createConsumer(ctx, o) })
	})
	c.countDoubts(streams, consumers)
	return slices.DeleteFunc(append(slices.Concat(streams...), slices.Concat(consumers...)...), func(p Problem) bool {
		return p.Failure != "" && !p.Missing && c.topology.doubts[p.Resource] < topologyDoubts
	})
}

// countDoubts counts how often in a row each of what cannot be read could not.
func (c *Conn) countDoubts(lists ...[][]Problem) {
	failed := make(map[string]int)
	for _, list := range lists {
		for _, p := range slices.Concat(list...) {
			if p.Failure != "" && !p.Missing {
				failed[p.Resource] = c.topology.doubts[p.Resource] + 1
			}
		}
	}
	c.topology.doubts = failed
}

func (c *Conn) examined(resource, database string, look func() ([]Difference, error)) []Problem {
	differences, err := look()
	if err != nil {
		return []Problem{{Difference: Difference{Resource: resource}, Database: database, Failure: errorText(err)}}
	}
	out := make([]Problem, 0, len(differences))
	for _, d := range differences {
		out = append(out, Problem{Difference: d, Database: database})
	}
	return out
}

// recreated creates what is missing, where that is our task.
func (c *Conn) recreated(found []Problem, create bool, apply func() error) []Problem {
	if !create || len(found) != 1 || !found[0].Missing {
		return found
	}
	c.log.Error("a stream or consumer was deleted while runners work; creating it again, without what it held",
		zap.String("resource", found[0].Resource))
	if err := apply(); err != nil {
		found[0].Failure = errorText(err)
		return found
	}
	return nil
}

// lookAtStream compares a stream; it asks once.
func (c *Conn) lookAtStream(ctx context.Context, want *stream) ([]Difference, error) {
	var info jetstream.StreamInfo
	err := c.Request(ctx, "STREAM.INFO."+want.config.Name, nil, &info)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: streamResource(want.config.Name), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(&info), nil
}

// lookAtConsumer compares a consumer; it asks once.
func (c *Conn) lookAtConsumer(ctx context.Context, want *consumer) ([]Difference, error) {
	var info jetstream.ConsumerInfo
	err := c.Request(ctx, "CONSUMER.INFO."+want.stream+"."+want.config.Name, nil, &info)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: consumerResource(want), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(&info), nil
}

// each calls look for every index below n, some at once, and returns what it found in order.
func each(n int, look func(int) []Problem) [][]Problem {
	out := make([][]Problem, n)
	slots := make(chan struct{}, topologyRequests)
	var group sync.WaitGroup
	for i := range n {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			out[i] = look(i)
		})
	}
	group.Wait()
	return out
}

// noteProblems keeps what was found and logs what is new and what has gone.
func (c *Conn) noteProblems(found []Problem) {
	c.topology.mu.Lock()
	before := c.topology.problems
	now := time.Now()
	for i := range found {
		found[i].Since = now
		if j := slices.IndexFunc(before, func(p Problem) bool { return p.same(&found[i]) }); j >= 0 {
			found[i].Since = before[j].Since
		}
	}
	c.topology.problems = found
	c.topology.mu.Unlock()
	for i := range found {
		p := &found[i]
		if slices.ContainsFunc(before, func(b Problem) bool { return b.same(p) }) {
			continue
		}
		text := []zap.Field{zap.String("problem", p.String()), zap.String("remedy", p.Remedy())}
		switch {
		case p.Stops():
			c.log.Error("a stream or consumer is not as the runner needs it: jobs wait", text...)
		case !p.Note:
			c.log.Warn("a stream or consumer is not as configured", text...)
		}
	}
	for i := range before {
		if !before[i].Note && !slices.ContainsFunc(found, func(p Problem) bool { return p.same(&before[i]) }) {
			c.log.Info("a stream or consumer is no longer otherwise than configured", zap.String("problem", before[i].String()))
		}
	}
}
