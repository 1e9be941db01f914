package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// Defaults of what the options leave out.
const (
	defaultMaxConns       = 15
	defaultConnectTimeout = 10 * time.Second
	defaultPingAfterIdle  = 5 * time.Second
	maxApplicationName    = 63 // bytes; the server cuts longer names
)

// checkInterval is how often the server looks whether a client that waits is still there: a statement of a
// runner that was killed ends within it. PostgreSQL 14 and later.
const (
	checkInterval     = "client_connection_check_interval"
	checkIntervalTime = 2 * time.Second
)

// settings are the engine's own settings.
type settings struct {
	label        bool // label_sessions: application_name names the job while it runs
	showMessages bool // show_raised_messages: the text of RAISE EXCEPTION (P0001) is shown to publishers
}

func parseSettings(in map[string]string) (settings, error) {
	var s settings
	return s, engine.ParseSwitches(in, map[string]*bool{"label_sessions": &s.label, "show_raised_messages": &s.showMessages})
}

// poolConfig turns the options into pgx's, with everything that every session must have as start-up
// parameters, so that RESET ALL goes back to it.
func poolConfig(opts *db.Options) (*pgxpool.Config, error) {
	config, err := readConnection(opts.ConnectionString)
	if err != nil {
		return nil, &db.ConnectionStringError{Err: err}
	}
	cc := config.ConnConfig
	cc.DefaultQueryExecMode = pgx.QueryExecModeExec
	cc.StatementCacheCapacity, cc.DescriptionCacheCapacity = 0, 0
	cc.OnNotice, cc.OnNotification = nil, nil
	cc.ConnectTimeout = cmp.Or(opts.Pool.ConnectTimeout, defaultConnectTimeout)
	// After a slow write the driver reads in the background, and would go on to take the answers that a session waits for.
	cc.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error { return conn.SyncConn(ctx) }
	maps.Copy(cc.RuntimeParams, startupParameters(opts))
	config.MaxConns = defaultMaxConns
	if opts.Pool.Max > 0 {
		config.MaxConns = int32(opts.Pool.Max)
	}
	config.MinConns = min(int32(opts.Pool.Min), config.MaxConns)
	if opts.Pool.MaxLifetime > 0 {
		config.MaxConnLifetime = opts.Pool.MaxLifetime
	}
	config.MaxConnLifetimeJitter = opts.Pool.LifetimeJitter
	if opts.Pool.MaxIdleTime > 0 {
		config.MaxConnIdleTime = opts.Pool.MaxIdleTime
		config.HealthCheckPeriod = min(max(opts.Pool.MaxIdleTime/2, time.Second), config.HealthCheckPeriod)
	}
	return config, nil
}

const connectionForm = "write postgres://user:password@host:port/database?sslmode=verify-full"

// readConnection reads a connection string. What the driver would take although it cannot be meant (parts of a password in
// the place of a host or of a parameter's name) is refused: the server that it leads to would get to see it.
func readConnection(text string) (*pgxpool.Config, error) {
	if text == "" {
		return nil, engine.NoConnectionString(connectionForm)
	}
	if err := engine.CheckConnectionString(text, "postgres://", "postgresql://"); err != nil {
		return nil, fmt.Errorf("%w: %s", err, connectionForm)
	}
	config, err := pgxpool.ParseConfig(text)
	if err != nil { // the driver's text quotes parts of the connection string
		return nil, engine.UnreadConnectionString(connectionForm)
	}
	isURL := strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
	switch {
	case !isURL && !strings.Contains(text, "="):
		return nil, engine.UnreadConnectionString(connectionForm)
	case !isURL && !namesHost.MatchString(text) && os.Getenv("PGHOST") == "" && os.Getenv("PGSERVICE") == "":
		return nil, errors.New("the connection string names no host: add host=…, which may be the folder of a local server's socket")
	case isURL && strings.Contains(text, "#"):
		return nil, errors.New("the connection string has a #, which ends a URL: write %23 in a password")
	case strings.ContainsAny(config.ConnConfig.Database, "=@/;"):
		return nil, errors.New("the connection string has invalid characters in the database name (= @ / ;): in a URL, " +
			"parameters come behind ?, and / ? # @ in a password are written %2F %3F %23 %40")
	}
	for _, way := range waysOf(config.ConnConfig) {
		if !hostName.MatchString(way.Host) {
			return nil, errors.New("the connection string has an invalid host: words are separated by blanks, not by ;")
		}
	}
	names := maps.Clone(config.ConnConfig.RuntimeParams)
	if u, err := url.Parse(text); err == nil && isURL {
		for name := range u.Query() { // the driver leaves out those without a value
			names[name] = ""
		}
	}
	for name := range names {
		if !parameterName.MatchString(name) {
			return nil, errors.New("the connection string has an invalid parameter name: in a URL, / ? # & @ in a password are written " +
				"%2F %3F %23 %26 %40")
		}
	}
	return config, nil
}

