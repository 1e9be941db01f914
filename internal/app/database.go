package app

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"dbrunner/contract"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/manager"
	"dbrunner/internal/outbox"
	"dbrunner/internal/report"
	"dbrunner/internal/status"
	"dbrunner/internal/telemetry"
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
	*manager.Database

	// Set by connect.
	results    *resultStore
	executor   *delivery.Executor
	gate       *worker.Gate
	healthGate *worker.Gate // of the lanes that go on while the database does not answer
	lanes      []*worker.Lane
	pauses     []lanePause     // of the lanes that a pause stops
	sweeper    *worker.Sweeper // nil without a ledger
	relay      *outbox.Relay   // nil without an outbox
	paused     atomic.Bool     // by an operator
	onStart    *onStart        // nil: not wanted
	status     *status.Database

	tracer worker.Tracer // nil: no traces
}

func databasesOf(opened []*manager.Database) []*database {
	var out []*database
	for _, d := range opened {
		out = append(out, &database{Database: d})
	}
	return out
}

// connect makes what runs for the database: checker, executor, gates, lanes and sweeper.
func (d *database) connect(r *running) (err error) {
	d.results = &resultStore{Results: results.Of(r.conn, d.Name), traced: r.watch.Tracing() != nil}
	if tracing := r.watch.Tracing(); tracing != nil {
		d.tracer = &tracer{tracing: tracing, engine: d.DB.Engine(), subjects: contract.Subjects{Namespace: r.cfg.Namespace}}
	}
	if err := d.makeGates(r); err != nil {
		return err
	}
	shown := status.DatabaseOptions{Name: d.Name, Config: d.Config, DB: d.DB, Gate: d.gate, Results: d.results, Catalog: d.Catalog.Hash()}
	if d.Migrations != nil {
		shown.Migrations = d.Migrations
	}
	if d.status, err = r.status.Add(shown); err != nil {
		return err
	}
	if d.executor, err = d.newExecutor(r); err != nil {
		return err
	}
	lanes := manager.Lanes(d.Config)
	for i := range lanes {
		if err := d.addLane(r, &lanes[i], lanes); err != nil {
			return err
		}
	}
	d.makeRelay(r)
	return d.makeSweeper(r)
}

func (d *database) makeGates(r *running) (err error) {
	log := r.log.Named("gate")
	prober := d.prober(r.log.Named("database"))
	if d.Direct != nil {
		prober = &dualProber{Prober: prober, direct: d.Direct}
	}
	if d.Config.MigrateOnStart {
		d.onStart = &onStart{
			Prober: prober, migrator: &migrator{r: r, database: d}, limit: manager.MigrationTimeout(d.Config),
			log: r.log.Named("migration").With(zap.String("database", d.Name)),
		}
		prober = d.onStart
	}
	d.gate, err = worker.NewGate(worker.GateOptions{Database: d.Name, Prober: prober, Logger: log})
	if err != nil {
		return err
	}
	d.healthGate, err = worker.NewGate(worker.GateOptions{Database: d.Name, Logger: log})
	return err
}

func (d *database) newExecutor(r *running) (*delivery.Executor, error) {
	opts := delivery.ExecutorOptions{
		Namespace: r.cfg.Namespace,
		Runner:    r.cfg.Instance,
		Database:  d.DB,
		Policy:    d.Policy(r.cfg),
		Results:   d.results,
		Health:    d.status.Checker(),
		MaxBody:   r.conn.MaxPayload(),
		MaxResult: r.conn.MaxPayload() - resultRoom,

		Objects:       r.rows,
		Inputs:        &paramsStore{objects.Params(r.conn)},
		Cancellations: &cancellations{r.cancellations, d.Name},
	}
	if d.Direct != nil {
		opts.Outside = d.Direct
	}
	if d.Migrations != nil {
		opts.Migrations = &migrator{r: r, database: d}
	}
	executor, err := delivery.NewExecutor(opts)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", d.Name, err)
	}
	return executor, nil
}

// resultRoom is what a result's headers take of the largest message that the server accepts, bytes: a publish counts
// them, and a re-published message has more of them than ours.
const resultRoom = 4 << 10

func (d *database) addLane(r *running, l *jobs.Lane, all []jobs.Lane) error {
	in := &laneIntake{conn: r.conn, cfg: r.cfg, database: d.Name, lane: l.Name, optional: l.Optional, ordered: l.Ordered, baseSlots: l.BaseSlots(d.Config.BaseSlots())}
	gate, quarantine := d.gate, r.quarantine
	if l.RunsWhenDown {
		gate, quarantine = d.healthGate, nil
	}
	var pause *worker.Pause
	if l.Pausable {
		pause = &worker.Pause{}
		d.pauses = append(d.pauses, lanePause{pause, l.Queue})
	}
	made, err := worker.New(worker.Options{
		Database:         d.Name,
		Name:             l.Name,
		Queue:            l.Queue,
		Slots:            l.Slots(d.Config.Slots),
		MaxSettling:      l.MaxSettling(r.cfg.Worker.SettleInFlight, len(r.databases), all),
		AckWait:          r.cfg.Topology.AckWait,
		UnreachableGrace: r.cfg.Worker.UnreachableGrace,
		Intake:           in,
		Executor:         d.executor,
		Results:          d.results,
		Outbox:           &deadLetterOutbox{conn: r.conn, runner: r.cfg.Instance},
		Gate:             gate,
		Pause:            pause,
		Order:            orderOf(r.conn, d.Name, l, in, d.executor),
		Quarantine:       quarantine,
		Outlives:         l.Outlives,
		Now:              manager.LeaseClock(),
		Observer:         d.observer(r, l),
		Tracer:           d.tracer,
		Logger:           r.log.Named("worker"),
	})
	if err != nil {
		return err
	}
	d.lanes = append(d.lanes, made)
	d.status.AddLane(l.Name, l.Queue, func() report.Lane {
		s := made.State()
		s.IntakeError = cmp.Or(s.IntakeError, in.trouble())
		return s
	})
	return nil
}

// observer counts a lane's jobs; nil: there are no metrics.
func (d *database) observer(r *running, l *jobs.Lane) worker.Observer {
	metrics := r.watch.Metrics()
	if metrics == nil {
		return nil
	}
	return metrics.Jobs(telemetry.Lane{Database: d.Name, Queue: l.Queue, Kinds: l.Kinds, Calls: d.Catalog.Names()})
}

func (d *database) makeSweeper(r *running) error {
	if !d.Config.HasLedger() {
		return nil
	}
	sweeper, err := worker.NewSweeper(worker.SweeperOptions{
		Database:  d.Name,
		Ledger:    d.DB,
		Backlog:   &backlog{conn: r.conn, database: d.Name},
		Gate:      d.gate,
		Retention: d.Config.Ledger.Retention,
		Interval:  d.Config.Ledger.SweepInterval,
		Timeout:   sweepTimeout,
		Batch:     sweepBatch,
		Logger:    r.log.Named("sweeper"),
	})
	d.sweeper = sweeper
	d.status.SetSweeper(sweeper)
	return err
}

// inFlight lists the database's jobs that this runner has in flight.
func (d *database) inFlight() []contract.RunningJob {
	var out []contract.RunningJob
	for _, l := range d.lanes {
		out = append(out, worker.InFlight(l, d.executor.JobID)...)
	}
	return out
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
	ctx, cancel := context.WithTimeout(ctx, max(d.Config.Pool.ConnectTimeout, time.Second)*2)
	defer cancel()
	if err := d.DB.Probe(ctx); err != nil {
		return fmt.Errorf("database %s: %w", d.Name, err)
	}
	return nil
}
