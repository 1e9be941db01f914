package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// checkIntervalRefused notices a server that is too old for the parameter (or on a system without it), so that
// the next connection leaves it out.
func (d *Database) checkIntervalRefused(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || !strings.Contains(e.Message, checkInterval) {
		return false
	}
	d.noCheckInterval.Store(true)
	return true
}

func (d *Database) acquireError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		d.canceled.Add(1)
		return engine.WaitGivenUp(ctx)
	}
	if own, ok := errors.AsType[*db.Error](err); ok {
		return own
	}
	if errors.Is(err, puddle.ErrClosedPool) {
		return engine.Closed(d.opts.Name, errClosed)
	}
	return d.connectError(err)
}

// connectError reports why there is no connection and what to do about it. The driver's text names user, host and
// database, so that only its kind is used, and the driver's error, which holds the password, is not kept.
func (d *Database) connectError(err error) *db.Error {
	return unreachable(d.opts.Name, err)
}

func unreachable(database string, err error) *db.Error {
	code := ""
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		code = pg.Code
	}
	return engine.Unreachable(database, connectRemedy(err), code)
}

func connectRemedy(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pg.Code == "08P01" {
			// PgBouncer has one code for everything that it refuses. A server has this code for what it cannot read at the
			// start of a session.
			for _, known := range [...]struct{ text, remedy string }{
				{"no more connections allowed", "the pooler accepts no more clients; raise max_client_conn, or lower the pools' limits"},
				{"query_wait_timeout", "the pooler had no free session within query_wait_timeout; raise default_pool_size, or lower the pools' limits"},
				{"no such database", "the pooler has no database of that name; check the connection string and the pooler's [databases]"},
				{"cannot connect", "the pooler cannot reach the server"},
				{"server login", "the pooler cannot reach the server or log in to it; see the pooler's log"},
				{"startup parameter", parameterRefused},
			} {
				if strings.Contains(pg.Message, known.text) {
					return known.remedy
				}
			}
			return "the server or its pooler refused the connection; see its log"
		}
		switch {
		case strings.HasPrefix(pg.Code, "28"):
			return "the server refused the login; check user, password and the server's pg_hba.conf"
		case pg.Code == "3D000":
			return "the server has no database of the name in the connection string (without one: of the user's name); check the connection string"
		case pg.Code == "53300":
			return "the server has no free connection; lower the pools' limits or raise max_connections"
		case pg.Code == "57P03":
			return "the server is starting up or shutting down"
		case pg.Code == "57P01" || pg.Code == "57P02":
			return engine.ShuttingDown
		case pg.Code == "42501":
			return "the login may not connect to this database"
		case pg.Code == "42704" || pg.Code == "22023":
			return parameterRefused
		}
		return engine.ConnectionRefused
	}
	if remedy := engine.HostRemedy(err); remedy != "" {
		return remedy
	}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case badCertificate:
		return "the server's certificate was not accepted; check sslrootcert and the host in the connection string"
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "the server does not offer TLS; check sslmode in the connection string"
	}
	if remedy := engine.TimeoutRemedy(err); remedy != "" {
		return remedy
	}
	return engine.ConnectFailed
}

const parameterRefused = "the server refused a start-up parameter; check the keys of the connection string: an unknown one, such as sslmod, is sent as a parameter; " +
	"behind a transaction pooler set pooler: transaction, and leave parameters of sessions out"

// learn reads what COMMIT waits for in this session unless a job says otherwise, and sets how the session prints values.
func (d *Database) learn(s *session) error {
	s.ends, s.dialect = d.ends, d.dialect
	if s.pg.ParameterStatus("IntervalStyle") == sqlStandard {
		s.ends = d.standard
	}
	rows, err := s.query(`SELECT current_setting('synchronous_commit')` + s.ends.styles)
	if err != nil {
		return err
	}
	s.durability = string(rows.first(0))
	return nil
}
