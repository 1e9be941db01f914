package main

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"sync"
)

// bareSQL is a database behind database/sql. Of SQLite it reads on several connections and writes on one, in WAL mode,
// synced in each COMMIT as the runner's.
type bareSQL struct {
	readers, writer *sql.DB

	mu       sync.Mutex
	prepared map[string]*sql.Stmt // by text; readers' and writer's texts differ
}

const barePragmas = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate"

func openBareSQLite(path string) (bareDatabase, error) {
	b := &bareSQL{prepared: map[string]*sql.Stmt{}}
	var err error
	if b.readers, err = sql.Open("sqlite", "file:"+path+barePragmas); err != nil {
		return nil, err
	}
	if b.writer, err = sql.Open("sqlite", "file:"+path+barePragmas); err != nil {
		return nil, err
	}
	b.readers.SetMaxOpenConns(connections - 1)
	b.readers.SetMaxIdleConns(connections - 1)
	b.writer.SetMaxOpenConns(1)
	return b, nil
}

func (b *bareSQL) prepare(ctx context.Context, db *sql.DB, text string) (*sql.Stmt, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.prepared[text]; s != nil {
		return s, nil
	}
	s, err := db.PrepareContext(ctx, text) //nolint:sqlclosecheck // kept until the process ends
	if err == nil {
		b.prepared[text] = s
	}
	return s, err
}

func (b *bareSQL) query(ctx context.Context, buf []byte, job *bareJob) ([]byte, error) {
	stmt, err := b.prepare(ctx, b.readers, job.SQL) //nolint:sqlclosecheck // kept until the process ends
	if err != nil {
		return nil, err
	}
	params, err := numbers(job.Params)
	if err != nil {
		return nil, err
	}
	rows, err := stmt.QueryContext(ctx, params...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	buf = append(buf, `"rows":[`...)
	for first := true; rows.Next(); first = false {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		if !first {
			buf = append(buf, ',')
		}
		buf = sqlRow(buf, columns, values)
	}
	return append(buf, ']'), rows.Err()
}

func sqlRow(buf []byte, columns []string, values []any) []byte {
	for i, name := range columns {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		buf = append(append(append(append(buf, sep, '"'), name...), '"'), ':')
		switch v := values[i].(type) {
		case int64:
			buf = strconv.AppendInt(buf, v, 10)
		case string:
			buf = quoted(buf, []byte(v))
		default:
			buf = fmt.Appendf(buf, "%v", v)
		}
	}
	return append(buf, '}')
}

// transaction prepares before it starts: SQLite's one connection for writers would not be there otherwise.
func (b *bareSQL) transaction(ctx context.Context, buf []byte, job *bareJob) ([]byte, error) {
	stmts := make([]*sql.Stmt, len(job.Statements))
	for i := range job.Statements {
		var err error
		stmts[i], err = b.prepare(ctx, b.writer, job.Statements[i].SQL) //nolint:sqlclosecheck // kept until the process ends
		if err != nil {
			return nil, err
		}
	}
	tx, err := b.writer.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	buf = append(buf, `"statements":[`...)
	for i, stmt := range stmts {
		params, err := numbers(job.Statements[i].Params)
		if err != nil {
			return nil, err
		}
		result, err := tx.StmtContext(ctx, stmt).ExecContext(ctx, params...) //nolint:sqlclosecheck // the transaction's end closes it
		if err != nil {
			return nil, err
		}
		affected, err := result.RowsAffected()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = fmt.Appendf(buf, `{"rows_affected":%d}`, affected)
	}
	return append(buf, ']'), tx.Commit()
}

// numbers are parameters as these engines want them: a number as a number.
func numbers[T ~[]byte](raw []T) ([]any, error) {
	out := make([]any, len(raw))
	for i := range raw {
		n, err := strconv.ParseInt(string(raw[i]), 10, 64)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}
