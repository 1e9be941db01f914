package status

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/telemetry"
)

// Monitor shows the runner to its observers: by HTTP where an address is configured, by traces where the environment
// names an endpoint. It answers from the first moment to the last, while the runner starts and drains as well.
type Monitor struct {
	log     *zap.Logger
	metrics *telemetry.Metrics // nil: nothing listens
	tracing *telemetry.Tracing // nil: no traces
	running atomic.Pointer[view]

	stop   context.CancelFunc
	serves sync.WaitGroup
}

// view is what is seen of a runner under way.
type view struct {
	*Runner
	queues *sampler // nil: nothing listens
}

// MonitorOptions configures a Monitor.
type MonitorOptions struct {
	Config  *config.Config
	Logger  *zap.Logger
	Version string           // of the build
	Level   *zap.AtomicLevel // that can be changed over HTTP; nil: none can
	Kinds   []string         // of jobs
}

// NewMonitor opens the port and starts tracing. Its error is about the configuration. The owner calls Close.
func NewMonitor(ctx context.Context, opts *MonitorOptions) (*Monitor, error) {
	w := &Monitor{log: opts.Logger.Named("http"), stop: func() {}}
	build := telemetry.Build{Version: opts.Version, GoVersion: runtime.Version(), Runner: opts.Config.Instance}
	var err error
	if w.tracing, err = telemetry.StartTracing(ctx, telemetry.TracingOptions{Build: build, Logger: opts.Logger.Named("tracing")}); err != nil {
		return nil, err
	}
	if opts.Config.HTTP.Address == "" {
		return w, nil
	}
	w.metrics = telemetry.NewMetrics(build, metricWords(opts.Kinds), w)
	settings := telemetry.ServerOptions{
		Address: opts.Config.HTTP.Address, Metrics: w.metrics.Handler(w.log), Ready: w.ready,
		PProf: opts.Config.HTTP.PProf, Logger: w.log,
	}
	if opts.Config.HTTP.LogLevel {
		settings.Level = opts.Level
	}
	server, err := telemetry.Listen(ctx, settings)
	if err != nil {
		return nil, errors.Join(err, w.Close(ctx))
	}
	w.log.Info("HTTP endpoint listening", zap.String("address", server.Address()))
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.serves.Go(func() {
		if err := server.Run(serving); err != nil {
			w.log.Error("HTTP endpoint failed; jobs continue", zap.Error(err))
		}
	})
	return w, nil
}

// Close ends the listening and sends the last traces.
func (w *Monitor) Close(ctx context.Context) error {
	w.stop()
	w.serves.Wait()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := w.tracing.Close(ctx); err != nil { // no fault of the runner's
		w.log.Warn("traces lost", zap.Error(err))
	}
	return nil
}

// Background shows a runner under way, and starts what looks at the streams for it until ctx ends.
func (w *Monitor) Background(ctx context.Context, group *errgroup.Group, r *Runner) {
	seen := &view{Runner: r}
	if w.metrics != nil {
		seen.queues = &sampler{
			conn: r.conn, watch: r.dead, databases: r.databases, log: r.log.Named("queues"),
			queued: make(map[string]*telemetry.Queue, len(r.databases)),
		}
		group.Go(func() error { return seen.queues.Run(ctx) })
	}
	w.running.Store(seen)
}

// Metrics are what jobs are counted in; nil if nothing listens.
func (w *Monitor) Metrics() *telemetry.Metrics { return w.metrics }

// Tracing follows deliveries; nil if there are no traces.
func (w *Monitor) Tracing() *telemetry.Tracing { return w.tracing }

// metricWords are the closed sets of the contract.
func metricWords(kinds []string) telemetry.Words {
	w := telemetry.Words{
		Kinds: kinds,
		Statuses: []string{
			string(contract.Succeeded), string(contract.Failed), string(contract.Rejected), string(contract.Canceled), string(contract.Expired), string(contract.Unknown),
		},
		Reasons: contract.DeadLetterReasons(),
	}
	for _, code := range contract.Codes() {
		w.Codes = append(w.Codes, string(code))
	}
	return w
}

// ready returns whether jobs can run here: the lanes run, and one of them at least gets jobs and reaches its database.
func (w *Monitor) ready() telemetry.Readiness {
	r := w.running.Load()
	if r == nil {
		return telemetry.Readiness{State: contract.RunnerStarting}
	}
	out := telemetry.Readiness{State: r.state()}
	link := r.conn.State()
	connected := link.Connected
	switch {
	case connected:
	case link.Refused != "":
		out.Reasons = append(out.Reasons, "NATS is not connected: the server refuses the runner's credentials ("+link.Refused+
			"); they are read again at each attempt")
	default:
		out.Reasons = append(out.Reasons, "NATS is not connected")
	}
	canRunJobs := false
	for _, d := range r.databases {
		reason := d.unreadyReason()
		if reason != "" {
			out.Reasons = append(out.Reasons, "database "+d.Name+": "+reason)
		}
		canRunJobs = canRunJobs || d.canRunJobs()
	}
	out.Ready = out.State == contract.RunnerRunning && connected && canRunJobs
	return out
}

// canRunJobs reports whether at least one of the database's lanes can run jobs.
func (d *Database) canRunJobs() bool {
	return d.Gate.State().Open && d.condition().State != contract.DatabaseBlocked &&
		slices.ContainsFunc(d.lanes, func(l *lane) bool { return l.state().IntakeError == "" })
}

// unreadyReason returns what is wrong with the database or one of its lanes; empty: nothing.
func (d *Database) unreadyReason() string {
	if reason := d.condition().Reason; reason != "" {
		return reason
	}
	if paused := queuesPaused(d); paused != "" {
		return paused
	}
	for _, l := range d.lanes {
		if reason := l.state().IntakeError; reason != "" {
			return reason
		}
	}
	// Sessions that are there may go on although no new one is let in, for example with a password that was replaced.
	if last := d.latest.Load(); last != nil && last.health.Verdict == contract.Unhealthy {
		return strings.Join(last.health.Reasons, "; ")
	}
	return ""
}

// Snapshot describes the runner for a scrape.
func (w *Monitor) Snapshot() telemetry.Snapshot {
	r := w.running.Load()
	if r == nil {
		return telemetry.Snapshot{}
	}
	link := r.conn.State()
	s := telemetry.Snapshot{
		Ready: w.ready().Ready, Draining: r.state() == contract.RunnerDraining, Dead: r.queues.dead(),
		NATS: telemetry.Link{Connected: link.Connected, Reconnects: link.Reconnects, Denied: len(link.Denied), DeniedReplies: link.DeniedReplies},
	}
	for _, d := range r.databases {
		gate := d.Gate.State()
		shown := telemetry.Database{
			Name: d.Name, Engine: d.DB.Engine(), Up: gate.Unreachable == "", ResultsFull: gate.ResultsFull, Paused: len(d.paused()) > 0, Catalog: d.Catalog,
			Outbox: d.outboxState(), Purged: d.Results.Purged(), Pool: d.DB.Stats(), Queue: r.queues.queue(d.Name),
		}
		for _, l := range d.lanes {
			shown.Lanes = append(shown.Lanes, l.state())
		}
		if d.sweeper != nil {
			state := d.sweeper.State()
			shown.Ledger = &state
		}
		shown.Schedules = scheduleMetrics(d)
		s.Databases = append(s.Databases, shown)
	}
	return s
}
