package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"time"

	_ "github.com/microsoft/go-mssqldb" // its driver for database/sql

	"dbrunner/contract"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/sqlserver"
	"dbrunner/test/faults/check"
	"dbrunner/test/faults/network"
)

// depotShare is one of how many: depot has as many jobs besides those of the others.
const depotShare = 5

// sqlServer is the SQL Server that the environment names. Runners reach it by a link that can be cut and held, and by a proxy that cuts at COMMIT.
type sqlServer struct {
	url     string
	version string
	proxy   *dbtest.TDSProxy
	link    *network.Link
}

// joinSQLServer prepares the use of a server that runs already; nil: none is named.
func joinSQLServer(ctx context.Context, server string) (s *sqlServer, err error) {
	if server == "" {
		return nil, nil //nolint:nilnil // there is none
	}
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "sqlserver" || u.Port() == "" {
		return nil, fmt.Errorf("%s: write sqlserver://user:password@host:port?encrypt=disable", dbtest.SQLServerVariable)
	}
	s = &sqlServer{url: server}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.ask(ctx, `SELECT @@VERSION`, &s.version); err != nil {
		return nil, fmt.Errorf("the SQL Server of %s: %w", dbtest.SQLServerVariable, err)
	}
	s.version, _, _ = strings.Cut(s.version, "\n")
	if s.proxy, err = dbtest.LaunchTDSProxy(u.Host); err != nil {
		return nil, err
	}
	if s.link, err = network.NewLink(s.proxy.Address()); err != nil {
		return nil, err
	}
	progress("SQL Server takes part: %s", s.version)
	return s, nil
}

func (s *sqlServer) close() {
	if s.link != nil {
		s.link.Close()
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
}

// ask reads one value.
func (s *sqlServer) ask(ctx context.Context, query string, into any) error {
	db, err := sql.Open("sqlserver", s.url)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	return db.QueryRowContext(ctx, query).Scan(into)
}

// linked is a connection string of the runners: by the link, unencrypted, so that the proxy can read it.
func (s *sqlServer) linked(connection string) string {
	u, err := url.Parse(connection)
	if err != nil {
		panic(err) // it was put together here
	}
	u.Host = s.link.Address()
	q := u.Query()
	q.Set("encrypt", "disable")
	u.RawQuery = q.Encode()
	return u.String()
}

// restore ends whatever is in the way of the runners.
func (s *sqlServer) restore() {
	s.link.Release()
	s.proxy.Disarm()
}

// checkServer refuses faults of a server that is not there.
func checkServer(o *options) error {
	for _, name := range o.only {
		if o.sqlserver == "" && strings.HasPrefix(name, "sqlserver_") {
			return fmt.Errorf("%s needs a SQL Server: name one in %s", name, dbtest.SQLServerVariable)
		}
	}
	return nil
}

// depotNemeses are the faults of the connections to SQL Server. The server itself belongs to others.
func depotNemeses() []nemesis {
	return []nemesis{
		{"sqlserver_cut", "the runners' connections to SQL Server are cut", 1500 * time.Millisecond, depotCut},
		{"sqlserver_hold", "the runners' connections to SQL Server let nothing through", 800 * time.Millisecond, depotHold},
		{"sqlserver_cut_before", "the connection to SQL Server is cut just before COMMIT", 30 * time.Millisecond, depotCutAt((*dbtest.TDSProxy).CutBefore)},
		{"sqlserver_cut_after", "the connection to SQL Server is cut just after COMMIT", 30 * time.Millisecond, depotCutAt((*dbtest.TDSProxy).CutAfter)},
	}
}

func depotCut(_ context.Context, r *round, _ *rand.Rand) (string, error) {
	r.world.sqlserver.link.Cut()
	return "", nil
}

func depotHold(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	d := time.Duration(rng.Int64N(int64(2 * ackWait)))
	r.world.sqlserver.link.Hold()
	_ = wait(ctx, d)
	r.world.sqlserver.link.Release()
	return d.String(), nil
}

// depotCommit is in the message of a runner that commits a transaction, and in no other.
const depotCommit = "COMMIT TRANSACTION; SELECT"

func depotCutAt(arm func(*dbtest.TDSProxy, string) <-chan struct{}) func(context.Context, *round, *rand.Rand) (string, error) {
	return func(ctx context.Context, r *round, _ *rand.Rand) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		select {
		case <-arm(r.world.sqlserver.proxy, depotCommit):
			return "", nil
		case <-ctx.Done():
			r.world.sqlserver.proxy.Disarm()
			return "no commit", nil
		}
	}
}

