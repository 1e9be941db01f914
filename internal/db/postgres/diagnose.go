package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

var _ db.Diagnoser = (*Database)(nil)

const (
	versionNeeded = 130000
	// verbOf is the first word of a statement. Nothing else of its text leaves the server.
	verbOf = `COALESCE(upper(substring(%s.query from '^[[:space:](]*([A-Za-z]{1,12})')), '')`
)

// Caveats looks at how the connection string would connect.
func (d *Database) Caveats() []db.Finding {
	c := d.pool.Config().ConnConfig
	var plain, trusting bool
	for _, way := range waysOf(c) {
		if local(way.Host) {
			continue
		}
		plain = plain || way.TLSConfig == nil
		trusting = trusting || way.TLSConfig != nil && way.TLSConfig.InsecureSkipVerify && way.TLSConfig.VerifyPeerCertificate == nil &&
			way.TLSConfig.VerifyConnection == nil
	}
	var out []db.Finding
	if plain {
		out = append(out, engine.Unencrypted("add sslmode=verify-full to the connection string"))
	}
	if trusting {
		out = append(out, engine.Unverified("add sslmode=verify-full, and sslrootcert with the authority's file, to the connection string"))
	}
	return out
}

// waysOf are the hosts and kinds of encryption that are tried one after the other.
func waysOf(c *pgx.ConnConfig) []*pgconn.FallbackConfig {
	first := &pgconn.FallbackConfig{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}
	return append([]*pgconn.FallbackConfig{first}, c.Fallbacks...)
}

// local reports whether a host is this machine, so that no network is in between.
func local(host string) bool {
	ip := net.ParseIP(host)
	return strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" || ip != nil && ip.IsLoopback()
}

// Stages goes the way to the server.
func (d *Database) Stages(ctx context.Context) []db.Finding {
	stages, ok := d.reachHosts(ctx)
	if !ok {
		return stages
	}
	config := d.connConfig()
	delete(config.RuntimeParams, checkInterval) // older servers do not know it, and nothing here runs long
	way := &way{started: time.Now()}
	config.AfterNetConnect = way.connected
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return append(stages, d.notEntered(ctx, way, err)...)
	}
	stages = append(stages, way.stage(), engine.LoginAccepted(time.Since(way.at)))
	s := newSession(conn, false, &d.buffers)
	s.watch(ctx, time.Time{})
	defer s.hangUp(ctx)
	started := time.Now()
	if _, err := s.query(checkSQL); err != nil {
		return append(stages, engine.QueryStage(0, d.checkFailed(ctx, err)))
	}
	return append(stages, engine.QueryStage(time.Since(started), nil))
}

// reachHosts tries each host of the connection string. One of several that cannot be reached is a warning.
func (d *Database) reachHosts(ctx context.Context) (stages []db.Finding, reached bool) {
	seen := map[string]bool{}
	for _, way := range waysOf(d.pool.Config().ConnConfig) {
		port := strconv.Itoa(int(way.Port))
		if seen[way.Host+" "+port] {
			continue
		}
		seen[way.Host+" "+port] = true
		if strings.HasPrefix(way.Host, "/") {
			stages, reached = append(stages, db.Finding{Part: db.PartHost, Grade: db.GradeOK, Text: "a socket on this machine: no host, no network"}), true
			continue
		}
		found, ok := engine.ReachHost(ctx, way.Host, port)
		stages, reached = append(stages, found...), reached || ok
	}
	for i := range stages {
		if reached && stages[i].Grade == db.GradeFault {
			stages[i].Grade = db.GradeWarning
		}
	}
	return stages, reached
}

// way is one connection on its way: what was there when the network was.
type way struct {
	started, at time.Time // of all, of the end of TLS
	encrypted   *tls.ConnectionState
}

func (w *way) connected(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
	w.at = time.Now()
	w.encrypted = nil
	if secured, ok := conn.(*tls.Conn); ok {
		state := secured.ConnectionState()
		w.encrypted = &state
	}
	return conn, nil
}

func (w *way) stage() db.Finding {
	f := db.Finding{Part: db.PartTLS, Grade: db.GradeOK, Latency: w.at.Sub(w.started)}
	switch {
	case w.encrypted == nil:
		f.Grade, f.Text = db.GradeNote, "not encrypted"
	case len(w.encrypted.VerifiedChains) == 0:
		f.Text = tls.VersionName(w.encrypted.Version) + ", the certificate's name or authority was not verified"
		f.Grade, f.Remedy = db.GradeNote, "sslmode=verify-full verifies both"
	default:
		f.Text = tls.VersionName(w.encrypted.Version) + ", the certificate was verified"
	}
	return f
}

// notEntered is the stage that failed once the host was reached.
func (d *Database) notEntered(ctx context.Context, w *way, err error) []db.Finding {
	text, remedy, _ := strings.Cut(d.checkNotConnected(ctx, err).Message, "; ")
	f := db.Finding{Part: db.PartTLS, Grade: db.GradeFault, Text: text, Remedy: remedy}
	if w.at.IsZero() {
		return []db.Finding{f}
	}
	f.Part = db.PartLogin
	return []db.Finding{w.stage(), f}
}

