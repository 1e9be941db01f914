package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/manager"
)

var _ bulk.Objects = (*rowsStore)(nil)

// rowsStore is the bucket of rows that have no room in results, of which so many are written at the same time at most.
type rowsStore struct {
	bucket *objects.Bucket
	places chan struct{}
}

// Bucket is the bucket's name.
func (s *rowsStore) Bucket() string { return s.bucket.Name() }

// Ready waits for a link to the servers.
func (s *rowsStore) Ready(ctx context.Context) error { return s.bucket.Ready(ctx) }

// Create starts an object when there is a place for it.
func (s *rowsStore) Create(ctx context.Context, database, name string) (bulk.Object, error) {
	select {
	case s.places <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for other rows to be written: %w", context.Cause(ctx))
	}
	w, err := s.bucket.Create(database, name)
	if err != nil {
		<-s.places
		return nil, err
	}
	return &rowsObject{w: w, leave: sync.OnceFunc(func() { <-s.places })}, nil
}

// Complete reports whether the whole of an object is there.
func (s *rowsStore) Complete(ctx context.Context, name string) (bool, error) {
	o, err := s.bucket.Lookup(ctx, name)
	if o == nil || err != nil {
		return false, err
	}
	return s.bucket.Complete(ctx, o)
}

// rowsObject is an object that is being written.
type rowsObject struct {
	w     *objects.Writer
	leave func() // gives its place to another
}

func (o *rowsObject) Write(ctx context.Context, p []byte) error {
	return inJobsWords(o.w.Write(ctx, p))
}

func (o *rowsObject) Close(ctx context.Context) (size int64, digest string, err error) {
	defer o.leave()
	stored, err := o.w.Close(ctx)
	if err != nil {
		return 0, "", inJobsWords(err)
	}
	return stored.Size, stored.Digest, nil
}

func (o *rowsObject) Discard(ctx context.Context) error {
	defer o.leave()
	return o.w.Discard(ctx)
}

func inJobsWords(err error) error {
	if errors.Is(err, bus.ErrStreamFull) {
		return errors.Join(bulk.ErrRowsFull, err)
	}
	return err
}

const (
	// rowsSweepInterval is the interval between scans for unreferenced rows; a part of it is random, so that
	// runners do not all look at the same time.
	rowsSweepInterval = 10 * time.Minute
	// rowsGrace is how much longer than the longest execution rows are left alone.
	rowsGrace = time.Hour
)

// rowsSweeper removes rows that no result names, as a runner leaves them that was killed. All ages are the server's, by
// its own clock.
type rowsSweeper struct {
	conn      *bus.Conn
	sweep     *objects.Sweep
	bucket    *objects.Bucket
	databases map[string]*database
	grace     time.Duration
	named     map[string]bool // that were found to be named by a result
	log       *zap.Logger
}

func (r *running) newRowsSweeper() *rowsSweeper {
	s := &rowsSweeper{
		conn: r.conn, sweep: objects.Rows(r.conn).Sweep(), bucket: objects.Rows(r.conn), databases: make(map[string]*database, len(r.databases)),
		grace: rowsGrace, named: make(map[string]bool), log: r.log.Named("rows"),
	}
	for _, d := range r.databases {
		s.databases[d.Name] = d
		s.grace = max(s.grace, rowsGrace+manager.Policy(r.cfg, d.Config).LongestTimeout())
	}
	return s
}

// Run looks from time to time until the context ends.
func (s *rowsSweeper) Run(ctx context.Context) error {
	timer := time.NewTimer(s.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		removed, err := s.sweepOnce(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("scan for unreferenced rows failed; retrying", zap.Error(err))
		}
		if removed > 0 {
			s.log.Info("removed unreferenced rows", zap.Int("objects", removed))
		}
		timer.Reset(s.pause())
	}
}

func (*rowsSweeper) pause() time.Duration { return rowsSweepInterval/2 + rand.N(rowsSweepInterval) }

// sweepOnce removes what no result names any more, and returns how many objects that were.
func (s *rowsSweeper) sweepOnce(ctx context.Context) (removed int, _ error) {
	objects, err := s.sweep.Objects(ctx)
	if err != nil {
		return 0, err
	}
	named := make(map[string]bool, len(s.named))
	for _, o := range objects {
		keep, err := s.keeps(ctx, o)
		if err != nil {
			return removed, err
		}
		if keep {
			named[o.Name] = s.named[o.Name]
			continue
		}
		if err := s.bucket.Remove(ctx, o); err != nil {
			return removed, err
		}
		removed++
	}
	s.named = named
	n, err := s.sweep.Abandoned(ctx, s.grace, func(group string) bool { return s.databases[group] != nil })
	return removed + n, err
}

// keeps reports whether an object is to stay: it is not of our databases, or young, or its job's message is still in the
// queue, or a result or the ledger names it. The message goes after the result has been stored, so it is looked for first.
func (s *rowsSweeper) keeps(ctx context.Context, o *objects.Object) (bool, error) {
	name, ids := bulk.RowsOf(o.Name)
	d := s.databases[name]
	if d == nil || s.named[o.Name] || s.sweep.Age(o) < s.grace {
		return true, nil
	}
	if sequence, stored, ok := contract.MessageOf(ids[len(ids)-1]); ok {
		if queued, err := bus.IsQueued(ctx, s.conn, d.Name, sequence, stored); queued || err != nil {
			return true, err
		}
	}
	for _, id := range ids {
		result, err := d.results.StoredResult(ctx, id)
		if err != nil {
			return false, err
		}
		if bytes.Contains(result, []byte(o.Name)) {
			s.named[o.Name] = true
			return true, nil
		}
	}
	if !d.Config.HasLedger() {
		return false, nil
	}
	row, err := d.DB.Lookup(ctx, ids[0])
	if err != nil {
		return true, nil //nolint:nilerr // the answer may name it: another sweep will see
	}
	return row != nil && bytes.Contains(row.Answer, []byte(o.Name)), nil
}
