package sqlserver

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/puddle/v2"

	"dbrunner/internal/db/engine"
	"dbrunner/internal/report"
)

// keepInterval is how often the pool looks after its idle sessions.
const keepInterval = 15 * time.Second

func (d *Database) makePool() error {
	size := d.opts.Pool.Max
	if size <= 0 {
		size = defaultMaxConns
	}
	pool, err := puddle.NewPool(&puddle.Config[*session]{
		Constructor: d.connect,
		Destructor:  func(s *session) { s.destroy() },
		MaxSize:     int32(min(size, 1<<15)),
	})
	if err != nil {
		return err
	}
	d.pool = pool
	d.keeping.Go(d.keep)
	return nil
}

// acquire waits for a session as long as the context lives.
func (d *Database) acquire(ctx context.Context) (*session, error) {
	waited := d.waits.Begin()
	s, err := d.take(ctx)
	d.waited.Add(int64(waited()))
	if err != nil {
		return nil, d.acquireError(ctx, err)
	}
	d.acquires.Add(1)
	return s, nil
}

// take gives out a session that is neither too old nor, after a long pause, gone.
func (d *Database) take(ctx context.Context) (*session, error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		pooled, err := d.pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		s := pooled.Value()
		s.poolConn = pooled
		switch {
		case s.dead || time.Now().After(s.retireAt):
			pooled.Destroy()
		case time.Since(s.idle) > d.pingAfter && !s.ready(ctx):
			pooled.Destroy()
			d.lost()
		default:
			if err := s.conn.ResetSession(ctx); err != nil { // goes with the next request
				pooled.Destroy()
				continue
			}
			return s, nil
		}
	}
}

// ready tries an idle session.
func (s *session) ready(ctx context.Context) bool {
	ctx, done := s.limit(ctx, attentionGrace)
	defer done()
	_, err := s.query(ctx, "SELECT 1")
	return err == nil
}

// release gives the session back, or ends it.
func (d *Database) release(s *session) {
	if s.dead {
		s.poolConn.Destroy()
		return
	}
	// Do not keep a large buffer.
	if s.encoder.Size() > maxIdleRows {
		s.encoder = engine.RowEncoder{}
	}
	s.idle = time.Now()
	s.poolConn.Release()
}

// lost is for a link that the server ended: the other idle connections are most likely gone as well.
func (d *Database) lost() { d.pool.Reset() }

func (d *Database) acquireError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		d.canceled.Add(1)
		return engine.WaitGivenUp(ctx)
	}
	if errors.Is(err, puddle.ErrClosedPool) {
		return engine.Closed(d.opts.Name, errClosed)
	}
	return d.connectError(err)
}

// Stats describes the pool at this moment.
func (d *Database) Stats() report.Pool {
	s := d.pool.Stat()
	waiting, longest := d.waits.Longest()
	return report.Pool{
		Max: int(s.MaxResources()), Total: int(s.TotalResources()), Idle: int(s.IdleResources()), InUse: int(s.AcquiredResources()),
		Waiting:          waiting,
		Acquires:         d.acquires.Load(),
		CanceledAcquires: d.canceled.Load(),
		AcquireWait:      time.Duration(d.waited.Load()),
		LongestWait:      longest,
	}
}

// keep makes the sessions that are always there, and closes those that are too old or were idle for too long.
func (d *Database) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() {
		select {
		case <-d.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	ticker := time.NewTicker(keepInterval)
	defer ticker.Stop()
	for {
		d.fill(ctx)
		select {
		case <-d.stop:
			return
		case <-ticker.C:
		}
		// Close idle sessions that must not be used again, and spare ones.
		spare := int(d.pool.Stat().TotalResources()) - d.opts.Pool.Min
		unused := either(d.opts.Pool.MaxIdleTime, defaultIdleTime)
		for _, pooled := range d.pool.AcquireAllIdle() {
			s := pooled.Value()
			switch {
			case s.dead, time.Now().After(s.retireAt):
				pooled.Destroy()
				spare--
			case spare > 0 && pooled.IdleDuration() > unused:
				pooled.Destroy()
				spare--
			default:
				pooled.ReleaseUnused()
			}
		}
	}
}

// fill makes sessions up to the least number. A server that is not there is met again at the next tick.
func (d *Database) fill(ctx context.Context) {
	least := min(d.opts.Pool.Min, int(d.pool.Stat().MaxResources()))
	for int(d.pool.Stat().TotalResources()) < least {
		if err := d.pool.CreateResource(ctx); err != nil {
			return
		}
	}
}
