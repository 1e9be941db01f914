package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// Defaults of the options, and what no option changes.
const (
	DefaultRate  = 10_000
	DefaultLimit = 1000

	// slack is how far clocks of different servers may be apart, and how long removing by age may lag behind.
	slack = time.Minute
	// settled is how old something has to be that is not read once more after a pause before it is reported.
	settled = time.Minute
	// pauseBefore is that pause.
	pauseBefore = 2 * time.Second
	// grace is how long a job's message may be there after its result was stored.
	grace = 15 * time.Minute
)

// Options is what Run needs.
type Options struct {
	NATS      *nats.Conn
	Domain    string // JetStream domain, usually empty
	Namespace string
	Database  string

	Ledger      *Ledger       // nil: the database has none
	Retention   time.Duration // how long the ledger keeps a row
	DeadLetters []string      // the reasons for which jobs leave dead letters

	Since    time.Time     // only what is younger; zero: everything
	Rate     int           // records per second that are read at most; 0: DefaultRate
	Limit    int           // findings after which it stops; 0: DefaultLimit
	Grace    time.Duration // how long a job's message may be there after its result was stored; 0: 15 minutes
	Pause    time.Duration // before something young is read once more; 0: 2 seconds
	Remember uint64        // results that are remembered at most; 0: as many as have room in 64 MiB

	// Progress is called after each page with what is being read and how much of it has been; nil: it is not called. A
	// total of 0 is not known.
	Progress func(stage string, done, total uint64)
}

// Report is what Run has read and found.
type Report struct {
	Namespace   string       `json:"namespace"`
	Database    string       `json:"database"`
	StartedAt   time.Time    `json:"started_at"`
	FinishedAt  time.Time    `json:"finished_at"`
	Since       time.Time    `json:"since,omitzero"`
	Results     uint64       `json:"results"`      // that were read
	LedgerRows  uint64       `json:"ledger_rows"`  // that were read
	DeadLetters uint64       `json:"dead_letters"` // that were read
	Jobs        uint64       `json:"jobs"`         // messages of the jobs stream that were read
	InProgress  uint64       `json:"in_progress"`  // ledger rows whose jobs are still being settled
	NotJudged   NotJudged    `json:"not_judged"`
	Complete    bool         `json:"complete"` // false: there were too many findings to go on
	Findings    []*Finding   `json:"findings"`
	Counts      map[Kind]int `json:"counts"`
}

// NotJudged counts what was read and left alone, because nothing can be concluded from it.
type NotJudged struct {
	ExpiredResults uint64 `json:"expired_results"` // ledger rows whose result may have expired
	SweptRows      uint64 `json:"swept_rows"`      // results whose ledger row may have been deleted by its age
	DeadLetters    uint64 `json:"dead_letters"`    // whose result may have expired
	Remembered     bool   `json:"remembered"`      // true: there were more results than are remembered, so that not every second result and settled job was looked for
}

// Violations counts the findings that are no warnings.
func (r *Report) Violations() int {
	n := 0
	for _, f := range r.Findings {
		if !f.Warning {
			n++
		}
	}
	return n
}

// errEnough stops after too many findings.
var errEnough = errors.New("too many findings")

// run is one run.
type run struct {
	Options
	*source
	pace   *pacer
	report *Report

	jobs, results, dead *streamState // as they were at the start; dead may be nil
	agreed              *seen        // ledger rows that agree with their results
	messages            *seen        // messages that have results
	twice               map[string]bool
	reported            map[string]bool
}

// Run reconciles the jobs stream, results, ledger and dead letters of one database. It only reads, each result before its ledger
// row and each ledger row before its result, in the order in which runners write them, so that work under way is no
// finding; and whatever does not match is read again before it is reported. The error is about the reading: then the
// report is what was found until then.
func Run(ctx context.Context, opts Options) (*Report, error) {
	r := newRun(opts)
	err := r.open(ctx)
	for _, pass := range []func(context.Context) error{r.checkResults, r.nameTwice, r.checkRows, r.checkDeadLetters, r.checkJobs} {
		if err == nil {
			err = pass(ctx)
		}
	}
	r.report.Complete = err == nil
	if errors.Is(err, errEnough) {
		err = nil
	}
	r.report.FinishedAt = time.Now().UTC()
	return r.report, err
}

func newRun(opts Options) *run {
	if opts.Rate <= 0 {
		opts.Rate = DefaultRate
	}
	if opts.Limit <= 0 {
		opts.Limit = DefaultLimit
	}
	if opts.Grace <= 0 {
		opts.Grace = grace
	}
	if opts.Pause <= 0 {
		opts.Pause = pauseBefore
	}
	if opts.Progress == nil {
		opts.Progress = func(string, uint64, uint64) {}
	}
	prefix := "$JS.API."
	if opts.Domain != "" {
		prefix = "$JS." + opts.Domain + ".API."
	}
	return &run{
		Options: opts, source: &source{names{opts.Namespace, opts.Database}, &jetStream{opts.NATS, prefix}}, pace: &pacer{rate: opts.Rate},
		twice: map[string]bool{}, reported: map[string]bool{},
		report: &Report{
			Namespace: opts.Namespace, Database: opts.Database, StartedAt: time.Now().UTC(), Since: opts.Since, Findings: []*Finding{},
			Counts: map[Kind]int{},
		},
	}
}

// open looks at the streams.
func (r *run) open(ctx context.Context) (err error) {
	for _, s := range []struct {
		name  string
		state **streamState
	}{{r.names.jobs(), &r.jobs}, {r.names.results(), &r.results}, {r.names.dead(), &r.dead}} {
		if *s.state, err = r.js.state(ctx, s.name); err != nil {
			return err
		}
	}
	switch {
	case r.results == nil:
		return fmt.Errorf("there is no stream %s; is the database's name right?", r.names.results())
	case r.jobs == nil:
		return fmt.Errorf("there is no stream %s; is the database's name right?", r.names.jobs())
	}
	room := r.results.State.Messages
	if r.Remember > 0 {
		room = min(room, r.Remember)
	}
	r.agreed, r.messages = newSeen(room), newSeen(room)
	return nil
}

// mayBeSwept reports whether the ledger row of a message may be gone by now: rows are deleted by their age, by clocks that
// may be wrong. A row is written after its message was stored.
func (r *run) mayBeSwept(of message) bool {
	now := r.results.At.Add(time.Since(r.report.StartedAt))
	return of.at.Before(now.Add(slack + r.Retention/20 - r.Retention))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// note adds a finding, unless another pass has reported the same.
func (r *run) note(f *Finding) error {
	same := fmt.Sprint(f.Kind, f.JobID, f.Sequence, f.Text)
	if r.reported[same] {
		return nil
	}
	r.reported[same] = true
	r.report.Findings = append(r.report.Findings, f)
	r.report.Counts[f.Kind]++
	if len(r.report.Findings) >= r.Limit {
		return errEnough
	}
	return nil
}

// confirm makes a check, and if it finds something that is younger than a minute, once more after a pause. What it finds
// then is reported.
func (r *run) confirm(ctx context.Context, at time.Time, check func(context.Context) (*Finding, error)) error {
	f, err := check(ctx)
	if f == nil || err != nil {
		return err
	}
	if time.Since(at) < settled {
		if err := pause(ctx, r.Pause); err != nil {
			return err
		}
	}
	if f, err = check(ctx); f == nil || err != nil {
		return err
	}
	return r.note(f)
}
