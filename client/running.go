package client

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// RunningOptions configure Running.
type RunningOptions struct {
	Databases []string      // none: all that the runners' heartbeats name
	Wait      time.Duration // how long to wait for runners that do not answer; 0: DefaultRunningWait
	// Expected are the runners of the databases that are waited for, if the caller knows them; nil: those that heartbeats name,
	// which are read for that.
	Expected []MissingRunner
}

const (
	verbRunning  = "running." // before the database
	noResponders = "503"      // the status that the server answers with if there are no subscribers
	statusBusy   = 503        // of a runner that is answering too many requests

	maxRunningAnswers = 16_384 // messages that arrive while the heartbeats are read
)

// DefaultRunningWait is how long Running waits for runners that do not answer.
const DefaultRunningWait = 750 * time.Millisecond

// Running is what runners have in flight.
type Running struct {
	Jobs    []RunningJob    `json:"jobs"`    // oldest first
	Runners []RunningRunner `json:"runners"` // that answered completely
	Missing []MissingRunner `json:"missing"` // that have a heartbeat and did not answer, or not completely
	// Unlisted is why the heartbeats could not be read, so that Missing is not known; empty: they were read.
	Unlisted string `json:"unlisted,omitempty"`
}

// RunningJob is a job in flight and where it is.
type RunningJob struct {
	Database string  `json:"database"`
	Runner   string  `json:"runner"`
	Process  string  `json:"process"`
	Seconds  float64 `json:"seconds"` // since the runner received it, by the runner's own clock
	contract.RunningJob
}

// RunningRunner is a runner that answered for a database.
type RunningRunner struct {
	Database string    `json:"database"`
	Runner   string    `json:"runner"`
	Process  string    `json:"process"`
	InFlight int       `json:"in_flight"`
	At       time.Time `json:"at"` // by the runner's clock
}

// MissingRunner is a runner that did not answer for a database.
type MissingRunner struct {
	Database    string    `json:"database"`
	Runner      string    `json:"runner"`
	Process     string    `json:"process"`
	State       string    `json:"state"`        // in its last heartbeat
	HeartbeatAt time.Time `json:"heartbeat_at"` // when the stream stored that
	Received    int       `json:"received"`     // jobs of its answer that arrived, and are listed
}

// Running asks every runner of databases which jobs it has in flight. It returns as soon as all runners that have a heartbeat
// have answered, or after the wait with those that did. The error is ErrNoService if there is no runner of a database,
// ErrDenied, a *ServiceError such as an unknown database, or the connection's.
func (c *Client) Running(ctx context.Context, opts RunningOptions) (*Running, error) {
	for _, name := range opts.Databases {
		if err := checkName("database", name); err != nil {
			return nil, err
		}
	}
	if opts.Wait == 0 {
		opts.Wait = DefaultRunningWait
	}
	inbox := c.nc.NewInbox()
	answers := make(chan *nats.Msg, maxRunningAnswers)
	sub, err := c.nc.ChanSubscribe(inbox+".*", answers)
	if err != nil {
		return nil, fmt.Errorf("ask what runs: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	bounded, cancel := context.WithTimeout(ctx, opts.Wait)
	defer cancel()
	q := &runningQuery{
		client: c, inbox: inbox, databases: opts.Databases,
		expected: map[runnerKey]MissingRunner{}, answers: map[runnerKey]*runningParts{}, refused: map[string]error{},
	}
	if len(opts.Databases) > 0 { // the runners answer while their heartbeats are read
		if err := q.ask(bounded); err != nil {
			return nil, err
		}
	}
	for _, r := range opts.Expected {
		q.expected[runnerKey{r.Database, r.Runner, r.Process}] = r
	}
	if opts.Expected == nil {
		listing, stop := context.WithTimeout(bounded, opts.Wait/2) // without permission no answer comes
		q.readRunners(listing)
		stop()
	}
	if len(opts.Databases) == 0 {
		switch {
		case q.unlisted != nil:
			return nil, fmt.Errorf("list the databases, as none is named: %w", q.unlisted)
		case len(q.databases) == 0:
			return nil, fmt.Errorf("%w: none has a heartbeat", ErrNoService)
		}
		if err := q.ask(bounded); err != nil {
			return nil, err
		}
	}
	q.collect(bounded, answers)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ask what runs: %w", context.Cause(ctx))
	}
	return q.result()
}

// runnerKey is a run of a runner and a database that it has.
type runnerKey struct{ database, runner, process string }

// runningQuery is a Running under way.
type runningQuery struct {
	client    *Client
	inbox     string
	databases []string
	expected  map[runnerKey]MissingRunner // by their heartbeats
	unlisted  error                       // why there are none
	answers   map[runnerKey]*runningParts
	refused   map[string]error // by database: no runner has it
}

// runningParts are the messages of one runner's answer for one database.
type runningParts struct {
	parts map[int]*contract.RunningAnswer
	total int
}

func (p *runningParts) complete() bool { return len(p.parts) == p.total }

// ask sends a request for each database. The reply subject has the database's number. What the server refuses gets
// no answer, but an error before the flush returns.
func (q *runningQuery) ask(ctx context.Context) error {
	for i, database := range q.databases {
		subject := q.client.subjects.API(verbRunning + database)
		if err := q.client.nc.PublishRequest(subject, q.inbox+"."+strconv.Itoa(i), nil); err != nil {
			return fmt.Errorf("ask %s: %w", subject, err)
		}
	}
	if err := q.client.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("ask what runs: %w", err)
	}
	for _, database := range q.databases {
		if subject := q.client.subjects.API(verbRunning + database); q.client.denied(subject) {
			return fmt.Errorf("ask %s: %w", subject, ErrDenied)
		}
	}
	return nil
}

