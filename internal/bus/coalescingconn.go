package bus

import (
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxGathered is how many bytes may wait to be written; above it who writes waits too.
	maxGathered = 256 << 10
	// keepGathered is the largest buffer that is used again: large results make them grow to a few times maxGathered.
	keepGathered = 2 << 20
	// writeTimeout ends a link that takes nothing any more.
	writeTimeout = time.Minute
)

// coalescingConn is a connection whose writes of one moment become one. The client library flushes after nearly every
// message, and each flush is a system call here, another in the server, and a turn of its loops: more than the message
// itself costs. The goroutine that writes lets all others that can run go first, so that what they publish goes along.
// With nothing else to do that takes no time.
type coalescingConn struct {
	net.Conn
	done chan struct{} // closed when nothing is written any more

	mu      sync.Mutex
	changed *sync.Cond // there is something to write, there is room again, or the end
	waiting []byte
	err     error // of the last write, or that the connection is closed
}

func newCoalescingConn(conn net.Conn) *coalescingConn {
	g := &coalescingConn{Conn: conn, done: make(chan struct{})}
	g.changed = sync.NewCond(&g.mu)
	go g.run() // until Close, which waits for it
	return g
}

// Write takes the bytes. An error is that of an earlier write: the link is lost then, as the reading side sees too.
func (g *coalescingConn) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && len(g.waiting) > 0 && len(g.waiting)+len(p) > maxGathered {
		g.changed.Wait()
	}
	if g.err != nil {
		return 0, g.err
	}
	g.waiting = append(g.waiting, p...)
	g.changed.Broadcast()
	return len(p), nil
}

// SetWriteDeadline does nothing: Write does not write. Each write has a deadline of its own.
func (g *coalescingConn) SetWriteDeadline(time.Time) error { return nil }

// Close drops what was not written: callers that need it to arrive flush first and wait for the server's answer.
func (g *coalescingConn) Close() error {
	g.fail(net.ErrClosed)
	err := g.Conn.Close()
	<-g.done
	return err
}

func (g *coalescingConn) run() {
	defer close(g.done)
	var spare []byte
	for g.await() {
		runtime.Gosched()
		batch := g.take(spare)
		_ = g.Conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // fails only where the write does too
		if _, err := g.Conn.Write(batch); err != nil {
			g.fail(err)
			_ = g.Conn.Close() // so that the reader learns of it
			return
		}
		spare = batch[:0]
		if cap(spare) > keepGathered { // a giant result came through: its memory is not kept
			spare = nil
		}
	}
}

// await returns when there is something to write; false: there will be nothing.
func (g *coalescingConn) await() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.err == nil && len(g.waiting) == 0 {
		g.changed.Wait()
	}
	return g.err == nil
}

// take takes everything that waits and leaves an empty buffer.
func (g *coalescingConn) take(spare []byte) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	batch := g.waiting
	g.waiting = spare
	g.changed.Broadcast()
	return batch
}

func (g *coalescingConn) fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err == nil {
		g.err = err
	}
	g.changed.Broadcast()
}

// dialer makes the gathered connections of one client, which has one at a time.
type dialer struct {
	net      net.Dialer
	seedFile string                    // an nkey's; empty: we sign in another way
	conn     atomic.Pointer[nats.Conn] // nil: not connected yet

	mu   sync.Mutex
	last *coalescingConn // nil before the first
}

// Dial connects to a server of NATS. The client library does not close a connection on which a server refused it.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	d.close()
	d.reloadNKey()
	conn, err := d.net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = newCoalescingConn(conn)
	return d.last, nil
}

// reloadNKey has the login that follows show the public key of the seed that is in the file now: the library reads the
// file for the signature only. It dials with its own lock held, so that no other goroutine reads its options.
func (d *dialer) reloadNKey() {
	nc := d.conn.Load()
	if nc == nil || d.seedFile == "" {
		return
	}
	var now nats.Options
	if set, err := nats.NkeyOptionFromSeed(d.seedFile); err == nil && set(&now) == nil {
		nc.Opts.Nkey = now.Nkey
	}
}

// close closes the last connection, which may be closed already.
func (d *dialer) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last != nil {
		_ = d.last.Close()
		d.last = nil
	}
}
