package toy

import (
	"context"
	"time"

	"dbrunner/internal/db"
)

// DDL is nothing: the ledger is there with the map.
func DDL() string { return "" }

// insert inserts a row unless its key is taken.
func (s *store) insert(e *db.Entry) bool {
	if _, taken := s.ledger[e.JobID]; taken {
		return false
	}
	row := *e
	row.RecordedAt = time.Now().UTC()
	s.ledger[e.JobID] = row
	return true
}

// Record inserts a row, or returns the one that is there.
func (d *Database) Record(ctx context.Context, entry *db.Entry) (*db.Entry, bool, error) {
	s, err := d.begin(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	defer s.end()
	inserted := d.store.insert(entry)
	row := d.store.ledger[entry.JobID]
	return &row, inserted, nil
}

// RecordEnd writes the end of a job that was started.
func (d *Database) RecordEnd(ctx context.Context, end *db.Entry, _ bool) (*db.Entry, bool, error) {
	s, err := d.begin(ctx, nil)
	if err != nil {
		return nil, false, err
	}
	defer s.end()
	row, ok := d.store.ledger[end.JobID]
	if !ok {
		return nil, false, nil
	}
	if row.Status != db.StatusStarted || !row.SameMessage(end.Sequence, end.Timestamp) {
		return &row, false, nil
	}
	d.store.ledger[end.JobID] = *end
	return end, true, nil
}

// Lookup reads a row.
func (d *Database) Lookup(ctx context.Context, jobID string) (*db.Entry, error) {
	s, err := d.begin(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer s.end()
	if row, ok := d.store.ledger[jobID]; ok {
		return &row, nil
	}
	return nil, nil
}

// Sweep deletes old rows.
func (d *Database) Sweep(ctx context.Context, before time.Time, limit int) (swept int, err error) {
	s, err := d.begin(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer s.end()
	for id, row := range d.store.ledger {
		if swept < limit && row.RecordedAt.Before(before) {
			delete(d.store.ledger, id)
			swept++
		}
	}
	return swept, nil
}
