package intake

import "time"

// Bounds of one pull request.
const (
	// maxOutstanding is how many messages may be asked for at the same time: what arrives fits into the inbox.
	maxOutstanding = 4096
	// linger is how long freed slots may wait for more of them before they are asked for together. While other
	// slots are busy or other requests are open a slot that waits this long costs nothing.
	linger = time.Millisecond
)

// credit is the account of one lane's slots. Each slot is either free (no message was requested for it), outstanding
// (asked for, not yet here) or busy (its message was handed to the worker). It knows nothing of clock or network.
type credit struct {
	baseSlots   int // slots that may be used whatever the jobs take; 0 = all
	pace        completionRate
	slots       int // the most that were ever free or outstanding together
	free        int
	outstanding int
	asked       [askedSeconds]int // outstanding bound: what was asked for, by the second in which it expires
	askedAt     int64             // the second of the newest entry
}

// askedSeconds covers the life of a request, with a margin for its last status to arrive.
const askedSeconds = 64

// add is called with rights to more messages, as many of which as can be are those of jobs that have just ended.
func (c *credit) add(n int, now time.Time) {
	c.pace.note(min(n, c.busy()), now)
	c.free += n
	c.slots = max(c.slots, c.free+c.outstanding)
}

// take accounts for an arrived message; false means that there is no slot for it.
func (c *credit) take() bool {
	switch {
	case c.outstanding > 0:
		c.outstanding--
	case c.free > 0: // a message of a request that we had given up
		c.free--
	default:
		return false
	}
	return true
}

// writeOff accounts for messages that will not come any more.
func (c *credit) writeOff(n int) {
	n = min(max(n, 0), c.outstanding)
	c.outstanding -= n
	c.free += n
}

// giveUpAll is giveUp for everything outstanding: no request is alive.
func (c *credit) giveUpAll() {
	c.writeOff(c.outstanding)
	c.asked = [askedSeconds]int{}
}

// busy is how many slots have a message.
func (c *credit) busy() int { return c.slots - c.free - c.outstanding }

// allowed is how many slots may be busy or outstanding now. Beyond the base slots it is what ended in the last moment:
// a lane whose jobs take long leaves the others' to other runners.
func (c *credit) allowed(now time.Time) int {
	if c.baseSlots == 0 {
		return c.slots
	}
	return min(c.slots, max(c.baseSlots, c.pace.recent(now)))
}

// want is how many messages to ask for now, and whether the free slots may wait a little for more of them.
//
// With less than half of what is on its way free, nothing is missing. With nothing else going on, a request leaves
// immediately. Else a quarter of all slots is worth a request, and fewer are after lingering.
func (c *credit) want(now time.Time) (n int, wait bool) {
	allowed, busy := c.allowed(now), c.busy()
	n = min(allowed-busy-c.outstanding, maxOutstanding-c.outstanding)
	if n <= 0 || n <= c.outstanding {
		return 0, false
	}
	if busy == 0 || n*4 >= allowed {
		return n, false
	}
	return n, true
}

// usesBurst reports whether a request for n messages asks for slots above the base slots: it must not stand for long when
// there are no jobs, because those that come then may be others, which take long.
func (c *credit) usesBurst(n int) bool {
	return c.baseSlots > 0 && c.busy()+c.outstanding+n > c.baseSlots
}

// ask accounts for a request that expires in the given second.
func (c *credit) ask(n int, expires int64) {
	c.free -= n
	c.outstanding += n
	c.advance(expires)
	c.asked[expires%askedSeconds] += n
}

// advance forgets what has left the window.
func (c *credit) advance(second int64) {
	if second-c.askedAt >= askedSeconds {
		c.asked = [askedSeconds]int{}
	} else {
		for s := c.askedAt + 1; s <= second; s++ {
			c.asked[s%askedSeconds] = 0
		}
	}
	c.askedAt = max(c.askedAt, second)
}

// expire gives up what no living request can bring: more is outstanding than was asked for by requests that
// expire in this second or later. It heals an account whose status message was lost.
func (c *credit) expire(now int64) {
	alive := 0
	for s := max(now, c.askedAt-askedSeconds+1); s <= c.askedAt; s++ {
		alive += c.asked[s%askedSeconds]
	}
	c.writeOff(c.outstanding - alive)
}
