package verify

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	mssql "github.com/microsoft/go-mssqldb"
	_ "modernc.org/sqlite" // SQLite's driver for database/sql
)

// pageRows is how many ledger rows are read at a time.
const pageRows = 500

// queryTimeout bounds one query of the ledger.
const queryTimeout = time.Minute

// Ledger reads the ledger of one database over a connection of its own. It only selects.
type Ledger struct {
	db                  *sql.DB
	sql                 *dialect
	namespace, database string
}

// dialect is how one engine is asked.
type dialect struct {
	table, key       string // of a placeholder: what precedes its number
	digest, start    string // expressions: the answer's SHA-256, and its first KiB: job, status, hash and message
	first            string // after SELECT, in place of a LIMIT
	limit            string
	readOnly         bool // transactions can be
	nanoseconds      bool // times are numbers
	wholeAnswerFirst bool // the server cannot hash: the answer is read instead
}

var dialects = map[string]*dialect{
	"postgres": {
		table: "dbrunner.ledger", key: "$", digest: "pg_catalog.sha256(answer)", start: "pg_catalog.substr(answer, 1, 1024)",
		limit: " LIMIT 500", readOnly: true,
	},
	"sqlserver": {
		table: "dbrunner.ledger", key: "@p", digest: "HASHBYTES('SHA2_256', answer)", start: "SUBSTRING(answer, 1, 1024)", first: "TOP 500 ",
	},
	"sqlite": {
		table: "main.dbrunner_ledger", key: "?", digest: "answer", start: "substr(answer, 1, 1024)", limit: " LIMIT 500",
		nanoseconds: true, wholeAnswerFirst: true,
	},
}

// OpenLedger opens the ledger of a database: its engine and connection string are those of the configuration. No connection
// is made yet.
func OpenLedger(engine, connection, namespace, database string) (*Ledger, error) {
	d := dialects[engine]
	if d == nil {
		return nil, fmt.Errorf("databases of engine %s cannot be verified; only those of postgres, sqlserver and sqlite can", engine)
	}
	open := map[string]func(string) (*sql.DB, error){"postgres": openPostgres, "sqlite": openSQLite, "sqlserver": openSQLServer}[engine]
	opened, err := open(connection)
	if err != nil {
		return nil, err
	}
	opened.SetMaxOpenConns(1)
	return &Ledger{db: opened, sql: d, namespace: namespace, database: database}, nil
}

func openPostgres(connection string) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(connection)
	if err != nil {
		return nil, errors.New("the connection string is not one of PostgreSQL") // err may quote it
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // poolers in transaction mode have no prepared statements
	return stdlib.OpenDB(*cfg), nil
}

func openSQLite(connection string) (*sql.DB, error) {
	name := connection
	if !strings.HasPrefix(name, "file:") {
		name = "file:" + (&url.URL{Path: connection}).EscapedPath()
	}
	opened, err := sql.Open("sqlite", name+"?mode=ro&_pragma=busy_timeout(20000)&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.New("the connection string is not one of SQLite")
	}
	return opened, nil
}

func openSQLServer(connection string) (*sql.DB, error) {
	connector, err := mssql.NewConnector(connection)
	if err != nil {
		return nil, errors.New("the connection string is not one of SQL Server") // err may quote it
	}
	return sql.OpenDB(connector), nil
}

// Close closes the connection.
func (l *Ledger) Close() error { return l.db.Close() }

// row is one row of the ledger.
type row struct {
	id       string
	hash     string // hexadecimal
	status   string
	message  message
	recorded time.Time
	digest   []byte // of the answer; only of rows that are looked up
	start    head   // what the first bytes of the answer say
	startErr error
	answer   []byte // only of rows that are read whole
}

func (r *row) fingerprint() string { return r.id + "\x00" + r.message.derived() }

// columns are read of each row, before what is read of its answer.
const columns = "job_id, request_hash, status, sequence, message_time, recorded_at"

// lookUp reads the rows of some ids.
func (l *Ledger) lookUp(ctx context.Context, ids []string) (map[string]*row, error) {
	found := make(map[string]*row, len(ids))
	if len(ids) == 0 {
		return found, nil
	}
	args := []any{l.namespace, l.database}
	marks := make([]string, len(ids))
	for i, id := range ids {
		args = append(args, l.text(id))
		marks[i] = l.mark(len(args))
	}
	query := "SELECT " + columns + ", " + l.sql.digest + ", " + l.sql.start + " FROM " + l.sql.table + " WHERE namespace = " + l.mark(1) +
		" AND database_name = " + l.mark(2) + " AND job_id IN (" + strings.Join(marks, ", ") + ")"
	err := l.each(ctx, query, args, func(r *row, digest, start []byte) {
		r.digest = digest
		r.start, r.startErr = readStart(start)
		found[r.id] = r
	})
	return found, err
}

