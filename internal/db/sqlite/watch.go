package sqlite

import (
	"context"
	"sync"
	"time"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// reason reports why a call was interrupted.
type reason uint8

const (
	notInterrupted reason = iota
	timedOut
	canceled
)

// again is how soon an interrupt is repeated. sqlite3_interrupt stops what runs at that moment and nothing
// else: one that falls between two statements of a transaction is forgotten when the second one starts. So it
// comes again until the call is over.
const again = 5 * time.Millisecond

// forever is longer than any call.
const forever = 100 * 365 * 24 * time.Hour

// watch interrupts a connection's statements when the call's time is over or its context ends. A connection
// has one for its whole life; it is armed for one call at a time.
type watch struct {
	h *handle

	mu       sync.Mutex // guards all below, and h against being closed under an interrupt
	armed    bool
	call     uint64 // counts arms: a callback that comes late must not meet the next call
	deadline time.Time
	why      reason
	timer    *time.Timer
}

// arm starts to watch a call; no timeout means without a time limit. The returned function ends the watching
// of the context.
func (w *watch) arm(ctx context.Context, timeout time.Duration) (stop func() bool) {
	w.mu.Lock()
	w.armed, w.why = true, notInterrupted
	w.call++
	call := w.call
	if timeout > 0 {
		w.deadline = time.Now().Add(timeout)
		w.timer.Reset(timeout)
	} else {
		w.deadline = time.Now().Add(forever)
	}
	w.mu.Unlock()
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, func() { w.cancel(call) })
}

// disarm ends the watching: no interrupt comes after it.
func (w *watch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.armed = false
	w.timer.Stop()
}

// interrupted reports whether the call was interrupted, and why.
func (w *watch) interrupted() reason {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.why == notInterrupted && w.armed && !time.Now().Before(w.deadline) {
		w.why = timedOut
	}
	return w.why
}

// tick is the timer's: the time is over, or an earlier interrupt may have been missed.
func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed || w.why == notInterrupted && time.Now().Before(w.deadline) {
		return // fired late, for a call that is over
	}
	if w.why == notInterrupted {
		w.why = timedOut
	}
	w.strike()
}

func (w *watch) cancel(call uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.armed || w.call != call {
		return
	}
	if w.why == notInterrupted {
		w.why = canceled
	}
	w.strike()
}

func (w *watch) strike() {
	// Make the statement that runs now return SQLITE_INTERRUPT. This is the one call that another goroutine may make while
	// the handle is in use, and so it has a thread state of its own.
	tls := libc.NewTLS()
	sqlite3.Xsqlite3_interrupt(tls, w.h.db)
	tls.Close()
	w.timer.Reset(again)
}
