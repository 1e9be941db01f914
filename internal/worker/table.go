package worker

import "sync"

// table counts what a lane holds. A delivery occupies a slot from its arrival until its database is done with it,
// then, if one is free, a settling place; credits for free slots go to the intake.
type table struct {
	slots  int // at most
	places int // settling places at most

	mu       sync.Mutex
	all      []*inFlight
	taken    int      // slots taken
	settling int      // settling places taken
	idle     int      // goroutines that wait for work
	credits  chan int // of the intake session; nil while there is none
	closed   bool     // nothing is taken any more
}

// admission is what the table says of an arrival.
type admission uint8

const (
	refused  admission = iota + 1 // no slot was granted for it, or the lane is ending
	toIdle                        // an idle goroutine is reserved for it
	toNewOne                      // a goroutine is to be started for it
)

// open starts an intake session: all free slots are granted at the same time, later ones as they become free.
func (t *table) open() <-chan int {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.credits = make(chan int, 1)
	if free := t.slots - t.taken; free > 0 {
		t.credits <- free
	}
	return t.credits
}

// shut ends the intake session; credits that were not used are void.
func (t *table) shut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.credits = nil
}

// add takes a slot for an arrival.
func (t *table) add(h *inFlight) admission {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed || t.taken == t.slots && !h.delivery.Beside {
		return refused
	}
	if !h.delivery.Beside {
		t.taken++
		h.slotted = true
	}
	h.index = len(t.all)
	t.all = append(t.all, h)
	if t.idle > 0 {
		t.idle--
		return toIdle
	}
	return toNewOne
}

// settle moves an ended delivery from its slot to a settling place, if one is free.
func (t *table) settle(h *inFlight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if h.slotted && t.settling < t.places {
		h.slotted = false
		t.settling++
		t.free()
	}
}

// remove takes a delivery out; its goroutine is idle from now on.
func (t *table) remove(h *inFlight) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.all) - 1
	t.all[h.index] = t.all[last]
	t.all[h.index].index = h.index
	t.all[last] = nil
	t.all = t.all[:last]
	t.idle++
	switch {
	case h.slotted:
		t.free()
	case !h.delivery.Beside:
		t.settling--
	}
}

// free gives a slot back and grants it again. Credits that the intake has not fetched yet become one number, so
// that granting one never waits and the intake asks for many at the same time. The mutex is held.
func (t *table) free() {
	t.taken--
	if t.credits == nil {
		return
	}
	granted := 1
	select {
	case unfetched := <-t.credits:
		granted += unfetched
	default:
	}
	t.credits <- granted // has room: it is empty, and there is no other sender
}

// close refuses every further arrival and returns what is held.
func (t *table) close() []*inFlight {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	return t.snapshot(nil)
}

// snapshot appends everything held to dst.
func (t *table) snapshot(dst []*inFlight) []*inFlight {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append(dst, t.all...)
}

// counts returns slots taken and settling places taken.
func (t *table) counts() (taken, settling int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.taken, t.settling
}

// draining reports whether the lane takes nothing any more.
func (t *table) draining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.closed
}

// started is the number of deliveries whose jobs the lane has started and not finished. One that keeps an ordered queue waiting has
// finished: its result is stored, and nothing of it runs.
func (t *table) started() int {
	n := 0
	for _, h := range t.snapshot(nil) {
		if h.hasStarted() && !h.in(awaitingResume) {
			n++
		}
	}
	return n
}