// read reads a row with its whole answer; nil if there is none.
func (l *Ledger) read(ctx context.Context, id string) (found *row, err error) {
	query := "SELECT " + columns + ", NULL, answer FROM " + l.sql.table + " WHERE namespace = " + l.mark(1) + " AND database_name = " +
		l.mark(2) + " AND job_id = " + l.mark(3)
	err = l.each(ctx, query, []any{l.namespace, l.database, l.text(id)}, func(r *row, _, answer []byte) {
		r.answer = answer
		r.start, r.startErr = readStart(answer)
		found = r
	})
	return found, err
}

// cursor is where a page of rows starts: behind a row.
type cursor struct {
	recorded time.Time
	id       string
}

// page reads the next rows in the order in which they were recorded, of messages up to a time, and returns the cursor for the
// following page; nil: there is none.
func (l *Ledger) page(ctx context.Context, from cursor, until time.Time, each func(*row) error) (*cursor, error) {
	query := "SELECT " + l.sql.first + columns + ", NULL, " + l.sql.start + " FROM " + l.sql.table + " WHERE namespace = " + l.mark(1) +
		" AND database_name = " + l.mark(2) + " AND recorded_at >= " + l.mark(3) + " AND (recorded_at > " + l.mark(4) + " OR job_id > " +
		l.mark(5) + ") AND message_time <= " + l.mark(6) + " ORDER BY recorded_at, job_id" + l.sql.limit
	at := l.time(from.recorded)
	rows := make([]*row, 0, pageRows)
	err := l.each(ctx, query, []any{l.namespace, l.database, at, at, l.text(from.id), until.UnixNano()}, func(r *row, _, start []byte) {
		r.start, r.startErr = readStart(start)
		rows = append(rows, r)
	})
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	for _, r := range rows {
		if err := each(r); err != nil {
			return nil, err
		}
	}
	last := rows[len(rows)-1]
	return &cursor{last.recorded, last.id}, nil
}

// text is how an id is written as an argument: SQL Server's columns have no Unicode, and an index serves only their own type.
func (l *Ledger) text(id string) any {
	if l.sql.first != "" {
		return mssql.VarChar(id)
	}
	return id
}

func (l *Ledger) mark(n int) string { return fmt.Sprint(l.sql.key, n) }

// time is how a time is written as an argument.
func (l *Ledger) time(t time.Time) any {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	if l.sql.nanoseconds {
		return t.UnixNano()
	}
	return t.UTC()
}

// queryAttempts is how often a query is made until it succeeds: the server may be failing over.
const queryAttempts = 3

// each runs a query and hands over its rows, when all have arrived.
func (l *Ledger) each(ctx context.Context, query string, args []any, take func(r *row, first, second []byte)) error {
	for attempt := 1; ; attempt++ {
		rows, err := l.query(ctx, query, args)
		if err == nil {
			for i := range rows {
				take(&rows[i].row, rows[i].first, rows[i].second)
			}
			return nil
		}
		if attempt == queryAttempts || ctx.Err() != nil {
			return cmp.Or(interrupted(ctx), fmt.Errorf("read the ledger (table %s): %w", l.sql.table, err))
		}
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

// scanned is a row with what was read of its answer.
type scanned struct {
	row
	first, second []byte
}

func (l *Ledger) query(ctx context.Context, query string, args []any) (out []scanned, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	run := l.db.QueryContext
	if l.sql.readOnly {
		tx, err := l.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		defer func() { _ = tx.Rollback() }()
		run = tx.QueryContext
	}
	rows, err := run(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		r, err := l.scan(rows)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

func (l *Ledger) scan(rows *sql.Rows) (scanned, error) {
	var r scanned
	var hash []byte
	var at, nanoseconds int64
	var recorded any = &r.recorded
	if l.sql.nanoseconds {
		recorded = &nanoseconds
	}
	err := rows.Scan(&r.id, &hash, &r.status, &r.message.sequence, &at, recorded, &r.first, &r.second)
	if l.sql.nanoseconds {
		r.recorded = time.Unix(0, nanoseconds)
	}
	r.hash, r.message.at = hex.EncodeToString(hash), time.Unix(0, at).UTC()
	if l.sql.wholeAnswerFirst && len(r.first) > 0 { // kept no longer than it has to be
		sum := digestOf(r.first)
		r.first = sum[:]
	}
	return r, err
}
