package sqlserver

import (
	"context"
	"fmt"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

const (
	checkSQL = `SELECT CAST(SERVERPROPERTY('ProductVersion') AS nvarchar(128)),
	CAST(DATABASEPROPERTYEX(DB_NAME(), 'Updateability') AS nvarchar(128))`
	// replicaSQL is asked apart: on some servers it needs the right VIEW SERVER STATE. NULL: no availability group.
	replicaSQL = `SELECT CAST(sys.fn_hadr_is_primary_replica(DB_NAME()) AS bigint)`
)

// Check connects beside the pool and asks a trivial question.
func (d *Database) Check(ctx context.Context) (db.CheckResult, error) {
	var v db.CheckResult
	started := time.Now()
	s, err := d.dial(ctx)
	if err != nil {
		return v, d.checkNotConnected(ctx, err)
	}
	defer s.destroy()
	defer context.AfterFunc(ctx, s.net.close)()
	v.Connect = time.Since(started)
	started = time.Now()
	t, err := s.query(ctx, checkSQL)
	if err != nil {
		return v, d.checkFailed(ctx, err)
	}
	v.Query, v.Version = time.Since(started), fmt.Sprint(t.first()[0])
	if t.first()[1] == "READ_ONLY" {
		v.ReadOnly = "the database is read-only here: a secondary replica, or set so"
	}
	v.Role = s.role(ctx)
	return v, nil
}

// role is what the server is among its replicas, empty where it or the login cannot know.
func (s *session) role(ctx context.Context) contract.Role {
	t, err := s.query(ctx, replicaSQL)
	if err != nil || len(t.rows) == 0 {
		return ""
	}
	switch t.first()[0] {
	case int64(1):
		return contract.RolePrimary
	case int64(0):
		return contract.RoleStandby
	}
	return ""
}

func (d *Database) checkNotConnected(ctx context.Context, err error) *db.Error {
	return engine.CheckNotConnected(ctx, err, d.connectError)
}

func (d *Database) checkFailed(ctx context.Context, err error) *db.Error {
	return engine.CheckFailed(ctx, d.opts.Name, err, d.connectError)
}
