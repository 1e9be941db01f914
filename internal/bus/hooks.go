package bus

import (
	"context"
	"sync"
)

// hooks are what resources do for each other without knowing each other.
type hooks struct {
	hookMu  sync.Mutex
	restore func(context.Context) error
	ready   []func(context.Context) error
}

// SetRestore sets what creates missing streams and consumers; nil: nothing does.
func (h *hooks) SetRestore(restore func(context.Context) error) {
	h.hookMu.Lock()
	h.restore = restore
	h.hookMu.Unlock()
}

// Restorer returns what creates missing streams and consumers; nil: nothing does.
func (h *hooks) Restorer() func(context.Context) error {
	h.hookMu.Lock()
	defer h.hookMu.Unlock()
	return h.restore
}

// AddReady adds what intakes wait for before they pull again after a disturbance.
func (h *hooks) AddReady(ready func(context.Context) error) {
	h.hookMu.Lock()
	h.ready = append(h.ready, ready)
	h.hookMu.Unlock()
}

// Ready waits until messages may be pulled again after a disturbance: a job that was cancelled or paused while the runner
// was disconnected must not start.
func (h *hooks) Ready(ctx context.Context) error {
	h.hookMu.Lock()
	list := h.ready
	h.hookMu.Unlock()
	for _, ready := range list {
		if err := ready(ctx); err != nil {
			return err
		}
	}
	return nil
}
