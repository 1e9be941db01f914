package api

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/service"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// Database is what the service needs of one database.
type Database struct {
	Name    string
	Engine  string
	Config  *config.Database
	Policy  *jobs.Policy
	Results Results
	Ledger  Ledger
	Jobs    Decoder
	Check   func(context.Context) *contract.Health // looks at the database now
	Paused  func(kind string) string               // why and by whom jobs of a kind are paused; empty: they are not

	Running  func() []contract.RunningJob                            // the jobs that this runner has in flight
	Recorded func(ctx context.Context, jobID string) ([]byte, error) // the answer in the ledger; nil: there is none

	reads chan struct{} // places of those who read the ledger
}

// Results are one database's stored results.
type Results interface {
	HasResult(ctx context.Context, jobID string) (bool, error)
	StoredResult(ctx context.Context, jobID string) ([]byte, error)
}

// Ledger is where one database's jobs are recorded.
type Ledger interface {
	Lookup(ctx context.Context, jobID string) (*db.Entry, error)
}

// Options configures the service of one runner.
type Options struct {
	Config    *config.Config
	Conn      *bus.Conn
	Version   string // of the build
	Process   string // of the runner, as in its heartbeats
	Databases []*Database
}

// The verbs of the service: the first token behind <namespace>.api.
const (
	verbDatabases = "databases"
	verbHealth    = "health"
	verbRun       = "run"
	verbCancel    = "cancel"
	verbRunning   = "running"
	verbResult    = "result"
	verbCalls     = "calls"
)

// forms returns how the requests of each verb are written, behind the verb.
func forms() map[string]string {
	return map[string]string{
		verbDatabases: "[.<database>]", verbHealth: ".<database>", verbRun: ".<database>.<kind>", verbCancel: ".<database>.<job id>",
		verbRunning: ".<database>", verbResult: ".<database>.<job id>", verbCalls: ".<database>",
	}
}

// api answers requests to the NATS service.
type api struct {
	cfg       *config.Config
	conn      *bus.Conn
	process   string
	databases []*Database
}

// Open starts to answer requests, those under way as long as work lives.
func Open(work context.Context, opts Options) (*service.Service, error) {
	cfg := opts.Config
	a := &api{cfg: cfg, conn: opts.Conn, process: opts.Process, databases: opts.Databases}
	for _, d := range a.databases {
		d.reads = make(chan struct{}, maxLedgerReads)
	}
	return service.Open(work, a.conn, service.Options{
		Version:     opts.Version,
		Description: "runs SQL jobs against databases: " + strings.Join(databaseNames(cfg), ", "),
		Metadata: map[string]string{
			"instance": cfg.Instance, "build": opts.Version, "databases": strings.Join(databaseNames(cfg), ","),
		},
		Bound:          cfg.API.MaxRequests,
		OthersSubjects: []string{"*", verbHealth + ".>", verbRun + ".>", verbCancel + ".>", verbRunning + ".>", verbResult + ".>", verbCalls + ".>"},
		Others:         a.others,
		Broadcasts:     a.broadcasts(),
	}, a.endpoints())
}

func databaseNames(cfg *config.Config) []string { return slices.Sorted(maps.Keys(cfg.Databases)) }

// healthAnswer is a database's health as a request gets it: the result of a check made for it.
type healthAnswer struct {
	Version  int    `json:"version"`
	Runner   string `json:"runner"`
	Database string `json:"database"`
	*contract.Health
}

// broadcasts are the requests that every runner of a database answers for itself.
func (a *api) broadcasts() []service.Broadcast {
	var list []service.Broadcast
	for _, d := range a.databases {
		list = append(list, service.Broadcast{
			Subject: verbRunning + "." + d.Name, Handle: func(q *service.Request) ([][]byte, error) { return a.running(d, q) },
		})
	}
	return list
}

