package status

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/health"
	"dbrunner/internal/report"
)

// closeTimeout bounds the sending of the last traces.
const closeTimeout = 5 * time.Second

// Options configures a Runner.
type Options struct {
	Config  *config.Config
	Logger  *zap.Logger
	Conn    *bus.Conn
	Version string // of the build

	Topology    *topology.Watch
	DeadLetters *deadletters.Watch
	Pauses      Pauses // nil: none are obeyed
	Schedules   Schedules
}

// Schedules are the schedules that this runner tracks.
type Schedules interface {
	// Summary describes those of a database; nil: there are none, and nothing is wrong.
	Summary(database string) *contract.ScheduleSummary
	// Ticks returns the ticks of a database that this runner has settled.
	Ticks(database string) report.Ticks
}

// Pauses are the operators' pauses.
type Pauses interface {
	// Of returns the pauses of a database that are in force.
	Of(database string) []report.Pause
	// Trouble returns why pauses are impaired; empty: they are not.
	Trouble() string
}

// Runner reports the state of one runner: in heartbeats, by its readiness and in metrics.
type Runner struct {
	cfg        *config.Config
	log        *zap.Logger
	conn       *bus.Conn
	topology   *topology.Watch
	dead       *deadletters.Watch
	pauses     Pauses
	schedules  Schedules
	version    string
	startedAt  time.Time
	self       process
	heartbeats *bus.HeartbeatPublisher
	duplicates duplicateInstance
	databases  []*Database

	stage atomic.Pointer[string] // a state of a heartbeat
}

// New returns the status of a runner that is starting and has no databases yet.
func New(opts Options) (*Runner, error) {
	r := &Runner{
		cfg: opts.Config, log: opts.Logger, conn: opts.Conn, topology: opts.Topology, dead: opts.DeadLetters, pauses: opts.Pauses, schedules: opts.Schedules,
		version: opts.Version, startedAt: time.Now(), self: thisProcess(),
	}
	var err error
	r.heartbeats, err = bus.RunnerHeartbeats(r.conn, r.cfg.Instance)
	r.Enter(contract.RunnerStarting)
	return r, err
}

// Process returns the word of this run of the runner, which its heartbeats have.
func (r *Runner) Process() string { return r.self.ID }

// Enter takes over the runner's state.
func (r *Runner) Enter(state string) { r.stage.Store(&state) }

func (r *Runner) state() string { return *r.stage.Load() }

// Run publishes heartbeats, checks databases and requests how far lanes are behind, until ctx ends.
func (r *Runner) Run(ctx context.Context) error {
	var group errgroup.Group
	for _, d := range r.databases {
		group.Go(func() error { return d.watchHealth(ctx, r.log.Named("health")) })
	}
	group.Go(func() error { return r.publishHeartbeats(ctx) })
	group.Go(func() error { return r.sampleLag(ctx) })
	return group.Wait()
}

// Publish publishes the heartbeats of the runner and of its databases now.
func (r *Runner) Publish(ctx context.Context) {
	r.PublishRunner(ctx)
	for _, d := range r.databases {
		r.publishDatabase(ctx, d)
	}
}

// Target is what the status needs of a database itself.
type Target interface {
	health.Checkable
	Engine() string
}

// Gate is what the status needs of the gate of a database's lanes.
type Gate interface {
	State() report.Gate
	// Probed returns a channel that is closed after the first probe.
	Probed() <-chan struct{}
}

// Results is what the status needs of a database's results stream.
type Results interface {
	SeenRoom() (results.Room, bool)
	Purged() uint64
}

// Sweeper is what the status needs of the cleanup of a ledger.
type Sweeper interface{ State() report.Sweep }

// Outbox is what the status needs of the relay of an outbox.
type Outbox interface{ State() report.Outbox }

// DatabaseOptions is what the status needs of one database.
type DatabaseOptions struct {
	Name       string
	Config     *config.Database
	DB         Target
	Migrations health.MigrationStatus // nil: none are possible
	Gate       Gate
	Results    Results
	Catalog    string // hash of the catalog; empty: there is none
}

// Database reports the state of one database.
type Database struct {
	DatabaseOptions

	topology   *topology.Watch
	pauses     Pauses    // nil: none are obeyed
	schedules  Schedules // nil: none are tracked
	checker    *health.Checker
	heartbeats *bus.HeartbeatPublisher
	lanes      []*lane
	sweeper    Sweeper // nil without a ledger
	outbox     Outbox  // nil: it has none

	latest atomic.Pointer[checked]
}

// lane is one lane of a database.
type lane struct {
	name  string
	queue string // whose jobs it runs; empty: it is no queue's
	state func() report.Lane
	lag   atomic.Pointer[report.Lag] // as it was requested last
}

// Add adds a database. What runs for it is added before Run.
func (r *Runner) Add(opts DatabaseOptions) (*Database, error) {
	heartbeats, err := bus.DatabaseHeartbeats(r.conn, opts.Name, r.cfg.Instance)
	if err != nil {
		return nil, err
	}
	d := &Database{DatabaseOptions: opts, topology: r.topology, pauses: r.pauses, schedules: r.schedules, heartbeats: heartbeats}
	h := &opts.Config.Health
	d.checker = health.NewChecker(health.Options{
		Database:       opts.DB,
		Timeout:        h.Timeout,
		Slow:           h.Slow,
		PoolSaturation: h.PoolSaturation,
		PoolWait:       h.PoolWait,
		IgnorePending:  h.PendingMigrations == config.PendingIgnore,
		Writes:         opts.Config.HasLedger(),
		Migrations:     opts.Migrations,
		Jobs:           d.jobsVerdict,
	})
	r.databases = append(r.databases, d)
	return d, nil
}

// Checker returns what checks the database.
func (d *Database) Checker() *health.Checker { return d.checker }

// AddLane adds a lane; one of a queue has its name.
func (d *Database) AddLane(name, queue string, state func() report.Lane) {
	d.lanes = append(d.lanes, &lane{name: name, queue: queue, state: state})
}

// SetOutbox adds the relay of the outbox.
func (d *Database) SetOutbox(o Outbox) { d.outbox = o }

// SetSweeper adds the cleanup of the ledger.
func (d *Database) SetSweeper(s Sweeper) { d.sweeper = s }
