package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

var _ db.Preparer = (*Database)(nil)

// Prepare has the server parse the statement, in a transaction that is rolled back.
func (d *Database) Prepare(ctx context.Context, stmt *dialect.Compiled) error {
	return d.own(ctx, db.ClassLost, func(l *lease) error {
		for _, begin := range []string{"BEGIN READ ONLY", d.local} {
			if begin == "" {
				continue
			}
			if _, err := l.query(begin); err != nil {
				return err
			}
		}
		refused := prepareOn(ctx, l, stmt)
		if l.dead {
			return refused
		}
		_, err := l.query("ROLLBACK")
		return errors.Join(refused, err)
	})
}

// prepareOn has the server parse a statement and describe its parameters and columns.
func prepareOn(ctx context.Context, l *lease, stmt *dialect.Compiled) error {
	if err := l.resolve([]*dialect.Compiled{stmt}); err != nil {
		return err
	}
	oids, _ := l.typesOf(stmt.Args)
	sql, origin := castSQL(l.dialect, stmt)
	l.buf = appendSync(appendDescribe(appendParse(l.buf[:0], "", sql, oids), ""))
	_, _, err := l.roundTrip()
	failed, answered := errors.AsType[*pgconn.PgError](err)
	if !answered {
		return err
	}
	l.sent = append(l.sent[:0], sent{sql: sql, origin: origin})
	defer func() { l.sent = l.sent[:0] }()
	return l.failure(ctx, &outcome{failed: failed, at: 0})
}
