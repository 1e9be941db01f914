package worker

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// quarantineFrom is the delivery from which on a job may be one that kills its runner.
const quarantineFrom = 4

// gatherTime is how long the first quarantined job waits for others: redeliveries arrive in stream order within a moment,
// and the pick is to be among all of them.
const gatherTime = 250 * time.Millisecond

// Quarantine lets one job at a time run of those that were delivered often, over all lanes of a runner, picked at
// random among those that wait: a job that kills its runner takes other neighbours along each time, so that these
// come to their end.
type Quarantine struct {
	mu        sync.Mutex
	busy      bool // one runs
	gathering bool // a pick is due
	waiting   []chan struct{}
}

// NewQuarantine returns the quarantine of one runner.
func NewQuarantine() *Quarantine { return &Quarantine{} }

// acquire waits for its turn; every acquire that returns nil is followed by a release.
func (q *Quarantine) acquire(ctx context.Context) error {
	turn := make(chan struct{})
	q.mu.Lock()
	q.waiting = append(q.waiting, turn)
	if !q.busy && !q.gathering {
		q.gathering = true
		time.AfterFunc(gatherTime, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.gathering = false
			q.next()
		})
	}
	q.mu.Unlock()
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.waiting, turn); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	} else { // the turn came at the same moment
		q.busy = false
		q.next()
	}
	return context.Cause(ctx)
}

func (q *Quarantine) release() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy = false
	q.next()
}

// next lets one of those that wait run; none runs. The mutex is held.
func (q *Quarantine) next() {
	if len(q.waiting) == 0 {
		return
	}
	i := rand.IntN(len(q.waiting))
	q.busy = true
	close(q.waiting[i])
	q.waiting = slices.Delete(q.waiting, i, i+1)
}