// endpoints are those of the runner and of each of its databases: a runner gets no request for a database that it does
// not have.
func (a *api) endpoints() []service.Endpoint {
	// Of the runners that have the same databases one answers for all of them: they are one queue group.
	group := fnv.New64a()
	for _, name := range databaseNames(a.cfg) {
		_, _ = group.Write([]byte(name + " ")) // never fails
	}
	list := []service.Endpoint{{
		Name: verbDatabases, Subject: verbDatabases, Group: "databases-" + strconv.FormatUint(group.Sum64(), 36),
		Metadata: map[string]string{"answers": "the databases of this runner, what runs there, and the limits"},
		Handle:   a.withoutBody(func(context.Context, *service.Request) (any, error) { return a.list(a.databases...), nil }),
	}}
	for _, d := range a.databases {
		add := func(verb, rest, answers string, handle func(context.Context, *service.Request) ([]byte, error)) {
			list = append(list, service.Endpoint{
				Name: verb + "-" + d.Name, Subject: verb + "." + d.Name + rest, Handle: handle,
				Metadata: map[string]string{"database": d.Name, "answers": answers},
			})
		}
		add(verbDatabases, "", "what runs on the database, and the limits",
			a.withoutBody(func(context.Context, *service.Request) (any, error) { return a.list(d), nil }))
		add(verbHealth, "", "how the database is",
			a.withoutBody(func(ctx context.Context, _ *service.Request) (any, error) {
				return healthAnswer{Version: 1, Runner: a.cfg.Instance, Database: d.Name, Health: d.Check(ctx)}, nil
			}))
		run := func(ctx context.Context, q *service.Request) ([]byte, error) { return a.runJob(ctx, d, q) }
		add(verbRun, ".*", "the result of the job in the request", run)
		list = append(list, service.Endpoint{ // where no calls are enabled, it says so
			Name: verbRun + "-call-" + d.Name, Subject: verbRun + "." + d.Name + ".*.*", Handle: run,
			Metadata: map[string]string{"database": d.Name, "answers": "the result of the call in the request"},
		})
		add(verbCalls, "", "the named statements of the database's catalog",
			func(_ context.Context, q *service.Request) ([]byte, error) { return a.calls(d, q) })
		add(verbCancel, ".*", "what became of the job",
			a.withoutBody(func(ctx context.Context, q *service.Request) (any, error) { return a.cancelJob(ctx, d, q) }))
		add(verbResult, ".*", "the stored result of the job, or its answer in the ledger",
			func(ctx context.Context, q *service.Request) ([]byte, error) { return a.result(ctx, d, q) })
	}
	return list
}

// withoutBody is a handler of requests that say everything by their subject, whose answer is encoded as JSON.
func (a *api) withoutBody(answer func(context.Context, *service.Request) (any, error)) func(context.Context, *service.Request) ([]byte, error) {
	return func(ctx context.Context, q *service.Request) ([]byte, error) {
		if err := checkNoBody(q); err != nil {
			return nil, err
		}
		value, err := answer(ctx, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(value)
	}
}

// others returns what is wrong with a request that no endpoint of the fleet takes; nil if one does.
func (a *api) others(ctx context.Context, q *service.Request) error {
	verb := q.Tokens[0]
	form, known := forms()[verb]
	form = a.cfg.Namespace + ".api." + verb + form
	switch {
	case !known:
		return refuse(404, refusal{Code: "unknown_request", Message: "unknown request; known are databases, health, run, cancel, running, result and calls"})
	case verb == verbDatabases && len(q.Tokens) == 1:
		return nil
	case len(q.Tokens) != 1+strings.Count(forms()[verb], ".") && (verb != verbRun || len(q.Tokens) != 4):
		return refuse(400, refusal{Code: "invalid_subject", Message: "write " + form})
	}
	name := q.Tokens[1]
	switch {
	case !contract.ValidName(name):
		return refuse(400, refusal{Code: "invalid_subject", Message: "the database is not 1 to 64 of A-Z a-z 0-9 _ -; write " + form})
	case a.cfg.Databases[name] != nil || service.Answers(ctx, a.conn, verbDatabases+"."+name):
		return nil
	default:
		return refuse(404, refusal{Code: "unknown_database", Database: name, Message: "no runner has the database " + name +
			"; this one has " + strings.Join(databaseNames(a.cfg), ", ")})
	}
}

// refusal is the body of an answer that is an error.
type refusal struct {
	Code      string
	Message   string
	Retryable bool // the same request may be answered later
	Database  string
	JobID     string // of the job that was published all the same, or may have been
}

func refuse(status int, r refusal) *service.Error {
	type inner struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Retryable bool   `json:"retryable"`
	}
	body, err := json.Marshal(struct {
		Error    inner  `json:"error"`
		Database string `json:"database,omitempty"`
		JobID    string `json:"job_id,omitempty"`
	}{inner{r.Code, r.Message, r.Retryable}, r.Database, r.JobID})
	if err != nil {
		body = nil // the headers say it
	}
	return &service.Error{Status: status, Message: r.Message, Body: body}
}

