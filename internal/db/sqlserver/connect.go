package sqlserver

import (
	"context"
	"crypto/tls"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// connect makes a session for the pool.
func (d *Database) connect(ctx context.Context) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, d.connectTimeout)
	defer cancel()
	s, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, s.net.close)()
	if err := d.learn(ctx, s); err != nil {
		s.destroy()
		return nil, errors.Join(ctx.Err(), err)
	}
	return s, nil
}

// dial makes a session. The driver minds the context only while it dials, so that the link is cut when it ends.
func (d *Database) dial(ctx context.Context) (*session, error) {
	link := newSockets()
	defer context.AfterFunc(ctx, link.close)()
	connector := d.connectors.now()
	connector.Dialer = link
	made, err := login(ctx, connector)
	conn, ok := made.(*mssql.Conn)
	if err != nil || !ok {
		link.close()
		return nil, errors.Join(ctx.Err(), err, errNoSession)
	}
	lifetime := either(d.opts.Pool.MaxLifetime, defaultLifetime)
	if d.opts.Pool.LifetimeJitter > 0 {
		lifetime += rand.N(d.opts.Pool.LifetimeJitter)
	}
	return &session{conn: conn, net: link, retireAt: time.Now().Add(lifetime), idle: time.Now()}, nil
}

// login has the driver connect.
func login(ctx context.Context, connector *mssql.Connector) (made driver.Conn, err error) {
	defer recovered(&err)
	return connector.Connect(ctx)
}

// learn reads what the engine has to know of a session.
func (d *Database) learn(ctx context.Context, s *session) error {
	t, err := s.query(ctx, "SELECT CAST(DB_ID() AS bigint)")
	if err != nil {
		return err
	}
	id, ok := t.first()[0].(int64)
	if !ok {
		return errors.New("sqlserver: the server does not return its database")
	}
	s.database = id
	if _, err := s.query(ctx, "SELECT CURRENT_TRANSACTION_ID()"); err != nil {
		if !answered(err) {
			return err
		}
		d.noTransID.Store(true) // some services that speak the protocol lack it; the depth is looked at all the same
	}
	return nil
}

// connectError reports why there is no connection and what to do about it, without the driver's text, which names user, host and database.
func (d *Database) connectError(err error) *db.Error {
	code := ""
	if server, ok := errors.AsType[mssql.Error](err); ok {
		code = strconv.Itoa(int(server.Number))
	}
	return engine.Unreachable(d.opts.Name, connectRemedy(err), code)
}

func connectRemedy(err error) string {
	if server, ok := errors.AsType[mssql.Error](err); ok {
		switch server.Number {
		case 18456, 18452, 18451, 18461:
			return "the server refused the login; check user and password, and that the server takes logins of this kind"
		case 18470, 18486:
			return "the login is disabled or locked; a DBA enables it"
		case 18463, 18464, 18465, 18466, 18467, 18468, 18487, 18488:
			return "the login's password has expired or must be changed"
		case 911, 4060, 4064, 916:
			return "the server has no database of the name in the connection string, or the login may not use it; check it and the login's user there"
		case 40615:
			return "the server's firewall refused this address; add it there"
		case 976, 978, 979:
			return "this is a secondary replica; set ApplicationIntent=ReadOnly for reads, or name the availability group's listener"
		case 10928, 10929, 10936, 17809, 17810:
			return "the server has no free connection; lower the pools' limits or raise the server's"
		}
		if v, ok := verdicts[server.Number]; ok && v.class == unavailable {
			return v.message
		}
		return engine.ConnectionRefused
	}
	if remedy := engine.HostRemedy(err); remedy != "" {
		return remedy
	}
	_, badCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	late := engine.TimeoutRemedy(err)
	switch {
	case badCertificate, mentions(err, "certificate"):
		return "the server's certificate was not accepted; check certificate= and hostnameincertificate= in the connection string"
	case mentions(err, "no encryption"), mentions(err, "encrypt"):
		return "the server does not offer the requested encryption; check encrypt= in the connection string"
	case mentions(err, "no instance matching"):
		return "the server has no instance of that name; check it, and that SQL Server Browser runs, or name the port"
	case late != "":
		return late
	case mentions(err, "azidentity"), mentions(err, "credential"):
		return "Entra ID gave no token for the login; check fedauth and what belongs to it in the connection string"
	}
	return engine.ConnectFailed
}

// mentions is for what the driver reports by its text alone, which holds no more than kinds here.
func mentions(err error, word string) bool {
	return strings.Contains(strings.ToLower(err.Error()), word)
}
