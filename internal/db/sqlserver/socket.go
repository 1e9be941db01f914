package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/internal/db"
)

// keepAlive is how often an idle link is tried by the operating system.
const keepAlive = 30 * time.Second

// sockets are the network connections that one session of the driver was given: all that it dialled, of which it
// keeps one. The driver has no way to end a call that waits for a network that says nothing, and while it waits for
// a message it does not notice that the link is gone; both are seen to here, under it.
type sockets struct {
	dialer net.Dialer

	mu     sync.Mutex // guards what follows
	open   []net.Conn
	cut    bool
	failed error  // the first of a read or a write
	onLoss func() // of the request under way; nil between requests
	call   uint64 // counts calls: an alarm that rings late must not meet the next one
	alarm  *time.Timer
}

func newSockets() *sockets { return &sockets{dialer: net.Dialer{KeepAlive: keepAlive}} }

// DialContext connects for the driver.
func (s *sockets) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := s.dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.open = append(s.open, conn)
	late := s.cut
	s.mu.Unlock()
	if late {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	return &socket{Conn: conn, s: s}, nil
}

// socket notifies its session of a link that ends in the middle of an answer.
type socket struct {
	net.Conn
	s *sockets
}

// Read reads from the server; an error ends the request that waits for the answer.
func (c *socket) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.s.lost(err)
	}
	return n, err
}

// Write writes to the server. The driver reports its error by a text alone.
func (c *socket) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		c.s.lost(err)
	}
	return n, err
}

func (s *sockets) lost(err error) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = err
	}
	report := s.onLoss
	s.mu.Unlock()
	if report != nil {
		report()
	}
}

// judge adds to an error of the driver's what the socket knows: that the link was lost. The driver drops the cause of what it could not send.
func (s *sockets) judge(err error) error {
	_, said := errors.AsType[mssql.Error](err)
	_, own := errors.AsType[*db.Error](err)
	if err == nil || said || own || s == nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		return err
	}
	return fmt.Errorf("%w (%w): %w", errLinkLost, s.failed, err)
}

// watch has report called when the link is lost; nil ends it.
func (s *sockets) watch(report func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onLoss = report
}

// begin starts a call, in which the link may be cut.
func (s *sockets) begin() (call uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.call++
	return s.call
}

// cutAfter cuts the link when the time is over and the call is not, whatever the driver waits for.
func (s *sockets) cutAfter(call uint64, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call != call {
		return
	}
	if s.alarm != nil {
		s.alarm.Stop()
	}
	s.alarm = time.AfterFunc(d, func() {
		s.mu.Lock()
		due := s.call == call
		s.mu.Unlock()
		if due {
			s.close()
		}
	})
}

// end ends a call: nothing cuts the link for it any more.
func (s *sockets) end(call uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.call != call {
		return
	}
	s.call++
	if s.alarm != nil {
		s.alarm.Stop()
	}
}

// close ends the link immediately: a read or write under way returns.
func (s *sockets) close() {
	s.mu.Lock()
	s.cut = true
	open := s.open
	s.open = nil
	s.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}
