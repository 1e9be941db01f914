package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

// What is said while the link is down is not said later: the message may be somebody else's by then.
func TestVerbsAreNotKeptWhileTheLinkIsDown(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	r := bustest.Run(t, b.Conn, "work", 1)
	b.Publish(t, "query", 1)
	m := r.Next(t)
	b.Node.Stop()
	require.Eventually(t, func() bool { return m.Nak(0) != nil }, 15*time.Second, time.Millisecond, "a NAK was kept for later")
	require.Error(t, m.Ack())
	require.Error(t, b.Conn.Reply("_INBOX.somebody.1", []byte("x")))
	b.Node.Start()
}
