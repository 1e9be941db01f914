package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/client"
	"dbrunner/test/faults/check"
)

// round is one run of one seed.
type round struct {
	world     *world
	seed      uint64
	opts      *options
	binary    string // of the runners
	before    string // of the release that they are upgraded from; empty: they are not
	namespace string
	databases []string // of the runners' configuration
	database  string   // on the PostgreSQL server
	depot     *store   // on SQL Server; nil: no server is named
	dir       string
	plan      *plan
	faults    []scheduled
	nc        *nats.Conn
	js        jetstream.JetStream
	client    *client.Client
	fleet     *fleet
	ways      []*ways // of each runner; empty: they share the links
	watcher   *watcher
	clients   *clients
	made      faultLog
	started   time.Time
	drain     time.Duration
}

// stream is the name of one of the run's streams.
func (r *round) stream(what, database string) string {
	return strings.ToUpper(r.namespace) + "_" + what + "_" + database
}

// newRound prepares a run: a namespace, a new database and new files.
func (w *world) newRound(ctx context.Context, o *options, binary string, seed uint64, serial int) (r *round, err error) {
	r = &round{world: w, seed: seed, opts: o, binary: binary, namespace: fmt.Sprintf("f%d", serial), databases: []string{shop, edge}}
	r.database, r.dir = r.namespace, filepath.Join(w.dir, r.namespace)
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return nil, err
	}
	r.plan = newPlan(seed, r.namespace, o.jobs, o.length, o.recovery)
	if err := addDepot(ctx, r); err != nil {
		return r, err
	}
	r.faults = r.planFaults()
	if err := errors.Join(r.createPostgres(ctx), createOutbox(ctx, r), r.createSQLite(ctx), r.writeMigrations(), writeCatalogs(r)); err != nil {
		return r, err
	}
	if r.nc, r.js, err = w.cluster.connect(); err != nil {
		return r, err
	}
	if r.client, err = client.New(r.nc, client.Options{Namespace: r.namespace}); err != nil {
		return r, err
	}
	if r.works("clock_skew") {
		if r.binary, err = w.buildSkewed(ctx); err != nil {
			return r, err
		}
	}
	if err := prepareUpgrade(ctx, r); err != nil {
		return nil, err
	}
	r.clients = &clients{r: r, cancels: map[string]bool{}, enqueued: map[string]check.Publication{}}
	if err := newWays(r); err != nil {
		return r, err
	}
	r.fleet = newFleet(firstBinary(r), r.dir, r.runnerEnvironment(w.cluster.linked()))
	return r, nil
}

var tables = []string{
	`CREATE TABLE effects (request TEXT NOT NULL, source INTEGER NOT NULL, target INTEGER NOT NULL, amount INTEGER NOT NULL, private TEXT NOT NULL)`,
	`CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance BIGINT NOT NULL)`,
	`CREATE TABLE gates (open BOOLEAN NOT NULL)`,
	`CREATE TABLE orders (id TEXT PRIMARY KEY)`,
}

func (r *round) createPostgres(ctx context.Context) error {
	if err := r.world.exec(ctx, "postgres", "CREATE DATABASE "+r.database+" OWNER runner"); err != nil {
		return err
	}
	statements := append([]string{"SET ROLE runner"}, tables...)
	return r.world.exec(ctx, r.database, append(append(statements, flowTables...),
		fmt.Sprintf(`INSERT INTO accounts SELECT i, %d FROM generate_series(1, %d) AS i`, opening, accounts))...)
}

// writeMigrations writes the folders: each file leaves a table of its own, and takes a moment.
func (r *round) writeMigrations() (err error) {
	for database, text := range migrationText {
		folder := migrationsFolder(r, database)
		err = errors.Join(err, os.MkdirAll(folder, 0o700))
		for i := range migrations {
			name := filepath.Join(folder, fmt.Sprintf("V%d__step.sql", i+1))
			err = errors.Join(err, os.WriteFile(name, fmt.Appendf(nil, text, i+1), 0o600))
		}
	}
	return err
}

func migrationsFolder(r *round, database string) string {
	return filepath.Join(r.dir, "migrations-"+database)
}

