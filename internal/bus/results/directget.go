package results

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/bus"
)

const (
	// directGetTimeout bounds a HasResult, which can always be replaced by StoredResult.
	directGetTimeout = time.Second
	// maxBatchedGets is how many looks go in one request.
	maxBatchedGets = 128
)

// directGets gathers looks of the same moment for one request. Nearly always none of them finds anything, which the server
// says in one line for all; otherwise each looks by itself.
type directGets struct {
	mu   sync.Mutex
	open *directGetBatch // takes more looks; nil: none does
}

// directGetBatch is one request for the looks of several goroutines. The first of them sends it.
type directGetBatch struct {
	subjects []string      // of the results; under directGets.mu while it is open
	done     chan struct{} // closed when none is known
	none     bool          // there is a result for none of them
}

// join adds a look. first: the caller sends the request.
func (g *directGets) join(subject string) (one *directGetBatch, first bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if first = g.open == nil; first {
		g.open = &directGetBatch{done: make(chan struct{})}
	}
	one = g.open
	one.subjects = append(one.subjects, subject)
	if len(one.subjects) == maxBatchedGets {
		g.open = nil
	}
	return one, first
}

// shut lets no other lookup join.
func (g *directGets) shut(one *directGetBatch) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open == one {
		g.open = nil
	}
}

// HasResult reports whether a job has a stored result, as any replica knows it: on a cluster it may miss one of the last
// moment. It spares the server's API and is tried only once.
func (r *Results) HasResult(ctx context.Context, jobID string) (bool, error) {
	if err := bus.CheckID(jobID); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, directGetTimeout)
	defer cancel()
	one, first := r.glances.join(r.conn.Subjects().Result(r.database, jobID))
	if first {
		runtime.Gosched() // other runnable goroutines may have a lookup to add
		r.glances.shut(one)
		one.none = len(one.subjects) > 1 && r.haveNone(ctx, one.subjects)
		close(one.done)
	}
	select {
	case <-one.done:
	case <-ctx.Done():
		return false, fmt.Errorf("direct get of the result: %w", ctx.Err())
	}
	if one.none {
		return false, nil
	}
	return r.hasResult(ctx, jobID)
}

// hasResult looks for one result.
func (r *Results) hasResult(ctx context.Context, jobID string) (bool, error) {
	answer, err := r.conn.Request(ctx, &nats.Msg{Subject: r.direct + jobID})
	if err != nil {
		return false, fmt.Errorf("direct get of the result: %w", err)
	}
	return bus.FoundDirect(answer)
}

// haveNone reports whether the server has said that none of the subjects has a message (ADR-31, multi_last). The answer
// to a request that finds some is one message for each; only the first is looked at.
func (r *Results) haveNone(ctx context.Context, subjects []string) bool {
	body, err := json.Marshal(map[string][]string{"multi_last": subjects})
	if err != nil {
		return false
	}
	answer, err := r.conn.Request(ctx, &nats.Msg{Subject: r.conn.APIPrefix() + "DIRECT.GET." + r.stream, Data: body})
	if err != nil {
		return false
	}
	// A message that could not be loaded is another 404.
	return answer.Header.Get("Status") == "404" && answer.Header.Get("Description") == "No Results"
}
