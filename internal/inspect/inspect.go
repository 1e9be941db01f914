package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

// Finding is one thing that a look has found about a part of the runner or what it needs.
type Finding struct {
	About string `json:"about"` // "nats", "topology", or a database's name
	db.Finding
}

// The grades of findings, for those who show them.
const (
	GradeOK      = db.GradeOK
	GradeNote    = db.GradeNote
	GradeWarning = db.GradeWarning
	GradeFault   = db.GradeFault
)

// What findings are about beside databases.
const (
	aboutNATS     = "nats"
	aboutTopology = "topology"
)

// The parts of findings that this package makes.
const (
	partConnection = "connection"
	partRights     = "rights"
	partAccount    = "account"
	partStreams    = "streams"
	partMigrations = "migrations"
	partQueues     = "queues"
	partKinds      = "kinds"
	partPool       = "pool"
	partOutbox     = "outbox"
	partCatalog    = "catalog"
)

// Worst is the worst grade of the findings, GradeOK if there are none.
func Worst(findings []Finding) db.Grade {
	worst := db.GradeOK
	for _, f := range findings {
		if severity(f.Grade) > severity(worst) {
			worst = f.Grade
		}
	}
	return worst
}

func severity(g db.Grade) int {
	switch g {
	case db.GradeFault:
		return 3
	case db.GradeWarning:
		return 2
	case db.GradeNote:
		return 1
	case db.GradeOK:
	}
	return 0
}

// DatabasePlan is what would run for one database.
type DatabasePlan struct {
	Name       string            `json:"name"`
	Engine     string            `json:"engine"`
	Kinds      []string          `json:"kinds"`
	Effects    []contract.Effect `json:"effects"`
	Catalog    string            `json:"catalog,omitempty"` // hash of the catalog
	Calls      int               `json:"calls,omitempty"`   // statements of the catalog
	Slots      int               `json:"slots"`
	PoolMin    int               `json:"pool_min"`
	PoolMax    int               `json:"pool_max"`
	Ledger     string            `json:"ledger"`
	Timeout    string            `json:"timeout"`
	MaxTimeout string            `json:"max_timeout"`
	Folder     string            `json:"migrations_folder"`
	Files      int               `json:"migrations_files"`
	FileFaults int               `json:"migrations_faults"`
	OnStart    bool              `json:"migrate_on_start"`
	Queues     []QueuePlan       `json:"queues"`
}

// QueuePlan is a queue and the jobs of it that may be in flight.
type QueuePlan struct {
	Name       string `json:"name"`
	Slots      int    `json:"slots"`       // in one runner
	FleetSlots int    `json:"fleet_slots"` // in the whole fleet
	Ordered    bool   `json:"ordered,omitempty"`
}

// Inspection is what a configuration would run.
type Inspection struct {
	Instance  string         `json:"instance"`
	Namespace string         `json:"namespace"`
	Topology  string         `json:"topology"` // its mode
	Databases []DatabasePlan `json:"databases"`
	// SustainedRate is how many results a second each database can have indefinitely, by the limits of their stream.
	SustainedRate float64   `json:"sustained_results_per_second"`
	Findings      []Finding `json:"findings"`
}

// Inspector looks at everything that a runner with a configuration needs. It runs nothing and creates nothing.
type Inspector struct {
	cfg       *config.Config
	opened    []*manager.Database
	databases []*target
}

// target is a database that is looked at.
type target struct {
	*manager.Database
	cfg *config.Config
}

// New returns the inspector of a loaded configuration. It connects to nothing. The error is a *manager.ConfigError. The
// owner calls Close.
func New(cfg *config.Config) (*Inspector, error) {
	lazy := *cfg // its pools connect only when they are asked to
	cfg = &lazy
	cfg.Databases = maps.Clone(cfg.Databases)
	for name, d := range cfg.Databases {
		own := *d
		own.Pool.Min = 0
		cfg.Databases[name] = &own
	}
	opened, err := manager.Open(cfg, nil)
	if err != nil {
		return nil, err
	}
	i := &Inspector{cfg: cfg, opened: opened}
	for _, d := range opened {
		i.databases = append(i.databases, &target{d, cfg})
	}
	return i, nil
}

// Close closes what the inspector has opened.
func (i *Inspector) Close() error { return manager.Close(i.opened) }

// Inspect looks without connecting to anything. original is the configuration as it was loaded.
func (i *Inspector) Inspect(original *config.Config) *Inspection {
	out := &Inspection{
		Instance: i.cfg.Instance, Namespace: i.cfg.Namespace, Topology: i.cfg.Topology.Mode,
		SustainedRate: i.cfg.Topology.Results.SustainedRate(0), Findings: []Finding{},
	}
	for _, d := range i.databases {
		plan := DatabasePlan{
			Name: d.Name, Engine: d.DB.Engine(), Slots: d.Config.Slots, PoolMin: original.Databases[d.Name].Pool.Min, PoolMax: d.Config.Pool.Max,
			Ledger: d.Config.Ledger.Mode, Timeout: d.Config.Timeout.String(), MaxTimeout: d.Config.MaxTimeout.String(),
			Folder: d.Config.Migrations.Folder, OnStart: d.Config.MigrateOnStart,
			Catalog: d.Catalog.Hash(), Calls: len(d.Catalog.Names()),
		}
		if crowded := d.queues(&plan); crowded != nil {
			out.Findings = append(out.Findings, *crowded)
		}
		if warning := d.dryRuns(); warning != nil {
			out.Findings = append(out.Findings, *warning)
		}
		for _, offer := range manager.Policy(i.cfg, d.Config).Offers() {
			plan.Kinds = append(plan.Kinds, offer.Form)
			for _, effect := range offer.Effects {
				if !slices.Contains(plan.Effects, effect) {
					plan.Effects = append(plan.Effects, effect)
				}
			}
		}
		var folder *Finding
		if plan.Files, plan.FileFaults, folder = d.folder(); folder != nil {
			out.Findings = append(out.Findings, *folder)
		}
		if diagnoser, ok := d.DB.(db.Diagnoser); ok {
			out.Findings = append(out.Findings, d.about(diagnoser.Caveats()...)...)
		}
		out.Databases = append(out.Databases, plan)
	}
	out.Findings = append(out.Findings, natsCaveats(i.cfg)...)
	return out
}

