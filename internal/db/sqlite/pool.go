package sqlite

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/report"
)

// pool is a bounded set of connections of one kind. A connection to a file does not age, so none is closed
// for its age or for being idle; of PoolOptions, Max alone has a meaning here.
type pool struct {
	database string // its configured name
	open     func(context.Context) (*session, error)
	slots    chan struct{} // one element for each connection in use

	mu     sync.Mutex // guards idle and closed
	idle   []*session // the last one was used last
	closed bool

	waits                      engine.Waits
	acquires, canceled, waited atomic.Int64
}

func newPool(database string, size int, open func(context.Context) (*session, error)) *pool {
	return &pool{database: database, open: open, slots: make(chan struct{}, size)}
}

// acquire gives out a connection, opening one where none is idle; release must follow.
func (p *pool) acquire(ctx context.Context) (*session, *db.Error) {
	if failure := p.enter(ctx); failure != nil {
		return nil, failure
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		<-p.slots
		return nil, engine.Closed(p.database, errClosed)
	}
	var c *session
	if n := len(p.idle); n > 0 {
		c, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	p.acquires.Add(1)
	if c != nil {
		return c, nil
	}
	c, err := p.open(ctx)
	if err != nil {
		<-p.slots
		return nil, notOpened(ctx, err)
	}
	return c, nil
}

// enter takes a slot, waiting for one as long as the context lives.
func (p *pool) enter(ctx context.Context) *db.Error {
	if ctx.Err() == nil {
		select {
		case p.slots <- struct{}{}:
			return nil
		default:
		}
	}
	waited := p.waits.Begin()
	defer func() { p.waited.Add(int64(waited())) }()
	select {
	case <-ctx.Done():
	case p.slots <- struct{}{}:
		if ctx.Err() == nil {
			return nil
		}
		<-p.slots
	}
	p.canceled.Add(1)
	return engine.WaitGivenUp(ctx)
}

// errClosed is the cause of what a closed pool refuses.
var errClosed = errors.New("sqlite: closed")

// release takes a connection back.
func (p *pool) release(c *session) {
	p.mu.Lock()
	keep := !c.spoilt && !p.closed
	var gone []*session
	switch {
	case keep:
		p.idle = append(p.idle, c)
	case c.moved: // one job is enough that finds out
		gone, p.idle = p.idle, nil
	}
	p.mu.Unlock()
	if !keep {
		c.close()
	}
	for _, c := range gone {
		c.close()
	}
	<-p.slots
}

// close refuses new calls, waits for those under way and closes all connections.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	idle := p.idle
	p.idle = nil
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
	for range cap(p.slots) {
		p.slots <- struct{}{}
	}
	for range cap(p.slots) {
		<-p.slots
	}
}

// add adds the pool's numbers to the statistics.
func (p *pool) add(s *report.Pool) {
	p.mu.Lock()
	idle := len(p.idle)
	p.mu.Unlock()
	used := len(p.slots)
	s.Max += cap(p.slots)
	s.Idle += idle
	s.InUse += used
	s.Total += min(idle+used, cap(p.slots))
	waiting, longest := p.waits.Longest()
	s.Waiting += waiting
	s.LongestWait = max(s.LongestWait, longest)
	s.Acquires += p.acquires.Load()
	s.CanceledAcquires += p.canceled.Load()
	s.AcquireWait += time.Duration(p.waited.Load())
}
