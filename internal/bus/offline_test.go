package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

// What is published while the link is down is not sent later: the message may be another runner's by then.
func TestVerbsAreNotKeptWhileTheLinkIsDown(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	r := bustest.Run(t, b.Conn, "work", 1)
	b.Publish(t, "query", 1)
	m := r.Next(t)
	b.Node.Stop()
	require.Eventually(t, func() bool { return m.Nak(0) != nil }, 15*time.Second, time.Millisecond, "a NAK was kept for later")
	require.Error(t, m.Ack())
	require.Error(t, b.Conn.Reply("_INBOX.other.1", []byte("x")))
	b.Node.Start()
}
