package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dbrunner/internal/bus"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
	"dbrunner/internal/worker"
)

// The clean-up of a ledger: rows a statement, and the time limit of one.
const (
	sweepBatch   = 500
	sweepTimeout = 30 * time.Second
)

// retentionInterval is how often the results are looked at whether they leave room.
const retentionInterval = 5 * time.Second

// database is one configured database with everything that runs for it.
type database struct {
	name string
	cfg  *config.Database
	db   db.Database

	direct     db.Database // past the pooler before db; nil: there is none
	migrations *migrations // nil: not possible here

	// Set by connect.
	conn       *bus.Conn
	results    *results
	executor   *jobs.Executor
	gate       *worker.Gate
	healthGate *worker.Gate // of the lanes that go on while the database does not answer
	lanes      []*worker.Lane
	intakes    []*intake       // of the lanes, in their order
	sweeper    *worker.Sweeper // nil without a ledger
	onStart    *onStart        // nil: not wanted
	checker    *jobs.Checker
	beacon     *bus.HeartbeatPublisher

	observer worker.Observer // nil: nobody looks
	tracer   worker.Tracer   // nil: nobody looks

	latest atomic.Pointer[checked]
}

// openDatabases opens all configured databases. Opening connects to nothing: what fails here is a fault of the
// configuration, and all of them are told at once.
func openDatabases(cfg *config.Config, sources map[string]fs.FS) ([]*database, error) {
	var databases []*database
	var faults []error
	for _, name := range databaseNames(cfg) {
		d, err := openDatabase(cfg, name, sources[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("databases.%s: %w", name, err))
			continue
		}
		databases = append(databases, d)
	}
	if len(faults) > 0 {
		return nil, errors.Join(&ConfigError{errors.Join(faults...)}, closeDatabases(databases))
	}
	return databases, nil
}

func openDatabase(cfg *config.Config, name string, source fs.FS) (*database, error) {
	settings := cfg.Databases[name]
	engine, err := engineByName(settings.Type)
	if err != nil {
		return nil, err
	}
	if err := checkPooled(settings); err != nil {
		return nil, err
	}
	opened, err := engine.open(dbOptions(cfg, name))
	if err != nil {
		return nil, connectionFault(settings.ConnectionString, err)
	}
	d := &database{name: name, cfg: settings, db: opened}
	d.direct, err = openDirect(cfg, name, engine)
	if err == nil {
		d.migrations, err = openMigrations(cfg, name, source)
	}
	if err == nil && settings.MigrateOnStart {
		err = d.migrations.usable()
	}
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func closeDatabases(databases []*database) error {
	var errs []error
	for _, d := range databases {
		if err := d.close(); err != nil {
			errs = append(errs, fmt.Errorf("close database %s: %w", d.name, err))
		}
	}
	return errors.Join(errs...)
}

func (d *database) close() error {
	err := errors.Join(d.migrations.close(), d.db.Close())
	if d.direct != nil {
		err = errors.Join(err, d.direct.Close())
	}
	return err
}

// connect makes what runs for the database: checker, executor, gates, lanes and sweeper.
func (d *database) connect(r *running) (err error) {
	d.conn = r.conn
	d.results = &results{Results: r.conn.Results(d.name), traced: r.watch.tracing != nil}
	d.observer, d.tracer = r.watch.observer(d.name), r.watch.tracer(r.cfg.Namespace, d)
	if d.beacon, err = r.conn.DatabaseHeartbeats(d.name, r.cfg.Instance); err != nil {
		return err
	}
	if err := d.makeGates(r); err != nil {
		return err
	}
	d.checker = d.makeChecker()
	if d.executor, err = d.newExecutor(r); err != nil {
		return err
	}
	for _, l := range lanes() {
		made, err := d.lane(r, &l)
		if err != nil {
			return err
		}
		d.lanes = append(d.lanes, made)
	}
	return d.makeSweeper(r)
}

func (d *database) makeGates(r *running) (err error) {
	log := r.log.Named("gate")
	prober := d.prober(r.log.Named("database"))
	if d.direct != nil {
		prober = &dualProber{Prober: prober, direct: d.direct}
	}
	if d.onStart = newOnStart(r, d, prober); d.onStart != nil {
		prober = d.onStart
	}
	d.gate, err = worker.NewGate(worker.GateOptions{Database: d.name, Prober: prober, Logger: log})
	if err != nil {
		return err
	}
	d.healthGate, err = worker.NewGate(worker.GateOptions{Database: d.name, Logger: log})
	return err
}

func (d *database) newExecutor(r *running) (*jobs.Executor, error) {
	executor, err := jobs.NewExecutor(jobs.ExecutorOptions{
		Namespace: r.cfg.Namespace,
		Runner:    r.cfg.Instance,
		Database:  d.db,
		Policy:    policy(r.cfg, d.cfg),
		Results:   d.results,
		Health:    d.checker,
		MaxBody:   r.conn.MaxPayload(),
		MaxResult: r.conn.MaxPayload() - resultRoom,

		Objects:       r.rows,
		Inputs:        &paramsStore{bus.ParamsBucket(r.conn)},
		Cancellations: &cancellations{r.cancellations, d.name},
		Outside:       d.autocommitExecutor(),
		Migrations:    d.migrator(r),
	})
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", d.name, err)
	}
	return executor, nil
}

