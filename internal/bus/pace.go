package bus

import "time"

// moment is the time within which jobs have to end for their slots to be lent: what a runner holds beyond its steady
// slots is the work of about one moment, which is all that another runner could have had of it.
const moment = 50 * time.Millisecond

// pace counts what ended in the current moment and in the one before.
type pace struct {
	begin time.Time // of the current moment
	count int
	last  int // of the moment before
}

func (p *pace) note(n int, now time.Time) {
	p.turn(now)
	p.count += n
}

// recent is how much ends within a moment at present.
func (p *pace) recent(now time.Time) int {
	p.turn(now)
	return max(p.count, p.last)
}

func (p *pace) turn(now time.Time) {
	switch gone := now.Sub(p.begin); {
	case gone < moment:
		return
	case gone < 2*moment:
		p.last = p.count
	default:
		p.last = 0
	}
	p.begin, p.count = now, 0
}
