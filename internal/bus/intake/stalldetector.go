package intake

import "time"

// stallDetector notices that the process was stopped for a while (SIGSTOP, a frozen container, a machine that swaps or was suspended): what is read
// then may have been delivered long ago, so that its lease may be over and another runner at work on it. Nothing in a
// message says when it was delivered. It is for one goroutine, which calls turn often while it is awake.
type stallDetector struct {
	limit     time.Duration
	last      time.Time // turn
	resumedAt time.Time // after a gap that was too long; zero: none yet
}

// The parts of AckWait: after a gap of half of it, a message that was delivered at its beginning can still be kept by an
// extension a third later; what arrives within a sixth after a longer gap may have waited all that time.
const (
	gapPart   = 2
	stalePart = 6
	turnPart  = 8 // how often turn is called at least
)

func newStallDetector(ackWait time.Duration, now time.Time) stallDetector {
	return stallDetector{limit: ackWait / gapPart, last: now}
}

func (v *stallDetector) observe(now time.Time) {
	if now.Sub(v.last) > v.limit {
		v.resumedAt = now
	}
	v.last = now
}

// stale reports whether what is read now may have been delivered before a gap.
func (v *stallDetector) stale(now time.Time) bool {
	return !v.resumedAt.IsZero() && now.Sub(v.resumedAt) < v.limit*gapPart/stalePart
}
