package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// barePostgres prepares each text once a connection, which pgx does by itself.
type barePostgres struct {
	pool *pgxpool.Pool
}

func openBarePostgres(ctx context.Context, url string) (bareDatabase, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns, config.MinConns = connections, connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	return barePostgres{pool}, err
}

func (b barePostgres) query(ctx context.Context, buf []byte, job *bareJob) ([]byte, error) {
	params, err := plains(job.Params)
	if err != nil {
		return nil, err
	}
	rows, err := b.pool.Query(ctx, job.SQL, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, params...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	buf = append(buf, `"rows":[`...)
	for first := true; rows.Next(); first = false {
		if !first {
			buf = append(buf, ',')
		}
		buf = bareRow(buf, rows.FieldDescriptions(), rows.RawValues())
	}
	return append(buf, ']'), rows.Err()
}

// bareRow writes a row straight from the wire.
func bareRow(buf []byte, columns []pgconn.FieldDescription, values [][]byte) []byte {
	for i := range columns {
		sep := byte(',')
		if i == 0 {
			sep = '{'
		}
		buf = append(append(append(append(buf, sep, '"'), columns[i].Name...), '"'), ':')
		switch v := values[i]; {
		case v == nil:
			buf = append(buf, "null"...)
		case columns[i].DataTypeOID == pgtype.BoolOID:
			buf = strconv.AppendBool(buf, v[0] == 't')
		case columns[i].DataTypeOID == pgtype.Int4OID || columns[i].DataTypeOID == pgtype.Float8OID:
			buf = append(buf, v...)
		default:
			buf = quoted(buf, v)
		}
	}
	return append(buf, '}')
}

// transaction is one round trip: BEGIN, the statements and COMMIT in one pipeline.
func (b barePostgres) transaction(ctx context.Context, buf []byte, job *bareJob) ([]byte, error) {
	batch := new(pgx.Batch)
	batch.Queue("BEGIN")
	for i := range job.Statements {
		params, err := plains(job.Statements[i].Params)
		if err != nil {
			return nil, err
		}
		batch.Queue(job.Statements[i].SQL, params...)
	}
	batch.Queue("COMMIT")
	results := b.pool.SendBatch(ctx, batch)
	defer func() { _ = results.Close() }()
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	buf = append(buf, `"statements":[`...)
	for i := range job.Statements {
		tag, err := results.Exec()
		if err != nil {
			return nil, err
		}
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = append(append(buf, `{"rows_affected":`...), strconv.FormatInt(tag.RowsAffected(), 10)...)
		buf = append(buf, '}')
	}
	tag, err := results.Exec()
	if err == nil && tag.String() != "COMMIT" {
		err = errors.New("not committed")
	}
	return append(buf, ']'), errors.Join(err, results.Close())
}
