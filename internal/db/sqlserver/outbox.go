package sqlserver

import (
	"database/sql"
	"errors"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/db/outboxtable"
)

// The outbox's table. A row with an error has the time never as claimed_until, and so is in no batch: a filtered index would
// refuse callers whose sessions have other settings than it needs.
const (
	createOutbox = `IF OBJECT_ID(N'dbrunner.outbox', N'U') IS NULL
CREATE TABLE dbrunner.outbox (
    token         varchar(36)   NOT NULL CONSTRAINT outbox_key PRIMARY KEY NONCLUSTERED
                                CONSTRAINT outbox_token DEFAULT LOWER(CONVERT(varchar(36), NEWID())),
    id            nvarchar(400) NOT NULL, -- of the job
    target        nvarchar(400) NOT NULL, -- such as jobs.billing.transaction
    body          nvarchar(max) NOT NULL, -- of the job, without its id
    created_at    datetime2(6)  NOT NULL CONSTRAINT outbox_created DEFAULT SYSUTCDATETIME(),
    claimed_until datetime2(6)  NOT NULL CONSTRAINT outbox_claimed DEFAULT SYSUTCDATETIME(),
    error         nvarchar(max) NULL
)`
	createOutboxDue = `IF NOT EXISTS (SELECT * FROM sys.indexes WHERE name = N'outbox_due')
CREATE CLUSTERED INDEX outbox_due ON dbrunner.outbox (claimed_until)`
	grantOutbox = `-- Callers get no other columns: a token or a time of their own could repeat effects.
-- GRANT INSERT ON dbrunner.outbox (id, target, body) TO application;
-- GRANT SELECT, DELETE, UPDATE ON dbrunner.outbox TO relay;
`
)

// OutboxDDL returns the statements that create the outbox.
func OutboxDDL() string {
	return createSchema + ";\nGO\n\n" + createOutbox + ";\nGO\n\n" + createOutboxDue + ";\nGO\n\n" + grantOutbox
}

const (
	never         = `CAST('9999-12-31' AS datetime2(6))`
	claimable     = `WITH (READPAST, UPDLOCK, ROWLOCK, READCOMMITTEDLOCK)`
	outboxTokens  = ` token IN (SELECT CAST(value AS varchar(36)) FROM OPENJSON(@p1))`
	claimIs       = ` AND claimed_until = CAST(@p2 AS datetime2(6))`
	sinceEpoch    = `DATEDIFF_BIG(millisecond, CAST('1970-01-01' AS datetime2(6)), `
	currentOutbox = sinceEpoch + `SYSUTCDATETIME()) * 1000`
)