// readRunners reads which runners there are from their heartbeats.
func (q *runningQuery) readRunners(ctx context.Context) {
	all := len(q.databases) == 0
	c := q.client
	for m, err := range c.messages(ctx, c.subjects.HealthStream(), c.subjects.RunnerHealth("*")) {
		if err != nil {
			q.unlisted = fmt.Errorf("read the heartbeats: %w", err)
			return
		}
		var h contract.RunnerHeartbeat
		if json.Unmarshal(m.Data, &h) != nil || h.State == contract.RunnerStopped {
			continue // what is none names no runner
		}
		for i := range h.Databases {
			name := h.Databases[i].Name
			if !contract.ValidName(name) || !all && !slices.Contains(q.databases, name) {
				continue
			}
			q.expected[runnerKey{name, h.Instance, h.Process}] = MissingRunner{
				Database: name, Runner: h.Instance, Process: h.Process, State: h.State, HeartbeatAt: m.Time,
			}
			if all && !slices.Contains(q.databases, name) {
				q.databases = append(q.databases, name)
			}
		}
	}
}

// collect takes answers until all expected ones are there, or ctx ends.
func (q *runningQuery) collect(ctx context.Context, answers <-chan *nats.Msg) {
	for !q.complete() {
		select {
		case m := <-answers:
			q.take(m)
		case <-ctx.Done():
			return
		}
	}
}

// complete reports whether nothing more will come. Without heartbeats that is known only where no runner listens.
func (q *runningQuery) complete() bool {
	if len(q.refused) == len(q.databases) {
		return true
	}
	if q.unlisted != nil || len(q.expected) == 0 {
		return false
	}
	for key := range q.expected {
		if p := q.answers[key]; (p == nil || !p.complete()) && q.refused[key.database] == nil {
			return false
		}
	}
	return true
}

// maxRunningParts bounds the messages of one answer: more are those of no runner.
const maxRunningParts = 10_000

// take takes over an answer. What is none is ignored: then its runner did not answer.
func (q *runningQuery) take(m *nats.Msg) {
	i, err := strconv.Atoi(strings.TrimPrefix(m.Subject, q.inbox+"."))
	if err != nil || i < 0 || i >= len(q.databases) {
		return
	}
	database := q.databases[i]
	if refused := readServiceError(m); refused != nil {
		if refused.Status != statusBusy { // of one runner; the others answer
			q.refused[database] = refused
		}
		return
	}
	if len(m.Data) == 0 && m.Header.Get("Status") == noResponders {
		q.refused[database] = fmt.Errorf("%w %s", ErrNoService, q.client.subjects.API(verbRunning+database))
		return
	}
	a := &contract.RunningAnswer{}
	if json.Unmarshal(m.Data, a) != nil || a.Database != database || a.Part < 1 || a.Part > a.Parts || a.Parts > maxRunningParts {
		return
	}
	key := runnerKey{a.Database, a.Runner, a.Process}
	p := q.answers[key]
	if p == nil {
		p = &runningParts{parts: map[int]*contract.RunningAnswer{}, total: a.Parts}
		q.answers[key] = p
	}
	if p.total == a.Parts {
		p.parts[a.Part] = a
	}
}

// failure returns why nothing is known of a database; nil if something is.
func (q *runningQuery) failure(database string) error {
	for key := range q.answers {
		if key.database == database {
			return nil
		}
	}
	for key := range q.expected {
		if key.database == database {
			return nil
		}
	}
	if err := q.refused[database]; err != nil {
		return err
	}
	return fmt.Errorf("%w %s", ErrNoService, q.client.subjects.API(verbRunning+database))
}

// result merges the answers.
func (q *runningQuery) result() (*Running, error) {
	for _, database := range q.databases {
		if err := q.failure(database); err != nil {
			return nil, err
		}
	}
	out := &Running{Jobs: []RunningJob{}, Runners: []RunningRunner{}, Missing: []MissingRunner{}}
	if q.unlisted != nil {
		out.Unlisted = q.unlisted.Error()
	}
	for key, p := range q.answers {
		runner := RunningRunner{Database: key.database, Runner: key.runner, Process: key.process}
		for _, a := range p.parts {
			runner.At = a.At
			runner.InFlight += len(a.Jobs)
			for i := range a.Jobs {
				out.Jobs = append(out.Jobs, RunningJob{
					Database: key.database, Runner: key.runner, Process: key.process, Seconds: a.At.Sub(a.Jobs[i].Since).Seconds(), RunningJob: a.Jobs[i],
				})
			}
		}
		if p.complete() {
			out.Runners = append(out.Runners, runner)
			delete(q.expected, key)
			continue
		}
		missing := q.expected[key]
		missing.Database, missing.Runner, missing.Process, missing.Received = key.database, key.runner, key.process, runner.InFlight
		q.expected[key] = missing
	}
	out.Missing = slices.AppendSeq(out.Missing, maps.Values(q.expected))
	slices.SortFunc(out.Jobs, func(x, y RunningJob) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.Sequence, y.Sequence))
	})
	slices.SortFunc(out.Runners, func(x, y RunningRunner) int {
		return cmp.Or(strings.Compare(x.Database, y.Database), strings.Compare(x.Runner, y.Runner), strings.Compare(x.Process, y.Process))
	})
	slices.SortFunc(out.Missing, func(x, y MissingRunner) int {
		return cmp.Or(strings.Compare(x.Database, y.Database), strings.Compare(x.Runner, y.Runner), strings.Compare(x.Process, y.Process))
	})
	return out, nil
}
