package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"dbrunner/contract"
	"dbrunner/internal/api"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/bus/service"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/jobs"
	"dbrunner/internal/manager"
	"dbrunner/internal/status"
	"dbrunner/internal/worker"
)

// closeTimeout bounds the flush of the connection to NATS at the end.
const closeTimeout = 5 * time.Second

// Options is what a runner is made with.
type Options struct {
	Config  *config.Config // loaded and complete
	Logger  *zap.Logger
	Version string // of the build
	// Strict makes a database that cannot be reached at the start an error of Run. Otherwise its jobs wait and the
	// other databases run.
	Strict bool
	// Level is the logger's level, which HTTP can change; nil: it cannot.
	Level *zap.AtomicLevel
	// Migrations are folders of migrations that are built in, by database; each stands in the place of the configured one.
	Migrations map[string]fs.FS
}

// App is a runner that is not running yet.
type App struct {
	opts    Options
	started chan struct{}
}

// New returns a runner. It connects to nothing.
func New(opts Options) (*App, error) {
	if opts.Config == nil || opts.Logger == nil {
		return nil, errors.New("app: configuration and logger are needed")
	}
	return &App{opts: opts, started: make(chan struct{})}, nil
}

// Started is closed once the streams are there and the lanes run.
func (a *App) Started() <-chan struct{} { return a.started }

// Run runs the runner until ctx ends and everything that was started has come to its end, at most until the drain
// timeout. It runs once. Its error is a fault of the configuration (*manager.ConfigError), a difference of the topology
// (*topology.Error), or what kept it from starting; after a start in order, and if ctx ends before, it returns nil.
func (a *App) Run(ctx context.Context) error {
	err := a.run(ctx)
	select {
	case <-a.started:
		return err
	default:
	}
	if _, fault := errors.AsType[*manager.ConfigError](err); err == nil || fault || ctx.Err() == nil {
		return err
	}
	a.opts.Logger.Info("stopped during startup", zap.Error(err))
	return nil
}

func (a *App) run(ctx context.Context) (err error) {
	cfg, log := a.opts.Config, a.opts.Logger
	opened, err := manager.Open(cfg, a.opts.Migrations)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, manager.Close(opened)) }()
	boundMemory(cfg, log, memoryLimit())

	watch, err := status.NewMonitor(ctx, &status.MonitorOptions{Config: cfg, Logger: log, Version: a.opts.Version, Level: a.opts.Level, Kinds: jobs.Kinds()})
	if err != nil {
		return &manager.ConfigError{Err: err}
	}
	defer func() { err = errors.Join(err, watch.Close(ctx)) }()

	conn, err := bus.Connect(ctx, manager.BusOptions(cfg, log.Named("bus")))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeConn(ctx, conn)) }()

	if err := ensureTopology(ctx, conn, cfg); err != nil {
		return err
	}
	r := &running{
		cfg: cfg, log: log, conn: conn, watch: watch, databases: databasesOf(opened), version: a.opts.Version,
		quarantine:    worker.NewQuarantine(),
		cancellations: control.NewCancellations(conn, manager.DatabaseNames(cfg)),
		rows:          &rowsStore{bucket: objects.Rows(conn), places: make(chan struct{}, cfg.Worker.MaxOutputs)},
		topology:      topology.NewWatch(conn, manager.Topology(cfg), cfg.Topology.Mode == config.TopologyManage),
		dead:          deadletters.NewWatch(conn),
	}
	r.pauses = control.NewPauses(control.PausesOptions{Conn: conn, Databases: manager.DatabaseNames(cfg), Apply: r.applyPauses})
	r.schedules = r.newSchedules()
	if err := r.connect(); err != nil {
		return err
	}
	r.status.PublishRunner(ctx)
	if a.opts.Strict {
		if err := r.probe(ctx); err != nil {
			r.announceStopped(ctx)
			return err
		}
	}
	return r.run(ctx, a.started)
}

func closeConn(ctx context.Context, conn *bus.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		return fmt.Errorf("close the connection to NATS: %w", err)
	}
	return nil
}

// running is a runner under way.
type running struct {
	cfg        *config.Config
	log        *zap.Logger
	conn       *bus.Conn
	watch      *status.Monitor
	databases  []*database
	version    string
	quarantine *worker.Quarantine

	cancellations *control.Cancellations
	pauses        *control.Pauses
	schedules     *scheduler
	rows          *rowsStore
	topology      *topology.Watch
	dead          *deadletters.Watch
	status        *status.Runner
}

func (r *running) connect() (err error) {
	if r.status, err = status.New(status.Options{
		Config: r.cfg, Logger: r.log, Conn: r.conn, Version: r.version, Topology: r.topology, DeadLetters: r.dead,
		Pauses: r.pauses, Schedules: r.schedules,
	}); err != nil {
		return err
	}
	for _, d := range r.databases {
		if err := d.connect(r); err != nil {
			return err
		}
	}
	return nil
}

