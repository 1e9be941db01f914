package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What is said while the link is down is not said later: the message may be somebody else's by then.
func TestVerbsAreNotKeptWhileTheLinkIsDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r := b.run(t, "work", 1)
	b.publish(t, "query", 1)
	m := r.next(t)
	b.node.Stop()
	require.Eventually(t, func() bool { return m.Nak(0) != nil }, 15*time.Second, time.Millisecond, "a NAK was kept for later")
	require.Error(t, m.Ack())
	require.Error(t, b.conn.Reply("_INBOX.somebody.1", []byte("x")))
	b.node.Start()
}
