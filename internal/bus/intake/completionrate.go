package intake

import "time"

// rateWindow is the time within which jobs have to end for their slots to count as burst slots: what a runner holds beyond its base
// slots is the work of about one moment, which is all that another runner could have had of it.
const rateWindow = 50 * time.Millisecond

// completionRate counts what ended in the current moment and in the one before.
type completionRate struct {
	begin time.Time // of the current moment
	count int
	last  int // of the moment before
}

func (p *completionRate) note(n int, now time.Time) {
	p.turn(now)
	p.count += n
}

// recent is how much ends within a moment at present.
func (p *completionRate) recent(now time.Time) int {
	p.turn(now)
	return max(p.count, p.last)
}

func (p *completionRate) turn(now time.Time) {
	switch gone := now.Sub(p.begin); {
	case gone < rateWindow:
		return
	case gone < 2*rateWindow:
		p.last = p.count
	default:
		p.last = 0
	}
	p.begin, p.count = now, 0
}
