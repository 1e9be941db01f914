package postgres

import (
	"context"
	"database/sql"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/outboxtable"
)

const outboxDDL = `CREATE SCHEMA IF NOT EXISTS dbrunner;

CREATE TABLE IF NOT EXISTS dbrunner.outbox (
    token         uuid        PRIMARY KEY DEFAULT gen_random_uuid(),
    id            text        NOT NULL, -- of the job
    target        text        NOT NULL, -- such as jobs.billing.transaction
    body          text        NOT NULL, -- of the job, without its id
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until timestamptz NOT NULL DEFAULT clock_timestamp(),
    error         text
);

CREATE INDEX IF NOT EXISTS outbox_due ON dbrunner.outbox (claimed_until) WHERE error IS NULL;
CREATE INDEX IF NOT EXISTS outbox_failed ON dbrunner.outbox (created_at) WHERE error IS NOT NULL;

-- Callers get no other columns: a token or a time of their own could repeat effects.
-- GRANT USAGE ON SCHEMA dbrunner TO application, relay;
-- GRANT INSERT (id, target, body) ON dbrunner.outbox TO application;
-- GRANT SELECT, DELETE, UPDATE (claimed_until, error, created_at, token) ON dbrunner.outbox TO relay;
`

// OutboxDDL returns the statements that create the outbox.
func OutboxDDL() string { return outboxDDL }

const (
	tokensOf = ` token = ANY (ARRAY(SELECT pg_catalog.jsonb_array_elements_text($1::jsonb)::uuid))`
	micros   = `(extract(epoch FROM `
	asMicros = `) * 1000000)::bigint`
	later    = ` now() + make_interval(secs => `
	toSecs   = `::double precision / 1000000)`
)

// outboxSQL are the texts; see outboxtable.SQL. SKIP LOCKED passes rows that another relay claims at this moment, so that no relay waits.
var outboxSQL = outboxtable.SQL{
	Claim: `WITH due AS MATERIALIZED (
	SELECT token, claimed_until, octet_length(body) AS bytes FROM dbrunner.outbox
	WHERE error IS NULL AND claimed_until <= now()
		AND target <> ALL (ARRAY(SELECT pg_catalog.jsonb_array_elements_text($3::jsonb)))
	ORDER BY claimed_until LIMIT $1 FOR UPDATE SKIP LOCKED
), fits AS (
	SELECT token FROM (SELECT token, sum(bytes) OVER (ORDER BY claimed_until, token) - bytes AS before FROM due) d WHERE before < $4
)
UPDATE dbrunner.outbox o SET claimed_until =` + later + `$2` + toSecs + ` FROM fits WHERE o.token = fits.token
RETURNING o.token::text, o.id, o.target, o.body, ` + micros + `o.created_at` + asMicros + `, ` + micros + `now()` + asMicros + `, o.claimed_until`,
	Delete:  outboxtable.DeleteRows + tokensOf + ` AND claimed_until = $2 AND claimed_until > clock_timestamp()`,
	Release: `UPDATE dbrunner.outbox SET claimed_until =` + later + `$3` + toSecs + ` WHERE` + tokensOf + ` AND claimed_until = $2`,
	Fail:    `UPDATE dbrunner.outbox SET error = $3 WHERE token = $1::uuid AND claimed_until = $2`,
	Count: `SELECT w.n, f.n, ` + micros + `w.oldest` + asMicros + ` FROM
	(SELECT count(*) AS n, min(created_at) AS oldest FROM (SELECT created_at FROM dbrunner.outbox WHERE error IS NULL LIMIT $1) r) w,
	(SELECT count(*) AS n FROM (SELECT FROM dbrunner.outbox WHERE error IS NOT NULL LIMIT $1) r) f`,
	List: `SELECT token::text, id, target, octet_length(body), ` + micros + `created_at` + asMicros + `, ` + micros + `now()` + asMicros + `,
	` + micros + `claimed_until` + asMicros + `, error FROM dbrunner.outbox
	WHERE $1 = 0 OR error IS NOT NULL ORDER BY created_at, token LIMIT $2`,
	Retry: `UPDATE dbrunner.outbox SET error = NULL, claimed_until = now(),
	created_at = CASE WHEN $2 = 1 THEN clock_timestamp() ELSE created_at END,
	token = CASE WHEN $2 = 1 THEN gen_random_uuid() ELSE token END WHERE` + tokensOf + ` AND error IS NOT NULL`,
	Remove:   outboxtable.DeleteRows + tokensOf,
	Exists:   `SELECT (to_regclass('dbrunner.outbox') IS NOT NULL)::int`,
	Writable: `SELECT (has_any_column_privilege('dbrunner.outbox', 'INSERT, UPDATE') OR has_table_privilege('dbrunner.outbox', 'DELETE, TRUNCATE'))::int`,
}

// Outbox returns the table of the outbox. It connects to nothing.
func Outbox(opts db.Options) (*outboxtable.Table, error) {
	pool, err := poolConfig(&opts)
	if err != nil {
		return nil, err
	}
	config := pool.ConnConfig
	config.RuntimeParams["application_name"] = applicationName(opts.Runner + "/outbox")
	delete(config.RuntimeParams, checkInterval) // old servers do not know it
	connector := stdlib.GetConnector(*config, stdlib.OptionBeforeConnect(func(_ context.Context, cc *pgx.ConnConfig) error {
		renew(cc, &opts)
		return nil
	}))
	return outboxtable.New(sql.OpenDB(connector), &outboxSQL, func(err error) error { return outboxError(opts.Name, err) }), nil
}

// outboxError makes an error one that can be shown.
func outboxError(database string, err error) error {
	if connecting, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return unreachable(database, connecting)
	}
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return driverError(err)
	}
	e := &db.Error{Class: db.ClassPermanent, Code: contract.CodeDatabase, EngineCode: pg.Code, Statement: -1, Err: pg}
	switch pg.Code {
	case "42P01", "3F000", "42703":
		e.Code, e.Message = contract.CodeUndefined, outboxtable.Missing("dbrunner.outbox")
	case "42501":
		e.Code, e.Message = contract.CodePermission, outboxtable.Denied("dbrunner.outbox")
	case "22P02":
		e.Code, e.Message = contract.CodeData, outboxtable.NoToken
	default:
		e.Class, e.Code, e.Message = judge(pg).class, judge(pg).code, describe(pg, "")
	}
	return e
}