var (
	namesHost     = regexp.MustCompile(`(?i)(^|\s)(host|hostaddr|service)\s*=`)
	hostName      = regexp.MustCompile(`^([/@].*|[A-Za-z0-9._:%-]*)$`)
	parameterName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)
)

// renew lets a session sign in as the connection string now says, as its password or its certificates may have been
// replaced. One that cannot be read any more is ignored: that of the start may still work.
func renew(cc *pgx.ConnConfig, opts *db.Options) {
	if opts.Reread == nil {
		return
	}
	config, err := readConnection(opts.Reread())
	if err != nil {
		return
	}
	now := config.ConnConfig
	cc.Host, cc.Port, cc.TLSConfig, cc.Fallbacks = now.Host, now.Port, now.TLSConfig, now.Fallbacks
	cc.Database, cc.User, cc.Password = now.Database, now.User, now.Password
}

// connConfig is how a session beside the pool connects.
func (d *Database) connConfig() *pgx.ConnConfig {
	config := d.pool.Config().ConnConfig
	renew(config, &d.opts)
	return config
}

// A session has its own formats for what it prints, and nothing else of its own that changes what a job means: in what
// order a date's day and month are read, in which zone a time is, and whether an interval's sign holds for all of its
// parts (IntervalStyle sql_standard) are the database's to say, or the login's. See decision 65.

// outputParameters fix how values are printed, and are no matter when they are read.
func outputParameters() map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"extra_float_digits": "1",
		"bytea_output":       "hex",
	}
}

const (
	// setDateStyle keeps the order of day and month.
	setDateStyle = ", pg_catalog.set_config('DateStyle', 'ISO', false)"
	// setStyles is for a session whose IntervalStyle does not matter when intervals are read.
	setStyles = setDateStyle + ", pg_catalog.set_config('IntervalStyle', 'iso_8601', false)"
	// sqlStandard is the IntervalStyle that does: -1 2:00 is then a day and two hours less.
	sqlStandard = "sql_standard"
)

// startupParameters are what a session starts with. A transaction pooler accepts only few of them: there the
// rest is set in each transaction.
func startupParameters(opts *db.Options) map[string]string {
	name := applicationName(opts.Runner)
	if opts.TransactionPool {
		return map[string]string{"application_name": name, "client_encoding": "UTF8"}
	}
	p := outputParameters()
	p["application_name"] = name
	maps.Copy(p, limitParameters(&opts.Limits))
	p[checkInterval] = milliseconds(checkIntervalTime)
	return p
}

func applicationName(runner string) string {
	name := "dbrunner/" + runner
	return name[:min(len(name), maxApplicationName)]
}

// limitParameters are the limits that are set; what is zero stays as the server has it.
func limitParameters(l *db.Limits) map[string]string {
	p := make(map[string]string, 3)
	set := func(name string, d time.Duration) {
		if d > 0 {
			p[name] = milliseconds(d)
		}
	}
	if l.StatementTimeout > 0 {
		// As of a job which sets none, but not so short that it ends the wait for another runner's ledger row.
		set("statement_timeout", max(serverTimeout(l.StatementTimeout), l.LockTimeout+ownTimeout))
	}
	set("lock_timeout", l.LockTimeout)
	set("idle_in_transaction_session_timeout", l.IdleInTransaction)
	return p
}

// serverTimeout is a little shorter than the job's own limit: where the server ends the statement first, its session
// can be kept.
func serverTimeout(limit time.Duration) time.Duration {
	return limit - min(limit/20, 100*time.Millisecond)
}

func milliseconds(d time.Duration) string {
	return strconv.FormatInt(max(1, d.Milliseconds()), 10)
}

// localSettings is the statement that a transaction starts with behind a transaction pooler: everything that a
// session of our own has from its start-up parameters and styles, for this transaction only.
func localSettings(opts *db.Options) string {
	p := outputParameters()
	delete(p, "client_encoding")
	maps.Copy(p, limitParameters(&opts.Limits))
	b := strings.Builder{}
	b.WriteString("SELECT set_config('DateStyle', 'ISO', true), set_config('IntervalStyle', " +
		"CASE current_setting('IntervalStyle') WHEN '" + sqlStandard + "' THEN '" + sqlStandard + "' ELSE 'iso_8601' END, true)")
	for _, name := range slices.Sorted(maps.Keys(p)) {
		fmt.Fprintf(&b, ", set_config('%s', '%s', true)", name, p[name])
	}
	return b.String()
}