// runnerEnvironment is the configuration of the run's runners, and of the command line.
func (r *round) runnerEnvironment(urls string) []string {
	deliveries, grace := 20, "2s"
	if r.plan.killer != "" {
		deliveries = 5
	}
	if r.seed%2 == 0 {
		grace = "30s"
	}
	return append(slices.Concat(flowEnvironment(r), outboxEnvironment(r), depotEnvironment(r)),
		"PATH="+os.Getenv("PATH"),
		"RUNNER_NAMESPACE="+r.namespace, "RUNNER_NATS_URLS="+urls,
		"RUNNER_NATS_USER="+natsUser, "RUNNER_NATS_PASSWORD="+natsPassword,
		"RUNNER_NATS_RECONNECT_WAIT=100ms", "RUNNER_NATS_PING_INTERVAL=1s",
		"RUNNER_TOPOLOGY_REPLICAS=3", "RUNNER_TOPOLOGY_ACK_WAIT="+ackWait.String(),
		"RUNNER_WORKER_DRAIN_TIMEOUT="+drainTimeout.String(), fmt.Sprintf("RUNNER_WORKER_MAX_DELIVERIES=%d", deliveries),
		"RUNNER_WORKER_HEARTBEAT_INTERVAL=2s", "RUNNER_WORKER_UNREACHABLE_GRACE="+grace,
		"RUNNER_LOG_LEVEL=debug", "RUNNER_DATABASES="+strings.Join(r.databases, ","),
		"SHOP_TYPE=postgres", "SHOP_CONNECTION_STRING="+r.linkedPostgres(), "SHOP_POOL_MIN=1", "SHOP_POOL_MAX=6",
		"SHOP_LOCK_TIMEOUT=1s", "SHOP_SHARED_COMMITS=true", "EDGE_SHARED_COMMITS=true", "SHOP_HEALTH_INTERVAL=2s", "SHOP_POOL_CONNECT_TIMEOUT=2s",
		"SHOP_MIGRATIONS_FOLDER="+migrationsFolder(r, shop),
		"EDGE_TYPE=sqlite", "EDGE_CONNECTION_STRING="+r.sqlitePath(), "EDGE_POOL_MIN=1", "EDGE_POOL_MAX=4", "EDGE_SETTINGS=synchronous=normal",
		"EDGE_MIGRATIONS_FOLDER="+filepath.Join(r.dir, "none"),
	)
}

// linkedPostgres is the connection string of the runners: through the proxy, with a password that no log may show.
func (r *round) linkedPostgres() string {
	return "postgres://runner:" + postgresPassword + "@" + r.world.proxy.Address() + "/" + r.database + "?sslmode=disable"
}

// run publishes and makes faults at the same time, ends both, waits until all is done, and ends the runners.
func (r *round) run(ctx context.Context) error {
	var err error
	if r.watcher, err = r.watch(); err != nil {
		return err
	}
	r.fleet.start(func(i int) []string {
		own := throughWays(r, i)
		if r.plan.killer != "" {
			own = append(own, "DBRUNNER_CRASH_JOB="+r.plan.killer)
		}
		return own
	})
	if err := r.serving(ctx); err != nil {
		return err
	}
	r.started = time.Now()
	limited, cancel := context.WithTimeout(ctx, r.opts.length+r.opts.drain)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.clients.run(limited)
	}()
	probing, stop := context.WithCancel(ctx)
	var probes sync.WaitGroup
	probes.Go(func() { r.clients.probe(probing) })
	for _, database := range r.databases {
		probes.Go(func() { r.clients.operate(probing, database) })
	}
	defer probes.Wait()
	defer stop()
	r.goOn(limited)
	if err := r.heal(ctx); err != nil {
		return err
	}
	healed := time.Now()
	<-ended
	err = eventually(ctx, r.opts.drain+5*time.Second, "the queues are empty", func() bool { return r.waiting(ctx) == 0 })
	r.drain = time.Since(healed)
	r.fleet.stop()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_ = err // whatever is left is seen in the streams
	return nil
}

