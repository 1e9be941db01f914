package control

import (
	"context"
	"fmt"
	"sync"

	"dbrunner/internal/bus"
)

// progress is whether all that a bucket keeps has been read over the link that stands.
type progress struct {
	conn *bus.Conn
	what string // that is read

	mu    sync.Mutex
	known uint64        // renewals of the link, and one, when everything had been read last; 0: never
	read  chan struct{} // closed at the next time that everything has been read
}

func newProgress(conn *bus.Conn, what string) *progress {
	return &progress{conn: conn, what: what, read: make(chan struct{})}
}

// Ready waits until all that was kept before has been read.
func (p *progress) Ready(ctx context.Context) error {
	for {
		renewals, connected := p.conn.Link()
		p.mu.Lock()
		known, read := p.known, p.read
		p.mu.Unlock()
		if connected && known > renewals {
			return nil
		}
		select {
		case <-read:
		case <-ctx.Done():
			return fmt.Errorf("read %s: %w", p.what, context.Cause(ctx))
		}
	}
}

// Known reports whether all that was kept before has been read over the link that stands.
func (p *progress) Known() bool {
	renewals, connected := p.conn.Link()
	p.mu.Lock()
	defer p.mu.Unlock()
	return connected && p.known > renewals
}

// caughtUp notes that everything has been read over a link that was renewed that often.
func (p *progress) caughtUp(renewals uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = renewals + 1
	close(p.read)
	p.read = make(chan struct{})
}