// resultRoom is what a result's headers take of the largest message that the server accepts, bytes: a publish counts
// them, and a re-published message has more of them than ours.
const resultRoom = 4 << 10

func (d *database) lane(r *running, l *lane) (*worker.Lane, error) {
	in := &intake{conn: r.conn, cfg: r.cfg, database: d.name, lane: l.name, steady: l.steadyOf(d.cfg.SteadySlots())}
	d.intakes = append(d.intakes, in)
	gate, suspects := d.gate, r.suspects
	if l.runsWhenDown {
		gate, suspects = d.healthGate, nil
	}
	return worker.New(worker.Options{
		Database:          d.name,
		Name:              l.name,
		Slots:             l.slotsOf(d.cfg.Slots),
		MaxSettling:       l.settlingOf(r.cfg.Worker.SettleInFlight, len(r.databases)),
		AckWait:           r.cfg.Topology.AckWait,
		UnreachableGrace:  r.cfg.Worker.UnreachableGrace,
		Intake:            in,
		Executor:          d.executor,
		Results:           d.results,
		Outbox:            &outbox{conn: r.conn, runner: r.cfg.Instance},
		Gate:              gate,
		Suspects:          suspects,
		SurvivesLeaseLoss: func(kind string) bool { return slices.Contains(l.outlives, kind) },
		Now:               leaseClock(),
		Observer:          d.observer,
		Tracer:            d.tracer,
		Logger:            r.log.Named("worker"),
	})
}

func (d *database) makeSweeper(r *running) error {
	if !d.cfg.HasLedger() {
		return nil
	}
	sweeper, err := worker.NewSweeper(worker.SweeperOptions{
		Database:  d.name,
		Ledger:    d.db,
		Backlog:   &backlog{conn: r.conn, database: d.name},
		Gate:      d.gate,
		Retention: d.cfg.Ledger.Retention,
		Interval:  d.cfg.Ledger.SweepInterval,
		Timeout:   sweepTimeout,
		Batch:     sweepBatch,
		Logger:    r.log.Named("sweeper"),
	})
	d.sweeper = sweeper
	return err
}

// background starts what runs beside the lanes until ctx ends.
func (d *database) background(ctx context.Context, group *errgroup.Group, minAge time.Duration) {
	group.Go(func() error { return d.gate.Run(ctx) })
	group.Go(func() error { return d.healthGate.Run(ctx) })
	group.Go(func() error { return d.results.RunRetention(ctx, retentionInterval, minAge) })
	if d.sweeper != nil {
		group.Go(func() error { return d.sweeper.Run(ctx) })
	}
	if d.onStart != nil {
		group.Go(func() error { return d.onStart.Run(ctx) })
	}
}

// probe reaches the database once, for those who want to know before anything runs.
func (d *database) probe(ctx context.Context) error {
	if d.onStart != nil {
		if err := d.onStart.once(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, max(d.cfg.Pool.ConnectTimeout, time.Second)*2)
	defer cancel()
	if err := d.db.Probe(ctx); err != nil {
		return fmt.Errorf("database %s: %w", d.name, err)
	}
	return nil
}
