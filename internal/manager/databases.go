package manager

import (
	"errors"
	"fmt"
	"io/fs"

	"dbrunner/internal/catalog"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/jobs"
	"dbrunner/internal/outbox"
)

// ConfigError is an error in the configuration.
type ConfigError struct{ Err error }

func (e *ConfigError) Error() string { return e.Err.Error() }

func (e *ConfigError) Unwrap() error { return e.Err }

// Database is one configured database, opened.
type Database struct {
	Name       string
	Config     *config.Database
	DB         db.Database
	Direct     db.Database      // past the pooler before DB; nil: there is none
	Migrations *Migrations      // nil: not possible here
	Catalog    *catalog.Catalog // nil: none is configured

	Outbox        *outboxtable.Table // nil: no rows are relayed from here
	OutboxTargets []outbox.Target
}

// Open opens all configured databases and connects to none. sources are folders of migrations by database, in place of the
// configured ones. The error is a *ConfigError that names every mistake.
func Open(cfg *config.Config, sources map[string]fs.FS) ([]*Database, error) {
	var databases []*Database
	var faults []error
	for _, name := range DatabaseNames(cfg) {
		d, err := openDatabase(cfg, name, sources[name])
		if err != nil {
			faults = append(faults, fmt.Errorf("databases.%s: %w", name, err))
			continue
		}
		databases = append(databases, d)
	}
	if len(faults) > 0 {
		return nil, errors.Join(&ConfigError{errors.Join(faults...)}, Close(databases))
	}
	return databases, nil
}

func openDatabase(cfg *config.Config, name string, source fs.FS) (*Database, error) {
	settings := cfg.Databases[name]
	engine, err := engineByName(settings.Type)
	if err != nil {
		return nil, err
	}
	if err := checkPooled(settings); err != nil {
		return nil, err
	}
	statements, err := openCatalog(settings, engine.dialect())
	if err != nil {
		return nil, err
	}
	opened, err := engine.open(dbOptions(cfg, name))
	if err != nil {
		return nil, connectionFault(settings.ConnectionString, err)
	}
	d := &Database{Name: name, Config: settings, DB: opened, Catalog: statements}
	d.Direct, err = openDirect(cfg, name, engine)
	if err == nil {
		d.Migrations, err = openMigrations(cfg, name, source)
	}
	if err == nil && len(settings.Outbox.Targets) > 0 {
		d.Outbox, err = openOutbox(cfg, name, settings.OutboxConnection())
		d.OutboxTargets = outboxTargets(cfg, name)
	}
	if err == nil && settings.MigrateOnStart {
		err = d.Migrations.usable()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Policy returns what the database allows, with its catalog.
func (d *Database) Policy(cfg *config.Config) *jobs.Policy {
	p := Policy(cfg, d.Config)
	p.Catalog = d.Catalog
	return p
}

// Close closes databases and returns all errors.
func Close(databases []*Database) error {
	var errs []error
	for _, d := range databases {
		if err := d.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close database %s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Close closes the database with everything that reaches it.
func (d *Database) Close() error {
	err := errors.Join(d.Migrations.Close(), d.DB.Close())
	if d.Direct != nil {
		err = errors.Join(err, d.Direct.Close())
	}
	if d.Outbox != nil {
		err = errors.Join(err, d.Outbox.Close())
	}
	return err
}

// directConnections bounds the sessions past a pooler, in which statements outside of transactions run.
const directConnections = 4

// openDirect opens a database past the pooler in transaction mode before it; nil where there is none, or no way past it.
func openDirect(cfg *config.Config, name string, e engine) (db.Database, error) {
	settings := cfg.Databases[name]
	if settings.Pooler != config.PoolerTransaction || withoutSessions(settings) {
		return nil, nil
	}
	opts := dbOptions(cfg, name)
	connectBy(&opts, settings.DirectConnectionString)
	opts.TransactionPool = false
	opts.Pool.Min, opts.Pool.Max = 0, min(directConnections, opts.Pool.Max)
	opened, err := e.open(opts)
	return opened, connectionFault(settings.DirectConnectionString, err)
}
