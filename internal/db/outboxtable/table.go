package outboxtable

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"
)

// Row is a row of an outbox.
type Row struct {
	Token     string // random, of this row alone
	ID        string // of the job
	Target    string // the job's subject behind the namespace
	Body      string // of the job, without its id
	CreatedAt time.Time
	Age       time.Duration // by the database's clock
}

// Claim is what a relay claims.
type Claim struct {
	Rows  int           // at most
	Bytes int64         // of bodies; one row is claimed whatever its size
	For   time.Duration // until another relay may claim them
	Skip  []string      // targets whose rows are left alone
}

// Claimed are the rows of one claim.
type Claimed struct {
	Rows  []Row
	until any // claimed_until, as the database has it
}

// Count is how an outbox is. Neither number goes beyond MaxCount.
type Count struct {
	Waiting int       // rows without an error
	Failed  int       // rows with one
	Oldest  time.Time // of the waiting ones; zero: there are none
}

// MaxCount bounds the numbers of a Count.
const MaxCount = 10_000

// SQL are an engine's texts. Lists are JSON arrays of texts; durations and sizes are whole numbers. A time is a whole number of
// microseconds since 1970 where it is returned; Claim may return the engine's own type.
type SQL struct {
	// Create creates the table where it is missing; none: a DBA does.
	Create []string
	// Due returns a row if there is something to claim, where looking costs less than claiming: targets to skip. Empty: Claim looks.
	Due string
	// Claim: rows, microseconds, targets to skip, bytes. It returns token, id, target, body, created_at, now, claimed_until as it is
	// stored.
	Claim string
	// Delete and Release: tokens, claimed_until; Release also microseconds from now. Delete leaves rows whose claim is over.
	Delete, Release string
	// Fail: token, claimed_until, error.
	Fail string
	// Count: the largest number. It returns waiting, failed, created_at of the oldest that waits or NULL.
	Count string
	// List: whether only rows with an error, rows. It returns token, id, target, bytes of the body, created_at, now, claimed_until, error or NULL.
	List string
	// Retry takes the error off rows that have one: tokens, whether created_at becomes now and token another one, so that the stream
	// takes the job for no copy of one that it has stored late. Remove: tokens.
	Retry, Remove string
	// Exists and Writable return one row with a number: 0 if the table is missing, or the login may not write to it.
	Exists, Writable string
}

// Table is the outbox of one database. It is safe for concurrent use.
type Table struct {
	db      *sql.DB
	sql     *SQL
	explain func(error) error
}

// New returns the table that a login reaches. explain makes errors of the driver ones that can be shown. The caller closes the
// table, which closes the database.
func New(database *sql.DB, texts *SQL, explain func(error) error) *Table {
	database.SetMaxOpenConns(1)
	database.SetMaxIdleConns(1)
	return &Table{db: database, sql: texts, explain: explain}
}

// Close closes the connection.
func (t *Table) Close() error { return t.db.Close() }

// Prepare creates the table if it is missing and the engine leaves that to runners.
func (t *Table) Prepare(ctx context.Context) error {
	for _, text := range t.sql.Create {
		if _, err := t.db.ExecContext(ctx, text); err != nil {
			return t.explain(err)
		}
	}
	return nil
}

// Claim claims rows that are due. The claim is committed when it returns; after an error, it may be.
func (t *Table) Claim(ctx context.Context, c Claim) (*Claimed, error) {
	skip, claimed := list(c.Skip), &Claimed{}
	if t.sql.Due != "" {
		due := false
		rows, err := t.db.QueryContext(ctx, t.sql.Due, skip)
		err = each(rows, err, func(*sql.Rows) error { due = true; return nil })
		if err != nil || !due {
			return claimed, t.explained(err)
		}
	}
	rows, err := t.db.QueryContext(ctx, t.sql.Claim, int64(c.Rows), c.For.Microseconds(), skip, c.Bytes)
	err = each(rows, err, func(rows *sql.Rows) error {
		var r Row
		var created, now any
		if err := rows.Scan(&r.Token, &r.ID, &r.Target, &r.Body, &created, &now, &claimed.until); err != nil {
			return err
		}
		r.CreatedAt = moment(created)
		r.Age = moment(now).Sub(r.CreatedAt)
		claimed.Rows = append(claimed.Rows, r)
		return nil
	})
	return claimed, t.explained(err)
}

// moment is a time as a database returns it: by its own type, or in microseconds since 1970.
func moment(v any) time.Time {
	switch v := v.(type) {
	case time.Time:
		return v.UTC()
	case int64:
		return time.UnixMicro(v).UTC()
	default:
		return time.Time{}
	}
}

// Delete deletes rows of a claim that is still valid, and returns how many. Those of a claim that is over are another relay's.
func (t *Table) Delete(ctx context.Context, c *Claimed, tokens []string) (int64, error) {
	return t.exec(ctx, t.sql.Delete, list(tokens), c.until)
}

// Release lets rows of a claim be claimed again after a pause.
func (t *Table) Release(ctx context.Context, c *Claimed, tokens []string, pause time.Duration) error {
	_, err := t.exec(ctx, t.sql.Release, list(tokens), c.until, pause.Microseconds())
	return err
}

// Fail sets the error of a row of a claim: it is not claimed again.
func (t *Table) Fail(ctx context.Context, c *Claimed, token, text string) error {
	_, err := t.exec(ctx, t.sql.Fail, token, c.until, text)
	return err
}

// Count counts the rows.
func (t *Table) Count(ctx context.Context) (Count, error) {
	var c Count
	var oldest sql.NullInt64
	err := t.db.QueryRowContext(ctx, t.sql.Count, int64(MaxCount)).Scan(&c.Waiting, &c.Failed, &oldest)
	if oldest.Valid {
		c.Oldest = time.UnixMicro(oldest.Int64).UTC()
	}
	return c, t.explained(err)
}

func (t *Table) exec(ctx context.Context, text string, args ...any) (int64, error) {
	done, err := t.db.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, t.explain(err)
	}
	return done.RowsAffected()
}

func (t *Table) explained(err error) error {
	if err == nil {
		return nil
	}
	return t.explain(err)
}

// each reads rows to their end.
func each(rows *sql.Rows, err error, row func(*sql.Rows) error) error {
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // Err says more
	for rows.Next() {
		if err := row(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func list(values []string) string {
	if len(values) == 0 {
		return "[]"
	}
	text, _ := json.Marshal(values) // texts always can be
	return string(text)
}
