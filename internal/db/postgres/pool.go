package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// hook puts the engine's own steps into the pool's: what a new connection proves, and what an idle one does
// before it is used.
func (d *Database) hook(config *pgxpool.Config) {
	config.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
		renew(cc, &d.opts)
		if d.noCheckInterval.Load() {
			delete(cc.RuntimeParams, checkInterval)
		}
		return nil
	}
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		s := newSession(conn, !d.opts.TransactionPool, &d.buffers)
		s.watch(ctx, time.Now().Add(d.connectTimeout))
		defer s.unwatch()
		if err := d.learn(s); err != nil || d.opts.TransactionPool {
			return err
		}
		// Check that a new session has the limits that it asked for: what stands between may have dropped them.
		for name, value := range limitParameters(&d.opts.Limits) {
			rows, err := s.query(`SELECT (extract(epoch FROM current_setting($1)::interval) * 1000)::bigint`, name)
			if err != nil {
				return err
			}
			if string(rows.first(0)) != value {
				return db.Errorf(db.ClassUnavailable, contract.CodeUnavailable,
					"database %s does not keep the session's limits (%s): a pooler drops start-up parameters; set pooler: transaction",
					d.opts.Name, name)
			}
		}
		return nil
	}
	config.BeforeClose = func(conn *pgx.Conn) {
		if s := sessionOf(conn); s != nil && !s.dead {
			// Read what is pending: an unread answer would close the connection with a reset, which servers log.
			_ = s.net.SetDeadline(time.Now().Add(time.Second))
			_ = s.drain()
		}
	}
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
	config.PrepareConn = func(ctx context.Context, conn *pgx.Conn) (bool, error) {
		s := sessionOf(conn)
		if s.ready(ctx, d.pingAfter) {
			return true, nil
		}
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		if s.unclean {
			return false, nil
		}
		d.lost() // one after the other would be found dead, each in its time
		return false, nil
	}
}

// acquire waits for a session as long as the context lives.
func (d *Database) acquire(ctx context.Context) (*session, error) {
	waited := d.waits.Begin()
	conn, err := d.pool.Acquire(ctx)
	if err != nil && d.checkIntervalRefused(err) {
		conn, err = d.pool.Acquire(ctx)
	}
	d.waited.Add(int64(waited()))
	if err != nil {
		return nil, d.acquireError(ctx, err)
	}
	d.acquires.Add(1)
	s := sessionOf(conn.Conn())
	s.poolConn, s.handoffs = conn, 0
	return s, nil
}

// release gives the session back, or ends it.
func (d *Database) release(s *session) {
	if s.dead {
		d.destroying.Go(s.destroy)
		return
	}
	s.trim()
	s.idle = time.Now()
	s.poolConn.Release()
}

// lost is for a link that the server ended: the other idle connections are most likely gone as well, and a
// repetition should not meet one after the other.
func (d *Database) lost() { d.pool.Reset() }
