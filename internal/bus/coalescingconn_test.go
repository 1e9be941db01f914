package bus

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestCoalescingConnWritesArriveInOrder(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	g := newCoalescingConn(near)
	const writes = 10_000
	var want bytes.Buffer
	for i := range writes {
		fmt.Fprintf(&want, "%d,", i)
	}
	got := make(chan []byte, 1)
	go func() {
		all := make([]byte, want.Len())
		_, _ = io.ReadFull(far, all)
		got <- all
	}()
	for i := range writes {
		_, err := fmt.Fprintf(g, "%d,", i)
		require.NoError(t, err)
	}
	require.Equal(t, want.String(), string(<-got))
	require.NoError(t, g.Close())
	_, err := g.Write([]byte("x"))
	require.ErrorIs(t, err, net.ErrClosed)
	require.NoError(t, far.Close())
}

func TestCoalescingConnIsBounded(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe() // without a reader
	g := newCoalescingConn(near)
	defer func() { _ = far.Close() }()
	var writing sync.WaitGroup
	stopped := make(chan error, 1)
	writing.Go(func() {
		for {
			if _, err := g.Write(make([]byte, 100<<10)); err != nil {
				stopped <- err
				return
			}
		}
	})
	time.Sleep(100 * time.Millisecond) // by the clock: the writer has had the time to put in too much
	g.mu.Lock()
	waiting := len(g.waiting)
	g.mu.Unlock()
	require.LessOrEqual(t, waiting, maxGathered)
	require.NoError(t, g.Close(), "it does not wait for who does not read")
	require.ErrorIs(t, <-stopped, net.ErrClosed)
	writing.Wait()
}

// broken takes nothing.
type broken struct {
	net.Conn
	err error
}

func (b *broken) Write([]byte) (int, error) { return 0, b.err }

func TestCoalescingConnReportsALostLink(t *testing.T) {
	t.Parallel()
	near, far := net.Pipe()
	defer func() { _ = far.Close() }()
	lost := errors.New("lost")
	g := newCoalescingConn(&broken{near, lost})
	_, err := g.Write([]byte("x"))
	require.NoError(t, err, "the loss is not detected yet")
	_, err = g.Read(make([]byte, 1))
	require.Error(t, err, "a reader gets the error")
	_, err = g.Write([]byte("x"))
	require.ErrorIs(t, err, lost)
	_ = g.Close() // closed already
}
