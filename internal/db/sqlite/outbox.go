package sqlite

import (
	"fmt"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/outboxtable"
)

// outboxTable is the table of the outbox.
const outboxTable = "dbrunner_outbox"

// Times of the outbox are milliseconds since 1970, as old versions of SQLite, which callers may use, know them.
const (
	nowMillis       = `CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)`
	createOutboxSQL = `CREATE TABLE IF NOT EXISTS main.dbrunner_outbox (
    token         TEXT    NOT NULL PRIMARY KEY DEFAULT (lower(hex(randomblob(16)))),
    id            TEXT    NOT NULL, -- of the job
    target        TEXT    NOT NULL, -- such as jobs.billing.transaction
    body          TEXT    NOT NULL, -- of the job, without its id
    created_at    INTEGER NOT NULL DEFAULT (` + nowMillis + `),
    claimed_until INTEGER NOT NULL DEFAULT (` + nowMillis + `),
    error         TEXT
)`
	createOutboxDueSQL    = `CREATE INDEX IF NOT EXISTS main.dbrunner_outbox_due ON dbrunner_outbox (claimed_until) WHERE error IS NULL`
	createOutboxFailedSQL = `CREATE INDEX IF NOT EXISTS main.dbrunner_outbox_failed ON dbrunner_outbox (created_at) WHERE error IS NOT NULL`
)

// OutboxDDL returns the statements that create the outbox, which a runner does by itself.
func OutboxDDL() string {
	return strings.Join([]string{createOutboxSQL, createOutboxDueSQL, createOutboxFailedSQL}, ";\n\n") + ";\n"
}

const (
	outboxTokens = ` token IN (SELECT value FROM json_each(?1))`
	dueRows      = ` FROM main.dbrunner_outbox WHERE error IS NULL AND claimed_until <= ` + nowMillis + `
	AND target NOT IN (SELECT value FROM json_each(`
)

// outboxSQL are the texts; see outboxtable.SQL.
var outboxSQL = outboxtable.SQL{
	Create: []string{createOutboxSQL, createOutboxDueSQL, createOutboxFailedSQL},
	// An UPDATE takes the lock of writers, also if it changes nothing.
	Due: `SELECT 1` + dueRows + `?1)) LIMIT 1`,
	Claim: `UPDATE main.dbrunner_outbox SET claimed_until = ` + nowMillis + ` + ?2 / 1000 WHERE token IN (
	SELECT token FROM (
		SELECT token, sum(bytes) OVER (ORDER BY claimed_until, token) - bytes AS before FROM (
			SELECT token, claimed_until, length(CAST(body AS BLOB)) AS bytes` + dueRows + `?3)) ORDER BY claimed_until LIMIT ?1))
	WHERE before < ?4)
RETURNING token, id, target, body, created_at * 1000, ` + nowMillis + ` * 1000, claimed_until`,
	Delete: `DELETE FROM main.dbrunner_outbox WHERE` + outboxTokens + ` AND claimed_until = ?2 AND claimed_until > ` + nowMillis,
	Release: `UPDATE main.dbrunner_outbox SET claimed_until = ` + nowMillis + ` + ?3 / 1000
	WHERE` + outboxTokens + ` AND claimed_until = ?2`,
	Fail: `UPDATE main.dbrunner_outbox SET error = ?3 WHERE token = ?1 AND claimed_until = ?2`,
	Count: `SELECT (SELECT count(*) FROM (SELECT 1 FROM main.dbrunner_outbox WHERE error IS NULL LIMIT ?1)),
	(SELECT count(*) FROM (SELECT 1 FROM main.dbrunner_outbox WHERE error IS NOT NULL LIMIT ?1)),
	(SELECT min(created_at) * 1000 FROM (SELECT created_at FROM main.dbrunner_outbox WHERE error IS NULL LIMIT ?1))`,
	List: `SELECT token, id, target, length(CAST(body AS BLOB)), created_at * 1000, ` + nowMillis + ` * 1000, claimed_until * 1000, error
	FROM main.dbrunner_outbox WHERE ?1 = 0 OR error IS NOT NULL ORDER BY created_at, token LIMIT ?2`,
	Retry: `UPDATE main.dbrunner_outbox SET error = NULL, claimed_until = ` + nowMillis + `,
	created_at = CASE WHEN ?2 = 1 THEN ` + nowMillis + ` ELSE created_at END,
	token = CASE WHEN ?2 = 1 THEN lower(hex(randomblob(16))) ELSE token END WHERE` + outboxTokens + ` AND error IS NOT NULL`,
	Remove:   `DELETE FROM main.dbrunner_outbox WHERE` + outboxTokens,
	Exists:   hasTable + `'` + outboxTable + `'`,
	Writable: `SELECT 0`, // there are no logins: the authorizer keeps jobs away from the table
}

// Outbox returns the table of the outbox. It does not touch the file.
func Outbox(opts db.Options) (*outboxtable.Table, error) {
	s, err := parseOptions(opts)
	if err != nil {
		return nil, err
	}
	m := &migrations{opts: opts, settings: s}
	sessions, err := m.Open(false)
	if err != nil {
		return nil, fmt.Errorf("outbox of %s: %w", opts.Name, err)
	}
	return outboxtable.New(sessions, &outboxSQL, outboxError), nil
}

// outboxError makes an error one that can be shown.
func outboxError(err error) error {
	f := faultOf(err)
	switch {
	case f == nil:
		return engine.DriverError(err)
	case f.primary() == sqlite3.SQLITE_ERROR:
		return db.Errorf(db.ClassPermanent, contract.CodeUndefined, "%s", outboxtable.Missing(outboxTable)).Because(f)
	default:
		return classify(f, opening)
	}
}