// outboxSQL are the texts; see outboxtable.SQL. Rows that others hold are passed over, also where readers see versions.
var outboxSQL = outboxtable.SQL{
	Claim: `WITH due AS (
	SELECT TOP (@p1) token, claimed_until, DATALENGTH(body) AS bytes FROM dbrunner.outbox ` + claimable + `
	WHERE claimed_until <= SYSUTCDATETIME() AND error IS NULL AND target NOT IN (SELECT value FROM OPENJSON(@p3))
	ORDER BY claimed_until
), fits AS (
	SELECT token, SUM(bytes) OVER (ORDER BY claimed_until, token ROWS UNBOUNDED PRECEDING) - bytes AS before FROM due
)
UPDATE o SET claimed_until = DATEADD(millisecond, @p2 / 1000, SYSUTCDATETIME())
OUTPUT INSERTED.token, INSERTED.id, INSERTED.target, INSERTED.body, INSERTED.created_at, SYSUTCDATETIME(), INSERTED.claimed_until
FROM dbrunner.outbox o INNER JOIN fits ON o.token = fits.token WHERE fits.before < @p4`,
	Delete: outboxtable.DeleteRows + outboxTokens + claimIs + ` AND claimed_until > SYSUTCDATETIME()`,
	Release: `UPDATE dbrunner.outbox SET claimed_until = DATEADD(millisecond, @p3 / 1000, SYSUTCDATETIME())
	WHERE` + outboxTokens + claimIs,
	Fail: `UPDATE dbrunner.outbox SET error = @p3, claimed_until = ` + never + ` WHERE token = CAST(@p1 AS varchar(36))` + claimIs,
	Count: `SELECT (SELECT COUNT(*) FROM (SELECT TOP (@p1) token FROM dbrunner.outbox WITH (READPAST, READCOMMITTEDLOCK) WHERE claimed_until < ` + never + `) w),
	(SELECT COUNT(*) FROM (SELECT TOP (@p1) token FROM dbrunner.outbox WITH (READPAST, READCOMMITTEDLOCK) WHERE claimed_until >= ` + never + `) f),
	(SELECT ` + sinceEpoch + `MIN(created_at)) * 1000 FROM (SELECT TOP (@p1) created_at FROM dbrunner.outbox WITH (READPAST, READCOMMITTEDLOCK)
		WHERE claimed_until < ` + never + `) o)`,
	List: `SELECT TOP (@p2) token, id, target, CAST(DATALENGTH(body) AS bigint), ` + sinceEpoch + `created_at) * 1000, ` + currentOutbox + `,
	` + sinceEpoch + `claimed_until) * 1000, error
	FROM dbrunner.outbox WITH (READPAST, READCOMMITTEDLOCK) WHERE @p1 = 0 OR error IS NOT NULL ORDER BY created_at, token`,
	Retry: `UPDATE dbrunner.outbox SET error = NULL, claimed_until = SYSUTCDATETIME(),
	created_at = CASE WHEN @p2 = 1 THEN SYSUTCDATETIME() ELSE created_at END, token = CASE WHEN @p2 = 1 THEN LOWER(CONVERT(varchar(36), NEWID())) ELSE token END
	WHERE` + outboxTokens + ` AND error IS NOT NULL`,
	Remove: outboxtable.DeleteRows + outboxTokens,
	Exists: `SELECT CAST(CASE WHEN OBJECT_ID(N'dbrunner.outbox', N'U') IS NULL THEN 0 ELSE 1 END AS bigint)`,
	Writable: `SELECT CAST(HAS_PERMS_BY_NAME(N'dbrunner.outbox', N'OBJECT', N'INSERT') + HAS_PERMS_BY_NAME(N'dbrunner.outbox', N'OBJECT', N'UPDATE') +
	HAS_PERMS_BY_NAME(N'dbrunner.outbox', N'OBJECT', N'DELETE') AS bigint)`,
}

// Outbox returns the table of the outbox. It connects to nothing.
func Outbox(opts db.Options) (*outboxtable.Table, error) {
	own, err := parseSettings(opts.Settings)
	if err != nil {
		return nil, err
	}
	opts.Runner += "/outbox"
	made, err := newConnectors(&opts, own)
	if err != nil {
		return nil, err
	}
	explain := (&migrations{opts: opts, settings: own}).outboxError
	return outboxtable.New(sql.OpenDB(&connecting{made.now}), &outboxSQL, explain), nil
}

// outboxError makes an error one that can be shown.
func (m *migrations) outboxError(err error) error {
	server, ok := errors.AsType[mssql.Error](err)
	_, connecting := errors.AsType[*connectFailure](err)
	switch {
	case !ok && !connecting:
		return engine.DriverError(err)
	case ok && server.Number == 208 || strings.Contains(server.Message, "does not exist"):
		return db.Errorf(db.ClassPermanent, contract.CodeUndefined, "%s", outboxtable.Missing("dbrunner.outbox"))
	case ok && (server.Number == 229 || server.Number == 230):
		return db.Errorf(db.ClassPermanent, contract.CodePermission, "%s", outboxtable.Denied("dbrunner.outbox"))
	}
	return m.Explain(err, nil)
}
