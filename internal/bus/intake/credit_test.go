package intake

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestCreditNeverGrows runs the account through anything: slots are neither lost nor made up, and what is asked
// for never exceeds what is free, nor what may be held at present.
func TestCreditNeverGrows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := credit{baseSlots: rapid.IntRange(0, 100).Draw(t, "base slots")}
		at := time.Now()
		granted, busy := 0, 0
		now := int64(1_700_000_000)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			at = at.Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "ms")) * time.Millisecond)
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0:
				n := rapid.IntRange(1, 9000).Draw(t, "new")
				granted += n
				c.add(n, at)
			case 1:
				if busy > 0 {
					busy--
					c.add(1, at)
				}
			case 2:
				had := c.free + c.outstanding
				if c.take() {
					busy++
				} else if had != 0 {
					t.Fatalf("a message was refused although %d slots were open", had)
				}
			case 3:
				c.writeOff(rapid.IntRange(-5, 10_000).Draw(t, "pending"))
			case 4:
				c.giveUpAll()
			case 5, 6:
				if n, _ := c.want(at); n > 0 {
					if n > c.free {
						t.Fatalf("%d wanted of %d free", n, c.free)
					}
					if held := c.busy() + c.outstanding + n; held > c.allowed(at) {
						t.Fatalf("%d held or asked for, %d allowed", held, c.allowed(at))
					}
					c.ask(n, now+37)
				}
			case 7:
				now += rapid.Int64Range(0, 100).Draw(t, "seconds")
				c.expire(now)
			}
			if c.free < 0 || c.outstanding < 0 || c.outstanding > maxOutstanding {
				t.Fatalf("impossible account: %+v", c)
			}
			if got := c.free + c.outstanding + busy; got != granted {
				t.Fatalf("%d slots granted, %d accounted for", granted, got)
			}
		}
		c.expire(now + 200)
		if c.outstanding != 0 {
			t.Fatalf("%d outstanding after every request has expired", c.outstanding)
		}
	})
}

func TestCreditAsksImmediatelyWhenIdle(t *testing.T) {
	t.Parallel()
	var c credit
	at := time.Now()
	c.add(1, at)
	n, wait := c.want(at)
	require.Equal(t, 1, n)
	require.False(t, wait)
	c.add(59, at)
	n, wait = c.want(at)
	require.Equal(t, 60, n)
	require.False(t, wait)
	c.ask(60, 100)
	for range 60 {
		require.True(t, c.take())
	}
	require.False(t, c.take())
	n, _ = c.want(at)
	require.Zero(t, n)
	c.add(1, at) // one of sixty: worth waiting for company
	n, wait = c.want(at)
	require.Equal(t, 1, n)
	require.True(t, wait)
	c.add(14, at) // a quarter
	n, wait = c.want(at)
	require.Equal(t, 15, n)
	require.False(t, wait)
	c.ask(15, 101)
	c.add(15, at) // not more than is on its way
	n, _ = c.want(at)
	require.Zero(t, n)
}

// end lets n jobs end.
func (c *credit) end(t *testing.T, n int, at time.Time) {
	t.Helper()
	require.LessOrEqual(t, n, c.busy())
	c.add(n, at)
}

// arrive asks for what may be asked for and lets it arrive.
func (c *credit) arrive(at time.Time) (n int, brief bool) {
	n, _ = c.want(at)
	brief = c.usesBurst(n)
	c.ask(n, at.Unix())
	for range n {
		c.take()
	}
	return n, brief
}

func TestCreditLendsSlotsWhileJobsEndQuickly(t *testing.T) {
	t.Parallel()
	c := credit{baseSlots: 32}
	at := time.Now()
	c.add(128, at)
	n, brief := c.arrive(at)
	require.Equal(t, 32, n, "nothing has ended yet")
	require.False(t, brief)
	for range 5 { // all of them end within ten milliseconds, again and again
		at = at.Add(10 * time.Millisecond)
		c.end(t, c.busy(), at)
		n, brief = c.arrive(at)
	}
	require.Equal(t, 128, n)
	require.True(t, brief)

	at = at.Add(10 * rateWindow) // nothing ends any more
	c.end(t, 40, at)
	n, _ = c.want(at)
	require.Zero(t, n, "88 are held, forty of which ended in the last moment")
	at = at.Add(3 * rateWindow)
	c.end(t, 60, at.Add(-2*rateWindow))
	n, brief = c.arrive(at)
	require.Equal(t, 4, n, "back to what is always there")
	require.False(t, brief)
}

func TestPaceForgets(t *testing.T) {
	t.Parallel()
	var p completionRate
	at := time.Now()
	p.note(5, at)
	require.Equal(t, 5, p.recent(at))
	p.note(3, at.Add(rateWindow))
	require.Equal(t, 5, p.recent(at.Add(rateWindow)), "the moment before is whole, this one is not")
	require.Equal(t, 3, p.recent(at.Add(2*rateWindow)))
	require.Zero(t, p.recent(at.Add(4*rateWindow)))
}

func TestCreditHealsAfterALostStatus(t *testing.T) {
	t.Parallel()
	var c credit
	c.add(10, time.Now())
	c.ask(4, 100)
	c.ask(6, 120)
	c.expire(100)
	require.Equal(t, 10, c.outstanding, "both may be alive")
	c.expire(101)
	require.Equal(t, 6, c.outstanding, "the first is gone, whatever became of its status")
	c.expire(121)
	require.Zero(t, c.outstanding)
	require.Equal(t, 10, c.free)
}

func TestParseAck(t *testing.T) {
	t.Parallel()
	want := ackInfo{deliveries: 3, sequence: 17, consumerSeq: 21, timestamp: time.Unix(0, 1700000000123456789).UTC()}
	for _, reply := range []string{
		"$JS.ACK.DBRUNNER_JOBS_demo.work.3.17.21.1700000000123456789.4",
		"$JS.ACK._.hash.DBRUNNER_JOBS_demo.work.3.17.21.1700000000123456789.4",
		"$JS.ACK.hub.hash.DBRUNNER_JOBS_demo.work.3.17.21.1700000000123456789.4.random",
	} {
		got, ok := parseAck(reply)
		require.True(t, ok, reply)
		require.Equal(t, want, got, reply)
	}
	for _, reply := range []string{
		"", "$JS.ACK.", "$JS.ACK.a.b.c", "$JS.ACK.s.c.3.17.21.1700.4.5", "$JS.ACK.s.c.x.17.21.1700.4",
		"$JS.ACK.s.c.-3.17.21.1700.4", "_INBOX.a.b.3.17.21.1700.4.5.6", "$JS.FC.s.c.3.17.21.1700.4",
	} {
		_, ok := parseAck(reply)
		require.False(t, ok, reply)
	}
}

func FuzzParseAck(f *testing.F) {
	f.Add("$JS.ACK.DBRUNNER_JOBS_demo.work.3.17.21.1700000000123456789.4")
	f.Add("$JS.ACK.hub.hash.DBRUNNER_JOBS_demo.work.3.17.21.1700000000123456789.4.random")
	f.Fuzz(func(t *testing.T, reply string) {
		info, ok := parseAck(reply)
		if !ok {
			return
		}
		again, ok := parseAck(fmt.Sprintf("$JS.ACK.s.c.%d.%d.%d.%d.0",
			info.deliveries, info.sequence, info.consumerSeq, uint64(info.timestamp.UnixNano()))) //nolint:gosec // round trip
		require.True(t, ok)
		require.Equal(t, info, again)
	})
}