// store is a run's own database on the server.
type store struct {
	name       string // which other benches do not use at the same time
	connection string // without the link
	db         *sql.DB
}

// addDepot adds a database on SQL Server to a run, where a server is named. Its jobs are drawn by a chance of their own, so that those of the
// others stay what they are.
func addDepot(ctx context.Context, r *round) (err error) {
	s := r.world.sqlserver
	if s == nil {
		return nil
	}
	d := &store{name: fmt.Sprintf("faults_%d_%s", os.Getpid(), r.namespace)}
	if d.connection, err = dbtest.CreateSQLServer(ctx, s.url, d.name); err != nil {
		return err
	}
	if d.db, err = sql.Open("sqlserver", d.connection); err != nil {
		return err
	}
	r.depot, r.databases = d, append(r.databases, depot)
	planDepot(r.plan, r.seed, r.namespace, r.opts)
	return createDepot(ctx, d.db)
}

// createDepot creates what the database has before the runners start.
func createDepot(ctx context.Context, db *sql.DB) error {
	for _, s := range append(depotTables(), strings.Split(sqlserver.OutboxDDL(), "\nGO\n")...) {
		if strings.TrimSpace(s) == "" {
			continue
		}
		if _, err := db.ExecContext(ctx, s); err != nil {
			return fmt.Errorf("%.60s: %w", s, err)
		}
	}
	if _, err := db.ExecContext(ctx, createSleep+`WAITFOR DELAY @time`); err != nil { // Babelfish, which is a PostgreSQL
		_, err = db.ExecContext(ctx, createSleep+`BEGIN SET NOCOUNT ON; DECLARE @n int; SELECT @n = count(*)
			FROM pg_sleep(DATEDIFF(millisecond, CAST('00:00:00' AS time), CAST(@time AS time)) / 1000.0) END`)
		return err
	}
	return nil
}

// createSleep creates a procedure that takes as long as its parameter says; the body follows.
const createSleep = `CREATE PROCEDURE sleep_for @time varchar(12) AS `

func dropDepot(ctx context.Context, r *round) error {
	if r.depot == nil {
		return nil
	}
	return errors.Join(r.depot.db.Close(), dbtest.DropSQLServer(ctx, r.world.sqlserver.url, r.depot.name))
}

// planDepot adds depot's jobs to a plan.
func planDepot(of *plan, seed uint64, namespace string, o *options) {
	p := &planner{plan: of, rng: newRand(seed, 5), namespace: namespace, length: o.length, home: depot}
	fill(p, withoutPostgres(classes()), rare(), o.jobs/depotShare, o.recovery)
}

// withoutPostgres leaves out the sorts of jobs that are only PostgreSQL's.
func withoutPostgres(list []class) (left []class) {
	for _, c := range list {
		if c.name != "renaming" {
			left = append(left, c)
		}
	}
	return left
}

// depotSchedules are the schedules of depot.
func depotSchedules() []scheduling {
	return []scheduling{
		{key: "jobs.depot.transaction.depot_edited", every: time.Second, overlap: contract.OverlapAllow, edited: true},
		{key: "jobs.depot.transaction.depot_careful", every: time.Second, overlap: contract.OverlapSkip},
		{key: "queues.depot." + bulk + ".transaction.depot_in_turn", every: time.Second, overlap: contract.OverlapAllow},
		{key: "jobs.depot.call.pay.depot_paying", every: time.Second, overlap: contract.OverlapAllow},
		{key: "jobs.depot.transaction.depot_closing"},
	}
}

// depotTables are those of the other databases. Readers do not wait for writers; a server that always works so need not know the words of the options.
func depotTables() []string {
	return []string{
		`CREATE TABLE effects (request nvarchar(400) NOT NULL, source int NOT NULL, target int NOT NULL, amount int NOT NULL, private nvarchar(400) NOT NULL)`,
		`CREATE INDEX effects_request ON effects (request)`,
		`CREATE TABLE accounts (id int NOT NULL PRIMARY KEY, balance bigint NOT NULL)`,
		`CREATE TABLE gates (yes bit NOT NULL)`,
		`CREATE TABLE orders (id nvarchar(400) NOT NULL PRIMARY KEY)`,
		`CREATE TABLE spans (request nvarchar(400) NOT NULL, started datetime2 NOT NULL, finished datetime2)`,
		`CREATE INDEX spans_request ON spans (request)`,
		feedTables[depot],
		`CREATE INDEX feed_request ON feed (request)`,
		fmt.Sprintf(`DECLARE @i int = 1; WHILE @i <= %d BEGIN INSERT INTO accounts VALUES (@i, %d); SET @i = @i + 1 END`, accounts, opening),
	}
}

