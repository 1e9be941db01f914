package network

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// connected is both ends of a connection through a way.
func connected(t *testing.T) (w *Way, client, server net.Conn) {
	t.Helper()
	target, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = target.Close() })
	w, err = NewWay(target.Addr().String())
	require.NoError(t, err)
	t.Cleanup(w.Close)
	client, err = net.Dial("tcp", w.Address())
	require.NoError(t, err)
	server, err = target.Accept()
	require.NoError(t, err)
	return w, client, server
}

// carried sends a byte and reads it at the other end.
func carried(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	_, err := from.Write([]byte(text))
	require.NoError(t, err)
	buf := make([]byte, len(text))
	require.NoError(t, to.SetReadDeadline(time.Time{}))
	_, err = io.ReadFull(to, buf)
	require.NoError(t, err)
	require.Equal(t, text, string(buf))
}

// A way that is lost in one direction carries the other one, and what it held arrives in order afterwards.
func TestWayLosesOneDirection(t *testing.T) {
	t.Parallel()
	w, client, server := connected(t)
	for _, c := range []struct{ from, to net.Conn }{{client, server}, {server, client}} {
		carried(t, c.from, c.to, "a")
		w.Lose(c.from == client, c.from == server)
		carried(t, c.to, c.from, "b")
		_, err := c.from.Write([]byte("c"))
		require.NoError(t, err)
		require.NoError(t, c.to.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
		_, err = c.to.Read(make([]byte, 1))
		require.ErrorContains(t, err, "timeout")
		w.Restore()
		buf := make([]byte, 1)
		require.NoError(t, c.to.SetReadDeadline(time.Time{}))
		_, err = io.ReadFull(c.to, buf)
		require.NoError(t, err)
		require.Equal(t, "c", string(buf))
	}
}

// A slow way carries everything, no sooner than its delay, and a connection that waits does not outlive it.
func TestWayIsSlow(t *testing.T) {
	t.Parallel()
	w, client, server := connected(t)
	w.Slow(100*time.Millisecond, 0.5)
	sent := time.Now()
	carried(t, client, server, "late")
	require.GreaterOrEqual(t, time.Since(sent), 100*time.Millisecond)
	w.Lose(true, true)
	_, err := client.Write([]byte("never"))
	require.NoError(t, err)
	w.Close()
	_, err = client.Read(make([]byte, 1))
	require.Error(t, err)
}
