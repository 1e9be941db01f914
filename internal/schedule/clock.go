package schedule

import (
	"time"
)

// The bounds of the clock.
const (
	samplesKept = time.Minute      // so long an answer of the server counts
	mostOff     = 30 * time.Second // of the runner's own clock
)

// sample is one answer of the server to the question for its time.
type sample struct {
	at     time.Time // when the answer came, by this runner's clock
	server time.Time // what it was then by the server's clock
	took   time.Duration
}

// clock is the time of the server: by the answer of the last minute with the shortest round trip, and from there on by this
// runner's monotonic clock. Of the runner's own time of day nothing depends on it, but it has to be about right.
type clock struct {
	now     func() time.Time // with a monotonic reading
	samples []sample         // of the last minute
}

// add takes over an answer that was on its way between two times of this runner's clock.
func (c *clock) add(server, asked, answered time.Time) {
	if server.IsZero() {
		return
	}
	took := answered.Sub(asked)
	s := sample{at: answered, server: server.Add(took / 2), took: took}
	kept := c.samples[:0]
	for _, old := range c.samples { // an older one with a longer round trip will never count again
		if old.took < took && answered.Sub(old.at) < samplesKept {
			kept = append(kept, old)
		}
	}
	c.samples = append(kept, s)
}

// read returns the server's time; a problem: it is not known, or this runner's own clock is wrong.
func (c *clock) read() (now time.Time, problem string) {
	own := c.now()
	for len(c.samples) > 0 && own.Sub(c.samples[0].at) >= samplesKept {
		c.samples = c.samples[1:]
	}
	if len(c.samples) == 0 {
		return time.Time{}, "the time of the NATS server is not known: it has not answered for a minute"
	}
	best := c.samples[0] // they are sorted: each later one has a longer round trip
	now = best.server.Add(own.Sub(best.at))
	if off := own.Round(0).Sub(now); off > mostOff || off < -mostOff {
		return time.Time{}, "this runner's clock is " + off.Round(time.Second).String() + " off the NATS server's; set the clock of the host, or of the server"
	}
	return now, ""
}