// serving waits until jobs can be published and taken.
func (r *round) serving(ctx context.Context) error {
	return eventually(ctx, 2*time.Minute, "the streams of the runners are there, and SQL Server has their sessions", func() bool {
		for _, database := range r.databases {
			for _, name := range consumers(database) {
				if _, err := r.js.Consumer(ctx, r.stream("JOBS", database), name); err != nil {
					return false
				}
			}
		}
		_, err := r.js.Stream(ctx, strings.ToUpper(r.namespace)+"_DEAD")
		return err == nil && depotServing(ctx, r)
	})
}

// waiting counts the unfinished jobs, and those that are still to be published; 1 without an answer.
func (r *round) waiting(ctx context.Context) uint64 {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, count := range []func(context.Context, *round) uint64{unfinishedJobs, unsettledSchedules, outboxRows} {
		if n := count(ctx, r); n > 0 {
			return n
		}
	}
	return unfinishedJobs(ctx, r) // what was published meanwhile
}

// unfinishedJobs counts the jobs in the streams; 1 without an answer.
func unfinishedJobs(ctx context.Context, r *round) uint64 {
	var n uint64
	for _, database := range r.databases {
		stream, err := r.js.Stream(ctx, r.stream("JOBS", database))
		if err != nil {
			return 1
		}
		n += stream.CachedInfo().State.Msgs
	}
	return n
}

// goOn samples what the runners hold and makes the faults, until both the time and the faults are over.
func (r *round) goOn(ctx context.Context) {
	sampled, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		for wait(sampled, 500*time.Millisecond) == nil {
			r.fleet.measure()
		}
	}()
	r.makeFaults(ctx)
	if r.plan.killer != "" {
		return // the job goes on killing: the queues show when it has ended
	}
	_ = wait(ctx, time.Until(r.started.Add(r.opts.length)))
}

// close removes what the run has left.
func (r *round) close(ctx context.Context) {
	if r.fleet != nil {
		r.fleet.close()
	}
	closeWays(r)
	if r.nc != nil {
		r.nc.Close()
		if err := r.deleteStreams(ctx); err != nil {
			progress("seed %d: %v", r.seed, err)
		}
	}
	_ = r.world.exec(ctx, "postgres", "DROP DATABASE IF EXISTS "+r.database+" WITH (FORCE)")
	if err := dropDepot(ctx, r); err != nil {
		progress("seed %d: %v", r.seed, err)
	}
	_ = os.RemoveAll(r.dir)
}

// deleteStreams deletes the run's streams, again while the cluster refuses: what is left takes room from later runs.
func (r *round) deleteStreams(ctx context.Context) error {
	nc, js, err := r.world.cluster.connect() // that of the run is closed by now
	if err != nil {
		return err
	}
	defer nc.Close()
	return eventually(ctx, settleTime, "the streams of the run are deleted", func() bool {
		left := r.streams(ctx, js)
		for name := range left {
			_ = js.DeleteStream(ctx, name)
		}
		return len(left) == 0 && nc.IsConnected()
	})
}

// streams are the run's streams and their states.
func (r *round) streams(ctx context.Context, js jetstream.JetStream) map[string]*jetstream.StreamInfo {
	all := map[string]*jetstream.StreamInfo{}
	list := js.ListStreams(ctx)
	for info := range list.Info() {
		name := info.Config.Name
		own := strings.TrimPrefix(strings.TrimPrefix(name, "KV_"), "OBJ_")
		if strings.HasPrefix(own, strings.ToUpper(r.namespace)+"_") {
			all[name] = info
		}
	}
	return all
}

// deadLetterOf finds the dead letter of a request, as the command line names it; empty if there is none.
func (r *round) deadLetterOf(ctx context.Context, q *check.Request) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	list, err := r.deadLetters(ctx)
	if err != nil {
		return ""
	}
	for _, l := range list {
		if l.JobID == q.ID && l.Database == q.Database {
			return l.Database + "." + l.Kind + "." + l.Key
		}
	}
	return ""
}

// connections counts the run's sessions at the PostgreSQL server.
func (r *round) connections(ctx context.Context) (n int, err error) {
	err = r.world.ask(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = '`+r.database+`'`, &n)
	return n, err
}
