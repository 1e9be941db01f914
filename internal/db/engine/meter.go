package engine

import (
	"sync"
	"sync/atomic"
	"time"
)

// Waits are the calls of a pool that wait for a connection. The zero value has none.
type Waits struct {
	mu      sync.Mutex
	last    uint64
	started map[uint64]time.Time
	count   atomic.Int64 // of started, to be read without the mutex
}

// Any reports whether a call waits.
func (w *Waits) Any() bool { return w.count.Load() > 0 }

// Begin adds a call. The caller calls the returned function when the wait is over.
func (w *Waits) Begin() (end func() time.Duration) {
	started := time.Now()
	w.mu.Lock()
	if w.started == nil {
		w.started = map[uint64]time.Time{}
	}
	w.last++
	id := w.last
	w.started[id] = started
	w.count.Add(1)
	w.mu.Unlock()
	return func() time.Duration {
		w.mu.Lock()
		delete(w.started, id)
		w.count.Add(-1)
		w.mu.Unlock()
		return time.Since(started)
	}
}

// Longest returns how many calls wait, and how long the first of them has waited.
func (w *Waits) Longest() (waiting int, longest time.Duration) {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, started := range w.started {
		longest = max(longest, now.Sub(started))
	}
	return len(w.started), longest
}
