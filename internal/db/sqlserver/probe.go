package sqlserver

import (
	"context"
	"errors"
	"fmt"
	"slices"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// The ledger's table. Names are compared byte by byte: two ids that differ in case alone are two.
const (
	createSchema = `IF SCHEMA_ID(N'dbrunner') IS NULL EXEC (N'CREATE SCHEMA dbrunner')`
	createTable  = `IF OBJECT_ID(N'dbrunner.ledger', N'U') IS NULL
CREATE TABLE dbrunner.ledger (
    namespace     varchar(128) COLLATE Latin1_General_BIN2 NOT NULL,
    database_name varchar(64)  COLLATE Latin1_General_BIN2 NOT NULL, -- as the runners' configuration names it
    job_id        varchar(128) COLLATE Latin1_General_BIN2 NOT NULL,
    request_hash  varbinary(32) NULL,      -- SHA-256 of the request; NULL if it could not be read
    status        varchar(32) NOT NULL,
    answer        varbinary(max) NOT NULL, -- the result as published: JSON in UTF-8
    sequence      bigint NOT NULL,         -- of the message in the jobs stream
    message_time  bigint NOT NULL,         -- when the stream took the message, nanoseconds since 1970
    runner        varchar(128) NOT NULL,
    recorded_at   datetime2(7) NOT NULL CONSTRAINT ledger_recorded_now DEFAULT SYSUTCDATETIME(),
    CONSTRAINT ledger_key PRIMARY KEY (namespace, database_name, job_id)
)`
	createIndex = `IF NOT EXISTS (SELECT 1 FROM sys.indexes
    WHERE object_id = OBJECT_ID(N'dbrunner.ledger') AND name = N'ledger_recorded_at')
CREATE INDEX ledger_recorded_at ON dbrunner.ledger (namespace, database_name, recorded_at)`
)

// ledgerColumns are the ledger's columns with their types.
var ledgerColumns = [][2]string{
	{"namespace", "varchar"},
	{"database_name", "varchar"},
	{"job_id", "varchar"},
	{"request_hash", "varbinary"},
	{"status", "varchar"},
	{"answer", "varbinary"},
	{"sequence", "bigint"},
	{"message_time", "bigint"},
	{"runner", "varchar"},
	{"recorded_at", "datetime2"},
}

// DDL is what a DBA runs where the ledger is `verify`, with the rights that the runners' login needs.
func DDL() string {
	return createSchema + ";\nGO\n\n" + createTable + ";\nGO\n\n" + createIndex + ";\nGO\n\n" +
		"-- The runners' user, here dbrunner, needs:\n" +
		engine.GrantLedger
}

// Probe reaches the server, looks at what the login could write, and verifies the ledger.
func (d *Database) Probe(ctx context.Context) error {
	return d.own(ctx, db.ClassLost, func(ctx context.Context, s *session) error {
		if _, err := s.query(ctx, d.texts.own); err != nil {
			return err
		}
		if err := d.readPermissions(ctx, s); err != nil {
			return err
		}
		if d.opts.Ledger == db.LedgerOff {
			return nil
		}
		return d.verifyLedger(ctx, s)
	})
}

func (d *Database) verifyLedger(ctx context.Context, s *session) error {
	if d.rights.standby() {
		return engine.Unfit(d.opts.Name, "the database is read-only here (a secondary replica, or set so), so that exactly_once jobs cannot run; "+
			"connect to the primary, or set ledger: off for reads only")
	}
	return engine.VerifyLedger(d.opts.Name, d.opts.Ledger, ledgerColumns, "missing, or the login may not see it", engine.LedgerLook{
		Columns:       func() ([][2]string, error) { return s.columns(ctx) },
		Create:        func() error { return d.createLedger(ctx, s) },
		HasKey:        func() (bool, error) { return s.hasKey(ctx) },
		MissingRights: func() ([]string, error) { return s.missingRights(ctx) },
	})
}

// columns are the names and types of the ledger's columns, none if there is no such table.
func (s *session) columns(ctx context.Context) ([][2]string, error) {
	t, err := s.query(ctx, `SELECT CAST(c.name AS nvarchar(128)), CAST(TYPE_NAME(c.user_type_id) AS nvarchar(128))
		FROM sys.columns c WHERE c.object_id = OBJECT_ID(N'dbrunner.ledger')`)
	if err != nil {
		return nil, err
	}
	var out [][2]string
	for _, row := range t.rows {
		out = append(out, [2]string{fmt.Sprint(row[0]), fmt.Sprint(row[1])})
	}
	return out, nil
}

// hasKey reports whether the ledger has its unique key, the fence: without it an effect could happen twice.
func (s *session) hasKey(ctx context.Context) (bool, error) {
	t, err := s.query(ctx, `SELECT CAST(i.index_id AS bigint), CAST(c.name AS nvarchar(128)) FROM sys.indexes i
		JOIN sys.index_columns x ON x.object_id = i.object_id AND x.index_id = i.index_id
		JOIN sys.columns c ON c.object_id = x.object_id AND c.column_id = x.column_id
		WHERE i.object_id = OBJECT_ID(N'dbrunner.ledger') AND i.is_unique = 1 AND i.is_disabled = 0`)
	if err != nil {
		return false, err
	}
	keys := map[string][]string{}
	for _, row := range t.rows {
		keys[fmt.Sprint(row[0])] = append(keys[fmt.Sprint(row[0])], fmt.Sprint(row[1]))
	}
	for _, columns := range keys {
		slices.Sort(columns)
		if slices.Equal(columns, []string{"database_name", "job_id", "namespace"}) {
			return true, nil
		}
	}
	return false, nil
}

// missingRights are those that the login has not.
func (s *session) missingRights(ctx context.Context) (missing []string, err error) {
	for _, right := range []string{"SELECT", "INSERT", "UPDATE", "DELETE"} {
		t, err := s.query(ctx, "SELECT CAST(HAS_PERMS_BY_NAME(N'dbrunner.ledger', N'OBJECT', N'"+right+"') AS bigint)")
		if err != nil {
			return nil, err
		}
		if t.first()[0] != int64(1) {
			missing = append(missing, right)
		}
	}
	return missing, nil
}

// ledgerLock keeps runners that create the table at the same moment apart.
const ledgerLock = `DECLARE @got int;
EXEC @got = sp_getapplock @Resource = N'dbrunner.ledger', @LockMode = 'Exclusive', @LockOwner = 'Transaction', @LockTimeout = 10000;
SELECT CAST(@got AS bigint)`

// createRights are what creating the ledger takes.
const createRights = "CREATE SCHEMA and CREATE TABLE"

// Numbers of what is there already: an object, and a schema.
const (
	objectExists = 2714
	schemaFailed = 2759
)

// createLedger creates the table in one transaction. It returns nil if another runner was faster: the table is then complete.
func (d *Database) createLedger(ctx context.Context, s *session) error {
	for _, text := range []string{
		d.texts.own + "BEGIN TRANSACTION", ledgerLock, createSchema, createTable, createIndex, "COMMIT TRANSACTION",
	} {
		_, err := s.query(ctx, text)
		if err == nil {
			continue
		}
		e, ok := errors.AsType[mssql.Error](err)
		if !ok {
			return err
		}
		s.rollback(ctx)
		switch code := judge(&e).code; {
		case e.Number == objectExists || e.Number == schemaFailed:
			return nil
		case code == contract.CodePermission || code == contract.CodeUndefined:
			return engine.MayNotCreate(d.opts.Name, createRights)
		}
		return err
	}
	return nil
}
