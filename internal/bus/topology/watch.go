package topology

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// WatchInterval is how often a runner compares the server's streams and consumers with what it needs: what an operator
// changes by hand is known within it. One comparison costs one STREAM.INFO or CONSUMER.INFO for each of them, which their
// leaders answer: five for each database, one more for each queue and for calls, and eight for the fleet.
const WatchInterval = 10 * time.Second

// The bounds of one comparison.
const (
	watchRequests = 8               // concurrent
	watchTimeout  = 8 * time.Second // of all of them together
	watchDoubts   = 2               // times in a row that something cannot be read until that is reported
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
func (p *Problem) Stops() bool { return p.Failure != "" && !p.Off || p.Difference.Stops() }

// Remedy is the fix.
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

// Watch compares streams and consumers with a topology, again and again.
type Watch struct {
	conn     *bus.Conn
	topology Topology
	create   bool           // what is missing is created
	doubts   map[string]int // failures in a row, by resource; of the watching goroutine

	mu       sync.Mutex
	problems []Problem
}

// NewWatch returns a watch of what Manage (create) or Verify was called with.
func NewWatch(conn *bus.Conn, t Topology, create bool) *Watch {
	return &Watch{conn: conn, topology: t, create: create, doubts: make(map[string]int)}
}

// Problems are what the last comparison found, streams first. Run has to run.
func (w *Watch) Problems() []Problem {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.problems)
}

// Run compares until the context ends, and creates what is missing where that is the watch's task. It runs once and returns nil.
func (w *Watch) Run(ctx context.Context, every time.Duration) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if _, connected := w.conn.Link(); connected {
			w.compare(ctx)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// compare compares once. What was found before stays where the link is lost meanwhile.
func (w *Watch) compare(ctx context.Context) {
	wanted, err := wantedFrom(w.conn, w.topology)
	if err != nil {
		return // Manage and Verify have refused it
	}
	renewals, _ := w.conn.Link()
	bounded, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	found := w.examine(bounded, &wanted)
	if now, connected := w.conn.Link(); ctx.Err() != nil || !connected || now != renewals {
		return
	}
	w.note(found)
}

// examine looks at all streams, and then at the consumers of those that are there.
func (w *Watch) examine(ctx context.Context, want *wanted) []Problem {
	missing := make(map[string]bool)
	streams := each(len(want.streams), func(i int) []Problem {
		s := &want.streams[i]
		found := examined(streamResource(s.config.Name), s.database, func() ([]Difference, error) { return lookAtStream(ctx, w.conn, s) })
		return w.recreated(found, func() error { return createStream(ctx, w.conn, &s.config) })
	})
	for i := range want.streams {
		missing[want.streams[i].config.Name] = len(streams[i]) == 1 && streams[i][0].Missing
	}
	consumers := each(len(want.consumers), func(i int) []Problem {
		o := &want.consumers[i]
		if missing[o.stream] {
			return nil // the stream says it
		}
		found := examined(consumerResource(o), o.database, func() ([]Difference, error) { return lookAtConsumer(ctx, w.conn, o) })
		for i := range found {
			found[i].Off = found[i].Off || o.optional && found[i].Failure != ""
		}
		if len(found) == 1 && found[0].Missing && withdrawn(ctx, w.conn, o) {
			return found
		}
		return w.recreated(found, func() error { return createConsumer(ctx, w.conn, o) })
	})
	w.countDoubts(streams, consumers)
	return slices.DeleteFunc(append(slices.Concat(streams...), slices.Concat(consumers...)...), func(p Problem) bool {
		return p.Failure != "" && !p.Missing && w.doubts[p.Resource] < watchDoubts
	})
}

// countDoubts counts how often in a row each of what cannot be read could not.
func (w *Watch) countDoubts(lists ...[][]Problem) {
	failed := make(map[string]int)
	for _, list := range lists {
		for _, p := range slices.Concat(list...) {
			if p.Failure != "" && !p.Missing {
				failed[p.Resource] = w.doubts[p.Resource] + 1
			}
		}
	}
	w.doubts = failed
}

func examined(resource, database string, look func() ([]Difference, error)) []Problem {
	differences, err := look()
	if err != nil {
		return []Problem{{Difference: Difference{Resource: resource}, Database: database, Failure: bus.ErrorText(err)}}
	}
	out := make([]Problem, 0, len(differences))
	for _, d := range differences {
		out = append(out, Problem{Difference: d, Database: database})
	}
	return out
}

// recreated creates what is missing, where that is our task. What a runner does without, it creates where it uses it.
func (w *Watch) recreated(found []Problem, apply func() error) []Problem {
	if !w.create || len(found) != 1 || !found[0].Missing || found[0].Note {
		return found
	}
	w.conn.Log().Error("stream or consumer deleted while in use; creating it again, empty",
		zap.String("resource", found[0].Resource))
	if err := apply(); err != nil {
		found[0].Failure = bus.ErrorText(err)
		return found
	}
	return nil
}

// lookAtStream compares a stream; it asks once.
func lookAtStream(ctx context.Context, c *bus.Conn, want *stream) ([]Difference, error) {
	var info jetstream.StreamInfo
	err := c.API(ctx, "STREAM.INFO."+want.config.Name, nil, &info)
	if want.lacks(err) {
		return []Difference{want.missing()}, nil
	}
	if err != nil {
		return nil, err
	}
	return append(want.compare(&info), want.filled(&info)...), nil
}

// lookAtConsumer compares a consumer; it asks once.
func lookAtConsumer(ctx context.Context, c *bus.Conn, want *consumer) ([]Difference, error) {
	var info jetstream.ConsumerInfo
	err := c.API(ctx, "CONSUMER.INFO."+want.stream+"."+want.config.Name, nil, &info)
	if errors.Is(err, bus.ErrNotFound) {
		return []Difference{want.missing()}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(&info), nil
}

// each calls look for every index below n, some at the same time, and returns what it found in order.
func each(n int, look func(int) []Problem) [][]Problem {
	out := make([][]Problem, n)
	slots := make(chan struct{}, watchRequests)
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

// note keeps what was found and logs what is new and what has gone.
func (w *Watch) note(found []Problem) {
	w.mu.Lock()
	before := w.problems
	now := time.Now()
	for i := range found {
		found[i].Since = now
		if j := slices.IndexFunc(before, func(p Problem) bool { return p.same(&found[i]) }); j >= 0 {
			found[i].Since = before[j].Since
		}
	}
	w.problems = found
	w.mu.Unlock()
	for i := range found {
		p := &found[i]
		if slices.ContainsFunc(before, func(b Problem) bool { return b.same(p) }) {
			continue
		}
		text := []zap.Field{zap.String("problem", p.String()), zap.String("remedy", p.Remedy())}
		switch {
		case p.Stops():
			w.conn.Log().Error("stream or consumer unusable; jobs wait", text...)
		case !p.Note:
			w.conn.Log().Warn("stream or consumer differs from the configuration", text...)
		}
	}
	for i := range before {
		if !before[i].Note && !slices.ContainsFunc(found, func(p Problem) bool { return p.same(&before[i]) }) {
			w.conn.Log().Info("stream or consumer as configured again", zap.String("problem", before[i].String()))
		}
	}
}
