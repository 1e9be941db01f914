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

// gatherTime is how long the first suspect waits for others: redeliveries arrive in stream order within a moment,
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

// NewQuarantine returns the suspects of one runner.
func NewQuarantine() *Quarantine { return &Quarantine{} }

// acquire waits for its turn; every acquire that returns nil is followed by a release.
func (s *Quarantine) acquire(ctx context.Context) error {
	turn := make(chan struct{})
	s.enter(turn)
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		if !s.leave(turn) {
			s.release() // the turn came at the same moment
		}
		return context.Cause(ctx)
	}
}

func (s *Quarantine) enter(turn chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, turn)
	if !s.busy && !s.gathering {
		s.gathering = true
		time.AfterFunc(gatherTime, s.pick)
	}
}

func (s *Quarantine) leave(turn chan struct{}) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.waiting, turn)
	if i < 0 {
		return false
	}
	s.waiting = slices.Delete(s.waiting, i, i+1)
	return true
}

func (s *Quarantine) pick() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gathering = false
	s.next()
}

func (s *Quarantine) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	s.next()
}

// next lets one of those that wait run; none runs. The mutex is held.
func (s *Quarantine) next() {
	if len(s.waiting) == 0 {
		return
	}
	i := rand.IntN(len(s.waiting))
	s.busy = true
	close(s.waiting[i])
	s.waiting = slices.Delete(s.waiting, i, i+1)
}