// probe reaches every database once and reports all that cannot be reached.
func (r *running) probe(ctx context.Context) error {
	errs := make([]error, len(r.databases))
	var group errgroup.Group
	for i, d := range r.databases {
		group.Go(func() error {
			errs[i] = d.probe(ctx)
			return nil
		})
	}
	_ = group.Wait() // none returns an error: all of them are wanted
	return errors.Join(errs...)
}

// errDrainTimeout ends what still runs at the drain deadline.
var errDrainTimeout = errors.New("the drain timeout is over")

// run has two contexts: intake, which is ctx, ends at the first signal; work ends at the drain deadline. What runs
// beside the lanes (gates, leases, sweepers, heartbeats) ends after them.
func (r *running) run(ctx context.Context, started chan<- struct{}) error {
	work, stopWork := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stopWork(nil)
	backgroundCtx, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()

	r.status.Enter(contract.RunnerRunning)
	var background errgroup.Group
	for _, d := range r.databases {
		d.background(backgroundCtx, &background, r.cfg.Topology.Results.MinAge)
	}
	background.Go(func() error { return r.status.Run(backgroundCtx) })
	background.Go(func() error { return r.topology.Run(backgroundCtx, topology.WatchInterval) })
	background.Go(func() error { return r.dead.Run(backgroundCtx, deadInterval) })
	background.Go(func() error { return r.newRowsSweeper().Run(backgroundCtx) })
	r.watch.Background(backgroundCtx, &background, r.status)
	background.Go(func() error { return r.watchCancellations(backgroundCtx) })
	background.Go(func() error { return r.pauses.Run(backgroundCtx) })
	answering, err := r.openService(ctx, backgroundCtx)
	if err != nil {
		stopBeside()
		return errors.Join(err, background.Wait())
	}
	background.Go(func() error { return answering.Run(ctx, backgroundCtx) })
	background.Go(func() error { return r.schedules.run(ctx) })

	var lanes errgroup.Group
	for _, d := range r.databases {
		for _, l := range d.lanes {
			lanes.Go(func() error { return l.Run(work, ctx) })
		}
		if d.relay != nil { // it claims nothing after the first signal
			background.Go(func() error { return d.relay.Run(ctx) })
		}
	}
	close(started)
	r.log.Info("runner started", zap.String("instance", r.cfg.Instance), zap.String("version", r.version),
		zap.String("nats", r.conn.State().Server), zap.Strings("databases", manager.DatabaseNames(r.cfg)))

	ended := make(chan struct{})
	background.Go(func() error { return r.drain(ctx, ended, stopWork) })
	err = lanes.Wait()
	close(ended)
	stopBeside()
	err = errors.Join(err, background.Wait())
	r.announceStopped(ctx)
	return err
}

// openService opens the service once all that is there to be cancelled, and what is paused, is known: intake starts after it.
func (r *running) openService(ctx, backgroundCtx context.Context) (*service.Service, error) {
	if err := r.conn.Ready(ctx); err != nil {
		return nil, err
	}
	opts := api.Options{Config: r.cfg, Conn: r.conn, Version: r.version, Process: r.status.Process()}
	for _, d := range r.databases {
		opts.Databases = append(opts.Databases, &api.Database{
			Name: d.Name, Engine: d.DB.Engine(), Config: d.Config, Policy: d.Policy(r.cfg),
			Results: d.results, Ledger: d.DB, Jobs: d.executor.Decoder(),
			Check:    func(ctx context.Context) *contract.Health { return d.status.Checker().Check(ctx) },
			Paused:   func(kind string) string { return d.status.PausedText(jobs.LaneOf(kind)) },
			Recorded: d.executor.Recorded, Running: d.inFlight,
		})
	}
	return api.Open(backgroundCtx, opts)
}

// deadInterval is how often the stream of dead letters is checked for evicted dead letters.
const deadInterval = 30 * time.Second

// drain starts when ctx ends: the lanes requeue unstarted jobs by themselves. At the deadline the work ends.
func (r *running) drain(ctx context.Context, ended <-chan struct{}, stopWork context.CancelCauseFunc) error {
	select {
	case <-ctx.Done():
	case <-ended:
		return nil
	}
	r.status.Enter(contract.RunnerDraining)
	r.log.Info("runner draining", zap.Duration("at_most", r.cfg.Worker.DrainTimeout))
	deadline := time.NewTimer(r.cfg.Worker.DrainTimeout)
	defer deadline.Stop()
	select {
	case <-deadline.C:
		r.log.Warn("drain timeout; stopping and requeuing running jobs")
		stopWork(errDrainTimeout)
	case <-ended:
	}
	return nil
}

// announceStopped reports that the runner has ended.
func (r *running) announceStopped(ctx context.Context) {
	r.status.Enter(contract.RunnerStopped)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	r.status.Publish(ctx)
	r.log.Info("runner stopped")
}