// Diagnose looks at the server over a connection of its own.
func (d *Database) Diagnose(ctx context.Context, how db.Diagnosis) ([]db.Finding, error) {
	config := d.connConfig()
	delete(config.RuntimeParams, checkInterval)
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, d.checkNotConnected(ctx, err)
	}
	s := newSession(conn, false, &d.buffers)
	s.watch(ctx, time.Time{})
	defer s.hangUp(ctx)
	l := &inspection{s: s, d: d, how: how}
	l.Run(ctx, []engine.Stage{
		{Part: db.PartServer, Run: l.server},
		{Part: db.PartSettings, Run: l.settings},
		{Part: db.PartLocks, Run: l.locks},
		{Part: db.PartSessions, Run: l.sessions},
		{Part: db.PartLedger, Run: l.ledger},
	}, func() bool { return s.dead }, "", func(err error) string { // by the server's code alone
		if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
			return conditions[pg.Code] + " (" + pg.Code + ")"
		}
		return l.d.checkFailed(ctx, err).Message
	})
	return l.Findings, nil
}

// inspection is a diagnosis under way.
type inspection struct {
	engine.Findings

	s   *session
	d   *Database
	how db.Diagnosis
}

func (l *inspection) server(context.Context) error {
	rows, err := l.s.query(`SELECT current_setting('server_version'), current_setting('server_version_num'), pg_is_in_recovery(),
		pg_postmaster_start_time()::timestamptz(0)::text`)
	if err != nil {
		return err
	}
	version, number := string(rows.first(0)), atoi(rows.first(1))
	l.OK(db.PartServer, "PostgreSQL %s, since %s", version, rows.first(3))
	if number < versionNeeded {
		l.Find(db.PartServer, db.GradeFault, "upgrade the server to 13 or later", "the version is older than any that is supported")
	}
	if string(rows.first(2)) == "t" {
		l.Warn(db.PartServer, "connect to the primary (target_session_attrs=read-write), or set ledger.mode: off for reads only",
			"the server is a standby and accepts no writes")
	}
	return nil
}

