package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/report"
)

// sweepPause lies between two batches, so that the clean-up never crowds out jobs.
const sweepPause = 50 * time.Millisecond

// Ledger is the clean-up side of a database's ledger; see db.Database.
type Ledger interface {
	// Now is the server's clock.
	Now(ctx context.Context) (time.Time, error)
	// Sweep deletes at most limit rows that were recorded earlier than before, and returns how many.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)
}

// Backlog is a database's jobs stream as the clean-up sees it.
type Backlog interface {
	// Oldest returns the timestamp of the oldest message still in the stream; false if the stream is empty.
	Oldest(ctx context.Context) (time.Time, bool, error)
}

// SweeperOptions is what a sweeper is made with.
type SweeperOptions struct {
	Database  string
	Ledger    Ledger
	Backlog   Backlog
	Gate      *Gate         // nothing is swept while it is closed
	Retention time.Duration // the least age of a row that is deleted
	Interval  time.Duration // between two sweeps
	Timeout   time.Duration // of one call
	Batch     int           // rows a statement at most
	Logger    *zap.Logger
}

// Sweeper deletes the ledger rows of one database that no message can meet any more: those recorded longer than the
// retention before the oldest message in the stream was taken. Every runner may sweep; a row is deleted once.
type Sweeper struct {
	opts SweeperOptions
	log  *zap.Logger

	mu    sync.Mutex
	state report.Sweep
}

// NewSweeper returns a sweeper.
func NewSweeper(opts SweeperOptions) (*Sweeper, error) {
	switch {
	case opts.Ledger == nil || opts.Backlog == nil || opts.Gate == nil || opts.Logger == nil:
		return nil, errors.New("worker: a sweeper requires ledger, backlog, gate and logger")
	case opts.Retention <= 0 || opts.Interval <= 0 || opts.Timeout <= 0 || opts.Batch <= 0:
		return nil, errors.New("worker: a sweeper requires positive retention, interval, timeout and batch")
	}
	return &Sweeper{opts: opts, log: opts.Logger.With(zap.String("database", opts.Database))}, nil
}

// State describes the clean-up.
func (s *Sweeper) State() report.Sweep {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Run sweeps once in each interval until ctx ends. It returns nil.
func (s *Sweeper) Run(ctx context.Context) error {
	for sleep(ctx, jitter(s.opts.Interval)) == nil {
		if s.opts.Gate.awaitOpen(ctx) != nil {
			break
		}
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.Warn("ledger cleanup failed; retrying", zap.Duration("after", s.opts.Interval), zap.Error(err))
		}
	}
	return nil
}

// Sweep deletes, batch by batch, all rows that may be deleted now.
func (s *Sweeper) Sweep(ctx context.Context) error {
	err := s.sweep(ctx)
	s.note(func(st *report.Sweep) {
		st.At, st.Error = time.Now(), ""
		if err != nil {
			st.Error = err.Error()
		}
	})
	return err
}

func (s *Sweeper) sweep(ctx context.Context) error {
	before, err := s.horizon(ctx)
	if err != nil {
		return err
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, s.opts.Timeout)
		deleted, err := s.opts.Ledger.Sweep(bounded, before, s.opts.Batch)
		cancel()
		if err != nil {
			return fmt.Errorf("delete ledger rows: %w", err)
		}
		s.note(func(st *report.Sweep) { st.Deleted += int64(deleted) })
		if deleted < s.opts.Batch {
			return nil
		}
		if err := sleep(ctx, sweepPause); err != nil {
			return err
		}
	}
}

// horizon returns the time before which rows may be deleted. The server's clock is read first: a message that enters
// an empty stream while it is looked at is younger than that.
func (s *Sweeper) horizon(ctx context.Context) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, s.opts.Timeout)
	defer cancel()
	now, err := s.opts.Ledger.Now(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("read the server's clock: %w", err)
	}
	oldest, found, err := s.opts.Backlog.Oldest(ctx)
	if err != nil {
		return time.Time{}, fmt.Errorf("look for the oldest message: %w", err)
	}
	base := now
	if found && oldest.Before(now) { // of two clocks the earlier one deletes less
		base = oldest
	}
	before := base.Add(-s.opts.Retention)
	s.note(func(st *report.Sweep) {
		st.Before, st.HeldBackBy = before, time.Time{}
		if now.Sub(base) > s.opts.Interval {
			st.HeldBackBy = oldest
		}
	})
	return before, nil
}

func (s *Sweeper) note(change func(*report.Sweep)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
}
