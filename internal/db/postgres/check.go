package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// checkSQL asks for what only the session knows, so that it reads no table.
const checkSQL = `SELECT current_setting('server_version'), pg_is_in_recovery(), current_setting('transaction_read_only')`

// Check connects beside the pool and asks a trivial question.
func (d *Database) Check(ctx context.Context) (db.CheckResult, error) {
	config := d.connConfig()
	delete(config.RuntimeParams, checkInterval) // older servers do not know it, and nothing here runs long
	started := time.Now()
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return db.CheckResult{}, d.checkNotConnected(ctx, err)
	}
	v := db.CheckResult{Connect: time.Since(started)}
	s := newSession(conn, false, &d.buffers)
	s.watch(ctx, time.Time{})
	defer s.hangUp(ctx)
	started = time.Now()
	rows, err := s.query(checkSQL)
	if err != nil {
		return v, d.checkFailed(ctx, err)
	}
	v.Query, v.Version = time.Since(started), string(rows.first(0))
	v.Role = contract.RolePrimary
	switch {
	case string(rows.first(1)) == "t":
		v.Role, v.ReadOnly = contract.RoleStandby, "the server is a standby and accepts no writes"
	case string(rows.first(2)) == "on":
		v.ReadOnly = "transactions are read-only by default here (default_transaction_read_only)"
	}
	return v, nil
}

func (d *Database) checkNotConnected(ctx context.Context, err error) *db.Error {
	return engine.CheckNotConnected(ctx, err, d.connectError)
}

func (d *Database) checkFailed(ctx context.Context, err error) *db.Error {
	return engine.CheckFailed(ctx, d.opts.Name, err, d.connectError)
}

// hangUp ends a session that is of no pool, without waiting for a server that says nothing.
func (s *session) hangUp(ctx context.Context) {
	s.unwatch()
	if ctx.Err() == nil && !s.dead {
		_ = s.net.SetDeadline(time.Now().Add(time.Second))
		_, _ = s.net.Write(terminate)
	}
	_ = s.net.Close()
	_ = s.pg.Close(ctx)
}