// waitOf is how long a request wants to wait for a job's end.
func (a *api) waitOf(q *service.Request, fallback time.Duration) (time.Duration, error) {
	text := q.Header(contract.HeaderWait)
	if text == "" {
		return fallback, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > a.cfg.API.MaxWait {
		return 0, refuse(400, refusal{Code: "invalid_header", Message: fmt.Sprintf("%s must be a duration above 0s and up to %s, such as 30s",
			contract.HeaderWait, a.cfg.API.MaxWait)})
	}
	return d, nil
}

// databasesAnswer lists databases with what runs there.
type databasesAnswer struct {
	Version   int           `json:"version"`
	Runner    string        `json:"runner"`
	Namespace string        `json:"namespace"`
	Databases []offerAnswer `json:"databases"`
}

type offerAnswer struct {
	Name   string        `json:"name"`
	Engine string        `json:"engine"`
	Kinds  []kindAnswer  `json:"kinds"`
	Queues []queueAnswer `json:"queues,omitempty"`
	Limits limitsAnswer  `json:"limits"`
	Ledger ledgerAnswer  `json:"ledger"`
	Run    bool          `json:"run"` // whether the run endpoint is enabled
}

type kindAnswer struct {
	Kind       string            `json:"kind"`
	Named      bool              `json:"named,omitempty"` // its jobs name a statement of the catalog
	Effects    []contract.Effect `json:"effects"`         // the first one is the default
	Timeout    string            `json:"timeout"`
	MaxTimeout string            `json:"max_timeout"`
}

type queueAnswer struct {
	Name       string `json:"name"`
	FleetSlots int    `json:"fleet_slots"` // jobs in flight in the whole fleet
	Ordered    bool   `json:"ordered,omitempty"`
}

type limitsAnswer struct {
	MaxRows     int64  `json:"max_rows"`
	MaxBytes    int64  `json:"max_bytes"`              // of encoded rows
	MaxAffected int64  `json:"max_affected,omitempty"` // rows that one transaction writes
	MaxBody     int    `json:"max_body"`               // of a job, bytes
	LockTimeout string `json:"lock_timeout"`
	ResultsKept string `json:"results_kept"` // at most
}

type ledgerAnswer struct {
	Mode      string `json:"mode"`
	Retention string `json:"retention,omitempty"` // within it an id may not be used again
}

func (a *api) list(databases ...*Database) databasesAnswer {
	out := databasesAnswer{Version: 1, Runner: a.cfg.Instance, Namespace: a.cfg.Namespace}
	for _, d := range databases {
		offer := offerAnswer{
			Name: d.Name, Engine: d.Engine, Run: a.cfg.API.Run,
			Limits: limitsAnswer{
				MaxRows: d.Config.MaxRows, MaxBytes: int64(d.Config.MaxBytes), MaxAffected: d.Config.MaxAffected, MaxBody: a.conn.MaxJob(),
				LockTimeout: d.Config.LockTimeout.String(), ResultsKept: a.cfg.Topology.Results.MaxAge.String(),
			},
			Ledger: ledgerAnswer{Mode: d.Config.Ledger.Mode},
		}
		if d.Config.HasLedger() {
			offer.Ledger.Retention = d.Config.Ledger.Retention.String()
		}
		for _, o := range d.Policy.Offers() {
			offer.Kinds = append(offer.Kinds, kindAnswer{
				Kind: o.Kind, Named: o.Named, Effects: o.Effects, Timeout: o.Timeout.String(), MaxTimeout: o.MaxTimeout.String(),
			})
		}
		for _, name := range slices.Sorted(maps.Keys(d.Config.Queues)) {
			offer.Queues = append(offer.Queues, queueAnswer{name, d.Config.Queues[name].FleetSlots, d.Config.Queues[name].Ordered})
		}
		out.Databases = append(out.Databases, offer)
	}
	slices.SortFunc(out.Databases, func(x, y offerAnswer) int { return strings.Compare(x.Name, y.Name) })
	return out
}
