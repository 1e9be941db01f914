package sqlserver

import (
	"context"
	"sync"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// rights is what the last probe found that the login could do. SQL Server has no READ ONLY transaction, so that this is
// what keeps a query from writing.
type rights struct {
	mu     sync.Mutex // guards what follows
	known  bool
	writes bool // the login could write somewhere in the database
	locked bool // the database takes no writes: a readable secondary, or set read-only
}

// The rights that let a login write, in the database as a whole or on one of its tables. The ledger's own table does not count.
const writingRights = `SELECT CAST(CASE WHEN DATABASEPROPERTYEX(DB_NAME(), 'Updateability') = 'READ_ONLY' THEN 1 ELSE 0 END AS bigint),
	CAST(CASE WHEN HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'INSERT') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'UPDATE') = 1
		OR HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'DELETE') = 1 OR HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'ALTER') = 1
		OR HAS_PERMS_BY_NAME(DB_NAME(), 'DATABASE', 'EXECUTE') = 1 OR EXISTS (
			SELECT 1 FROM sys.tables t WHERE t.object_id <> COALESCE(OBJECT_ID(N'dbrunner.ledger'), 0) AND (
				HAS_PERMS_BY_NAME(QUOTENAME(SCHEMA_NAME(t.schema_id)) + N'.' + QUOTENAME(t.name), 'OBJECT', 'INSERT') = 1
				OR HAS_PERMS_BY_NAME(QUOTENAME(SCHEMA_NAME(t.schema_id)) + N'.' + QUOTENAME(t.name), 'OBJECT', 'UPDATE') = 1
				OR HAS_PERMS_BY_NAME(QUOTENAME(SCHEMA_NAME(t.schema_id)) + N'.' + QUOTENAME(t.name), 'OBJECT', 'DELETE') = 1))
		THEN 1 ELSE 0 END AS bigint)`

func (d *Database) readPermissions(ctx context.Context, s *session) error {
	t, err := s.query(ctx, writingRights)
	if err != nil {
		return err
	}
	r := &d.rights
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.locked = true, t.first()[0] == int64(1)
	r.writes = t.first()[1] == int64(1) && !r.locked
	return nil
}

// standby reports whether the database accepts no writes here.
func (r *rights) standby() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.locked
}

// refuseWriter returns an error unless the login is known to be unable to write.
func (r *rights) refuseWriter() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.known:
		return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable, "the login's permissions are not known yet")
	case r.writes:
		return db.Errorf(db.ClassPermanent, contract.CodePermission, "queries are refused here: the login could write, and "+
			"require_read_only_login is set; use a login with db_datareader alone, or a read-only replica").At(0)
	}
	return nil
}

// Advice reports what an operator should know of the database as the last probe found it; empty if there is nothing.
func (d *Database) Advice() []string {
	d.rights.mu.Lock()
	defer d.rights.mu.Unlock()
	switch {
	case !d.rights.known || !d.rights.writes:
		return nil
	case d.settings.readOnlyLogin:
		return []string{"the login could write: queries are refused, as require_read_only_login is set"}
	}
	return []string{"the login can write; only the rollback of its transaction keeps a query from writing; where that " +
		"is not enough, give them a database entry of their own with a login that may only read (docs/sqlserver.md)"}
}
