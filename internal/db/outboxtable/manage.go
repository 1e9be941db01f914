package outboxtable

import (
	"context"
	"database/sql"
	"time"
)

// Shown is a row as operators see it.
type Shown struct {
	Token     string        `json:"token"`
	ID        string        `json:"id"`
	Target    string        `json:"target"`
	Bytes     int64         `json:"bytes"` // of the body
	CreatedAt time.Time     `json:"created_at"`
	Age       time.Duration `json:"-"`
	Claimed   bool          `json:"claimed"`         // by a relay, or it waits for another attempt
	Error     string        `json:"error,omitempty"` // why it is not published
}

// List returns rows, the oldest first.
func (t *Table) List(ctx context.Context, onlyFailed bool, limit int) ([]Shown, error) {
	out := []Shown{}
	rows, err := t.db.QueryContext(ctx, t.sql.List, number(onlyFailed), int64(limit))
	err = each(rows, err, func(rows *sql.Rows) error {
		var s Shown
		var created, now, until int64
		var text sql.NullString
		if err := rows.Scan(&s.Token, &s.ID, &s.Target, &s.Bytes, &created, &now, &until, &text); err != nil {
			return err
		}
		s.CreatedAt, s.Age = time.UnixMicro(created).UTC(), time.Duration(now-created)*time.Microsecond
		s.Claimed, s.Error = until > now && !text.Valid, text.String
		out = append(out, s)
		return nil
	})
	return out, t.explained(err)
}

// Retry takes the error off rows, so that relays publish them, and returns of how many. renew: their age counts from now.
func (t *Table) Retry(ctx context.Context, tokens []string, renew bool) (int64, error) {
	return t.exec(ctx, t.sql.Retry, list(tokens), number(renew))
}

// Remove removes rows and returns how many. A relay may have published them.
func (t *Table) Remove(ctx context.Context, tokens []string) (int64, error) {
	return t.exec(ctx, t.sql.Remove, list(tokens))
}

// Exists reports whether the table is there, as far as the login can see.
func (t *Table) Exists(ctx context.Context) (bool, error) { return t.ask(ctx, t.sql.Exists) }

// Writable reports whether the login may insert, change or delete rows of the table. It is there.
func (t *Table) Writable(ctx context.Context) (bool, error) { return t.ask(ctx, t.sql.Writable) }

func (t *Table) ask(ctx context.Context, text string) (bool, error) {
	var n int64
	err := t.db.QueryRowContext(ctx, text).Scan(&n)
	return n != 0, t.explained(err)
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// DeleteRows starts a statement that deletes rows, on servers.
const DeleteRows = "DELETE FROM dbrunner.outbox WHERE"

// NoToken is the error of a token that none can be.
const NoToken = "a token has another form; runner outbox ls prints them"

// Missing is the error of a table that is missing.
func Missing(table string) string {
	return "the outbox (table " + table + ") is missing or wrong: create it with what `runner outbox ddl` prints"
}

// Denied is the error of a login that lacks privileges on the table.
func Denied(table string) string {
	return "the login of outbox.connection_string may not read, update and delete rows of " + table + ": grant it what `runner outbox ddl` prints"
}
