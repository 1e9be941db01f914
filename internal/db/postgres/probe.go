package postgres

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// ledgerColumns are the ledger's columns with their types.
var ledgerColumns = [][2]string{
	{"namespace", "text"},
	{"database_name", "text"},
	{"job_id", "text"},
	{"request_hash", "bytea"},
	{"status", "text"},
	{"answer", "bytea"},
	{"sequence", "bigint"},
	{"message_time", "bigint"},
	{"runner", "text"},
	{"recorded_at", "timestamp with time zone"},
}

const (
	createSchema = `CREATE SCHEMA IF NOT EXISTS dbrunner`
	createTable  = `CREATE TABLE IF NOT EXISTS dbrunner.ledger (
    namespace     text        NOT NULL,
    database_name text        NOT NULL, -- as the runners' configuration names it
    job_id        text        NOT NULL,
    request_hash  bytea,                -- SHA-256 of the request; NULL if it could not be read
    status        text        NOT NULL,
    answer        bytea       NOT NULL, -- the result as published: JSON in UTF-8
    sequence      bigint      NOT NULL, -- of the message in the jobs stream
    message_time  bigint      NOT NULL, -- when the stream took the message, nanoseconds since 1970
    runner        text        NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, database_name, job_id)
)`
	createIndex = `CREATE INDEX IF NOT EXISTS ledger_recorded_at
    ON dbrunner.ledger (namespace, database_name, recorded_at)`
	// ddlLock keeps runners that create the table at the same moment apart: IF NOT EXISTS alone can fail then.
	ddlLock = `SELECT pg_catalog.pg_advisory_xact_lock(7236833224101)`
)

// DDL is what a DBA runs where the ledger is `verify`, with the rights that the runners' login needs.
func DDL() string {
	return createSchema + ";\n\n" + createTable + ";\n\n" + createIndex + ";\n\n" +
		"-- The runners' login, here dbrunner, needs:\n" +
		"-- GRANT USAGE ON SCHEMA dbrunner TO dbrunner;\n" +
		engine.GrantLedger
}

// Probe reaches the server and verifies the limits of a session (a new connection proves them), the ledger, and
// that the server takes writes where the ledger needs them.
func (d *Database) Probe(ctx context.Context) error {
	return d.own(ctx, db.ClassLost, func(l *lease) error {
		if err := l.countsRows(); err != nil {
			return err
		}
		if d.opts.Ledger == db.LedgerOff {
			_, err := l.query(`SELECT 1`)
			return err
		}
		if err := l.takesWrites(); err != nil {
			return err
		}
		return d.blind(l.verifyLedger())
	})
}

// blind says of an error that the login may not look at the ledger, if that is what it says.
func (d *Database) blind(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Code == "42501" {
		return engine.Unfit(d.opts.Name, "the login may not look into the schema dbrunner; grant it USAGE on the schema and "+
			"SELECT, INSERT, UPDATE, DELETE on dbrunner.ledger")
	}
	return err
}

func (l *lease) takesWrites() error {
	rows, err := l.query(`SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')`)
	if err != nil {
		return err
	}
	switch {
	case string(rows.first(0)) == "t":
		return engine.Unfit(l.d.opts.Name, "the server is a standby and accepts no writes, so that exactly_once jobs cannot run; "+
			"connect to the primary (target_session_attrs=read-write), or set ledger: off for reads only")
	case string(rows.first(1)) == "on":
		return engine.Unfit(l.d.opts.Name, "transactions are read-only by default here, so that exactly_once jobs cannot run; "+
			"set default_transaction_read_only off for the login, or set ledger: off for reads only")
	}
	return nil
}

func (l *lease) verifyLedger() error {
	return engine.VerifyLedger(l.d.opts.Name, l.d.opts.Ledger, ledgerColumns, "missing", engine.LedgerLook{
		Columns: l.columns, Create: l.createLedger, HasKey: l.hasKey, MissingRights: l.missingRights,
	})
}

// columns are the names and types of the ledger's columns, nil if there is no such table.
func (l *lease) columns() ([][2]string, error) {
	rows, err := l.query(`SELECT attname, format_type(atttypid, NULL) FROM pg_catalog.pg_attribute
		WHERE attrelid = to_regclass('dbrunner.ledger') AND attnum > 0 AND NOT attisdropped`)
	var out [][2]string
	for _, row := range rows {
		out = append(out, [2]string{string(row.value(0)), string(row.value(1))})
	}
	return out, err
}

// hasKey looks for the unique key that is the fence: without it an effect could happen twice.
func (l *lease) hasKey() (bool, error) {
	rows, err := l.query(`SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = to_regclass('dbrunner.ledger')
		AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
		AND (SELECT array_agg(a.attname::text ORDER BY a.attname) FROM pg_catalog.pg_attribute a
			WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = '{database_name,job_id,namespace}'`)
	return len(rows) > 0, err
}

// missingRights are those that the login has not.
func (l *lease) missingRights() (missing []string, err error) {
	rows, err := l.query(`SELECT p FROM unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) p
		WHERE NOT has_table_privilege('dbrunner.ledger', p)`)
	for _, row := range rows {
		missing = append(missing, string(row.value(0)))
	}
	return missing, err
}

// createLedger makes the table. The statements go together, so that they are one transaction.
func (l *lease) createLedger() error {
	rows, err := l.query(`SELECT to_regnamespace('dbrunner') IS NULL`)
	if err != nil {
		return err
	}
	ddl := []string{"BEGIN", ddlLock}
	if string(rows.first(0)) == "t" { // IF NOT EXISTS wants the right to create schemas even where one exists
		ddl = append(ddl, createSchema)
	}
	ddl = append(ddl, createTable, createIndex, "COMMIT")
	l.buf = appendSimple(l.buf[:0], strings.Join(ddl, "; "))
	_, _, err = l.roundTrip()
	pg, answered := errors.AsType[*pgconn.PgError](err)
	if !answered {
		return err
	}
	l.undo()
	if pg.Code == "42501" {
		return engine.MayNotCreate(l.d.opts.Name, createRights)
	}
	return err
}

// createRights are what creating the ledger takes.
const createRights = "CREATE on the database"

// DryRun is Probe without its effects.
func (d *Database) DryRun(ctx context.Context) (creates []string, err error) {
	err = d.own(ctx, db.ClassLost, func(l *lease) error {
		if d.opts.Ledger == db.LedgerOff {
			_, err := l.query(`SELECT 1`)
			return err
		}
		if err := l.takesWrites(); err != nil {
			return err
		}
		rows, err := l.query(`SELECT to_regclass('dbrunner.ledger') IS NULL`)
		if err != nil {
			return d.blind(err)
		}
		if d.opts.Ledger != db.LedgerManage || string(rows.first(0)) != "t" {
			return d.blind(l.verifyLedger())
		}
		creates = []string{engine.LedgerTable}
		rows, err = l.query(`SELECT CASE WHEN to_regnamespace('dbrunner') IS NULL THEN has_database_privilege(current_database(), 'CREATE')
			ELSE has_schema_privilege('dbrunner', 'CREATE') AND has_schema_privilege('dbrunner', 'USAGE') END`)
		if err == nil && string(rows.first(0)) != "t" {
			return engine.MayNotCreate(d.opts.Name, createRights)
		}
		return err
	})
	return creates, err
}