func atoi(text []byte) int64 {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func (l *inspection) settings(context.Context) error {
	if err := l.connections(); err != nil {
		return err
	}
	rows, err := l.s.query(`SELECT name, COALESCE(current_setting(name, true), '') FROM unnest('{statement_timeout,
		idle_in_transaction_session_timeout,client_connection_check_interval,synchronous_commit,fsync,full_page_writes,
		default_transaction_read_only,ssl}'::text[]) WITH ORDINALITY AS n (name, place) ORDER BY place`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		l.setting(string(row.value(0)), string(row.value(1)))
	}
	return nil
}

// setting judges one setting, as a runner's session has it.
func (l *inspection) setting(name, value string) {
	text := name + " = " + value
	switch {
	case name == checkInterval && value == "":
		l.Note(db.PartSettings, "%s is unknown to this server (PostgreSQL 14): a killed runner's statement continues up to its own time limit", name)
	case name == checkInterval:
		l.OK(db.PartSettings, "%s is known: runners set it", name)
	case name == "synchronous_commit" && value == "off":
		l.Warn(db.PartSettings, "set it on for the runners' login (ALTER ROLE … SET synchronous_commit = on)",
			"%s: a reported effect may be lost if the server crashes", text)
	case (name == "fsync" || name == "full_page_writes") && value == "off":
		l.Warn(db.PartSettings, "set it on", "%s: the database may be lost when the machine crashes", text)
	case name == "default_transaction_read_only" && value == "on":
		l.Warn(db.PartSettings, "set it off for the runners' login, or set ledger.mode: off for reads only", "%s: jobs that write cannot run", text)
	case strings.HasSuffix(name, "_timeout") && value == "0":
		l.Note(db.PartSettings, "%s: no limit", text)
	default:
		l.OK(db.PartSettings, "%s", text)
	}
}

// connections holds the pool's bound against the server's.
func (l *inspection) connections() error {
	rows, err := l.s.query(`SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
		(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' OR backend_type IS NULL),
		(SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user)`)
	if err != nil {
		return err
	}
	room, used, own := atoi(rows.first(0)), atoi(rows.first(1)), atoi(rows.first(2))
	if own >= 0 {
		room = min(room, own)
	}
	most := int64(max(l.how.PoolMax, 1))
	text := fmt.Sprintf("%d connections at most, %d in use; pool.max is %d, so that at most %d runners fit", room, used, most, room/most)
	if room < most {
		l.Warn(db.PartSettings, "lower pool.max, or raise max_connections or the login's connection limit", "%s", text)
		return nil
	}
	l.OK(db.PartSettings, "%s", text)
	return nil
}

// locks reports which sessions wait for which.
func (l *inspection) locks(context.Context) error {
	rows, err := l.s.query(`SELECT a.pid, a.application_name, ` + fmt.Sprintf(verbOf, "a") + `, extract(epoch from clock_timestamp() - a.query_start)::bigint,
		b.pid, COALESCE(b.application_name, ''), COALESCE(b.state, ''), ` + fmt.Sprintf(verbOf, "b") + `,
		COALESCE(extract(epoch from clock_timestamp() - b.xact_start)::bigint, 0)
		FROM pg_stat_activity a CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS w (pid)
		LEFT JOIN pg_stat_activity b ON b.pid = w.pid
		WHERE a.datname = current_database() ORDER BY a.query_start, b.pid LIMIT 20`)
	if err != nil {
		return err
	}
	for _, r := range rows {
		l.Warn(db.PartLocks, "end or commit the transaction of pid "+string(r.value(4))+"; if that is not possible: SELECT pg_terminate_backend("+string(r.value(4))+")",
			"pid %s (%s) waits with %s since %ss for pid %s (%s), %s, last statement %s, transaction since %ss",
			r.value(0), named(r.value(1)), verb(r.value(2)), r.value(3), r.value(4), named(r.value(5)), stateOf(r.value(6)), verb(r.value(7)), r.value(8))
	}
	if len(rows) == 0 {
		l.OK(db.PartLocks, "no session waits for a lock")
	}
	return nil
}

// named is an application's name, which clients choose.
func named(name []byte) string {
	if len(name) == 0 {
		return "no name"
	}
	return strconv.Quote(string(name))
}

func verb(word []byte) string {
	if v := dialect.Verb(string(word)); v != "" {
		return v
	}
	return "a statement"
}

func stateOf(state []byte) string {
	if len(state) == 0 {
		return "whose state the login may not see"
	}
	return string(state)
}

// sessions reports statements that run long and of transactions that are left open.
func (l *inspection) sessions(context.Context) error {
	rows, err := l.s.query(`SELECT a.pid, a.application_name, a.state, `+fmt.Sprintf(verbOf, "a")+`,
		extract(epoch from clock_timestamp() - CASE WHEN a.state = 'active' THEN a.query_start ELSE a.state_change END)::bigint
		FROM pg_stat_activity a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND
		(a.state = 'active' AND a.query_start < clock_timestamp() - $1::interval
			OR a.state LIKE 'idle in transaction%' AND a.state_change < clock_timestamp() - $2::interval)
		ORDER BY 5 DESC LIMIT 20`, seconds(engine.LongStatement), seconds(engine.IdleOpen))
	if err != nil {
		return err
	}
	for _, r := range rows {
		l.session(r)
	}
	if len(rows) == 0 {
		l.OK(db.PartSessions, "no statement runs for more than %s, and no transaction waits for its client", engine.LongStatement)
	}
	return l.sight()
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + " seconds" }

func (l *inspection) session(r ownRow) {
	pid, age := string(r.value(0)), time.Duration(atoi(r.value(4)))*time.Second
	grade := db.GradeWarning
	if age < engine.LongStatement {
		grade = db.GradeNote
	}
	if string(r.value(2)) == "active" {
		l.Find(db.PartSessions, grade, "if it should not: SELECT pg_cancel_backend("+pid+")",
			"pid %s (%s) runs %s since %s", pid, named(r.value(1)), verb(r.value(3)), age)
		return
	}
	l.Find(db.PartSessions, grade, "it keeps its locks and old rows: let its client commit, or SELECT pg_terminate_backend("+pid+")",
		"pid %s (%s) is %s since %s, after %s", pid, named(r.value(1)), r.value(2), age, verb(r.value(3)))
}

// sight reports what the login may not see.
func (l *inspection) sight() error {
	rows, err := l.s.query(`SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')`)
	if err != nil {
		return err
	}
	if string(rows.first(0)) != "t" {
		l.Find(db.PartSessions, db.GradeNote, "GRANT pg_read_all_stats to it, to see their states and ages here",
			"the login cannot see other logins' sessions")
	}
	return nil
}

func (l *inspection) ledger(context.Context) error {
	rows, err := l.s.query(`SELECT to_regclass('dbrunner.ledger') IS NOT NULL`)
	if err != nil {
		return err
	}
	switch {
	case l.d.opts.Ledger == db.LedgerOff:
		l.Note(db.PartLedger, "off")
		return nil
	case string(rows.first(0)) != "t":
		l.Note(db.PartLedger, "the table dbrunner.ledger is missing")
		return nil
	}
	rows, err = l.s.query(`SELECT (SELECT count(*) FROM (SELECT 1 FROM dbrunner.ledger WHERE namespace = $1 AND database_name = $2 LIMIT $3) AS r),
		pg_total_relation_size('dbrunner.ledger'),
		COALESCE((SELECT min(recorded_at)::timestamptz(0)::text FROM dbrunner.ledger WHERE namespace = $1 AND database_name = $2), '')`,
		l.d.opts.Namespace, l.d.opts.Name, strconv.FormatInt(engine.MostLedger, 10))
	if err != nil {
		return err
	}
	l.OK(db.PartLedger, "%s", engine.LedgerSize(atoi(rows.first(0)), atoi(rows.first(1)), string(rows.first(2))))
	return nil
}