func (d *target) about(list ...db.Finding) []Finding {
	out := make([]Finding, 0, len(list))
	for _, f := range list {
		out = append(out, Finding{About: d.Name, Finding: f})
	}
	return out
}

func (d *target) finding(part string, grade db.Grade, text, remedy string) Finding {
	return Finding{About: d.Name, Finding: db.Finding{Part: part, Grade: grade, Text: text, Remedy: remedy}}
}

// queues plans the queues, and warns of what they can do to jobs of no queue.
func (d *target) queues(plan *DatabasePlan) *Finding {
	plan.Queues = []QueuePlan{}
	sum := 0
	for _, name := range slices.Sorted(maps.Keys(d.Config.Queues)) {
		q := d.Config.Queues[name]
		plan.Queues = append(plan.Queues, QueuePlan{Name: name, Slots: q.Slots, FleetSlots: q.FleetSlots, Ordered: q.Ordered})
		sum += q.Slots
	}
	if sum < d.Config.Pool.Max {
		return nil
	}
	f := d.finding(partQueues, db.GradeWarning, fmt.Sprintf("the queues together can use all of the pool's connections: %d slots, and pool.max is %d; other jobs "+
		"then wait for them", sum, d.Config.Pool.Max), "lower slots of queues, or raise pool.max")
	return &f
}

// dryRuns warns where a dry run can leave an effect: T-SQL's dynamic SQL can commit in it.
func (d *target) dryRuns() *Finding {
	if !d.DB.Dialect().Transact || !slices.Contains(d.Config.Kinds, "dry_run") {
		return nil
	}
	f := d.finding(partKinds, db.GradeWarning, "dynamic SQL in a dry run can commit, which nothing takes back: permission for dry_run is as strong as "+
		"permission for transaction", "grant dry_run only to users who may publish transactions, or take it out of kinds: dry runs of named statements need "+
		"call alone")
	return &f
}

// folder reads the folder of migrations: how many files it has, how many of them are wrong, and what there is to say.
func (d *target) folder() (files, faults int, _ *Finding) {
	if d.Migrations == nil {
		f := d.finding(partMigrations, db.GradeWarning, "a pooler in transaction mode stands before the server: migrations and statements at most once cannot run",
			"write direct_connection_string too")
		return 0, 0, &f
	}
	folder, wrong, err := d.Migrations.Folder()
	switch {
	case err == nil:
		return len(folder.Files), 0, nil
	case errors.Is(err, fs.ErrNotExist):
		f := d.finding(partMigrations, db.GradeNote, "there is no folder "+d.Config.Migrations.Folder, "create it once there are migrations, or set migrations.folder")
		return 0, 0, &f
	}
	text := messageOf(err)
	remedy := "allow the runner's user to read the folder"
	if len(wrong) > 0 {
		remedy = "mend or rename them: runner migrate validate " + d.Name + " lists all"
	}
	f := d.finding(partMigrations, db.GradeFault, text, remedy)
	return 0, len(wrong), &f
}

// messageOf is an error's text for people, without its code where it is an engine's.
func messageOf(err error) string {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return e.Message
	}
	return err.Error()
}

// natsCaveats looks at how NATS would be reached.
func natsCaveats(cfg *config.Config) []Finding {
	n := &cfg.NATS
	var out []Finding
	warn := func(text, remedy string) {
		out = append(out, Finding{About: aboutNATS, Finding: db.Finding{Part: partConnection, Grade: db.GradeWarning, Text: text, Remedy: remedy}})
	}
	if !loopbackOnly(n.URLs) {
		unencrypted := func(url string) bool { return !strings.HasPrefix(url, "tls://") && !strings.HasPrefix(url, "wss://") }
		if n.TLS.CAFile == "" && n.TLS.CertFile == "" && n.TLS.ServerName == "" && !n.TLS.HandshakeFirst && slices.ContainsFunc(n.URLs, unencrypted) {
			warn("the connection may be unencrypted", "use tls:// in nats.urls, or set nats.tls.ca_file")
		}
		if n.CredentialsFile == "" && n.NKeySeedFile == "" && n.User == "" && n.Token.Empty() && n.TLS.CertFile == "" {
			warn("the runner does not sign in", "give it a user with the permissions of docs/security.md")
		}
	}
	if cfg.Topology.Replicas == 1 && len(n.URLs) > 1 {
		out = append(out, Finding{About: aboutTopology, Finding: db.Finding{
			Part: partStreams, Grade: db.GradeWarning, Text: fmt.Sprintf("%d servers are named, and each stream is kept by one of them", len(n.URLs)),
			Remedy: "set topology.replicas: 3",
		}})
	}
	return out
}