// depotEnvironment is the configuration of depot.
func depotEnvironment(r *round) []string {
	if r.depot == nil {
		return nil
	}
	connection := r.world.sqlserver.linked(r.depot.connection)
	return []string{
		"DEPOT_TYPE=sqlserver", "DEPOT_CONNECTION_STRING=" + connection, "DEPOT_SETTINGS=allow_unencrypted=true,allow_unverified_certificate=true",
		"DEPOT_POOL_MIN=2", "DEPOT_POOL_MAX=4", "DEPOT_LOCK_TIMEOUT=" + depotLockTimeout(), "DEPOT_HEALTH_INTERVAL=2s", "DEPOT_POOL_CONNECT_TIMEOUT=10s",
		"DEPOT_MIGRATIONS_FOLDER=" + migrationsFolder(r, depot), "DEPOT_KINDS=" + kinds, "DEPOT_CATALOG_FOLDER=" + catalogFolder(r, depot),
		"DEPOT_QUEUES=" + bulk + "," + feed, "DEPOT_QUEUES_FEED_ORDERED=true", fmt.Sprintf("DEPOT_QUEUES_BULK_SLOTS=%d", queueSlots),
		fmt.Sprintf("DEPOT_QUEUES_BULK_FLEET_SLOTS=%d", fleetSlots),
		"DEPOT_OUTBOX_CONNECTION_STRING=" + connection, "DEPOT_OUTBOX_TARGETS=" + strings.Join(outboxTargets(depot), ","),
	}
}

// depotLockTimeout is as short as shop's, unless the server gives the limit's error no number of its own: then it cannot be distinguished from a mistake of the
// job, which fails for good.
func depotLockTimeout() string {
	if dbtest.SQLServerLacks()["numbers"] {
		return "20s"
	}
	return "1s"
}

// depotSecrets is the password of the server's login, unless it is so short that it may be part of some number.
func depotSecrets(r *round) []string {
	if r.depot == nil {
		return nil
	}
	u, err := url.Parse(r.depot.connection)
	if err != nil {
		panic(err) // it was put together here
	}
	if password, _ := u.User.Password(); len(password) >= 12 {
		return []string{password}
	}
	return nil
}

// depotServing reports whether each runner has a session, beside the bench's own: a login takes long on a busy machine, and before it no fault is felt.
func depotServing(ctx context.Context, r *round) bool {
	if r.depot == nil {
		return true
	}
	var sessions int
	err := r.depot.db.QueryRowContext(ctx, `SELECT count(session_id) FROM sys.dm_exec_sessions WHERE database_id = DB_ID()`).Scan(&sessions)
	return err == nil && sessions > runners
}

// depotSessions counts the sessions of the run's database; 0 without one.
func depotSessions(ctx context.Context, r *round) (n int, err error) {
	if r.depot == nil {
		return 0, nil
	}
	err = r.world.sqlserver.ask(ctx, `SELECT count(session_id) FROM sys.dm_exec_sessions WHERE database_id = DB_ID(N'`+r.depot.name+`')`, &n)
	return n, err
}

func collectDepot(ctx context.Context, r *round, h *check.History) error {
	if r.depot == nil {
		return nil
	}
	db := r.depot.db
	defer func() { _ = db.Close() }() // what is left open then is the runners'
	h.FleetSlots[depot+"."+bulk] = fleetSlots
	return errors.Join(collectSpans(ctx, h, db), collectFeed(ctx, h, db, depot), collectTables(ctx, h, db, depot, tableNames{
		ledger: "dbrunner.ledger", history: "dbrunner.migrations",
		hasHistory: `SELECT CAST(CASE WHEN OBJECT_ID(N'dbrunner.migrations', N'U') IS NULL THEN 0 ELSE 1 END AS bit)`,
		tables:     `SELECT CAST(SUBSTRING(name, 10, 10) AS int) FROM sys.tables WHERE LEFT(name, 9) = 'migrated_' ORDER BY 1`,
	}))
}

// primary is the database of jobs that SQLite does not have.
func primary(p *planner) string { return cmp.Or(p.home, shop) }

// nextName is the name of a planner's next request. Depot's have its name, as another planner has named the others.
func nextName(p *planner, class string) string {
	p.serial++
	if p.home != "" {
		class = p.home + "_" + class
	}
	return fmt.Sprintf("%s-%d", class, p.serial)
}
