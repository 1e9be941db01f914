package manager

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/health"
	"dbrunner/internal/jobs"
)

// Migrations is what a runner has for the migrations of one database.
type Migrations struct {
	*migration.Migrator
}

// OpenMigrations returns what looks after the migrations of a configured database, for commands. It
// connects to nothing; the caller closes it. source is the folder; nil: the configured one. The error is a *ConfigError.
func OpenMigrations(cfg *config.Config, name string, source fs.FS) (*migration.Migrator, error) {
	m, err := openMigrations(cfg, name, source)
	if err != nil {
		return nil, &ConfigError{fmt.Errorf("databases.%s: %w", name, err)}
	}
	if m == nil {
		return nil, &ConfigError{fmt.Errorf("databases.%s: migrations need a session of their own, which a pooler in transaction mode "+
			"does not give: write direct_connection_string too", name)}
	}
	return m.Migrator, nil
}

// openMigrations returns nil where the database can only be reached through a pooler in transaction mode. source is the
// folder; nil: the configured one.
func openMigrations(cfg *config.Config, name string, source fs.FS) (*Migrations, error) {
	settings := cfg.Databases[name]
	if settings.MigrationConnection().Empty() {
		return nil, nil
	}
	engine, err := MigrationEngine(cfg, name)
	if err != nil {
		return nil, err
	}
	if source == nil {
		source = os.DirFS(settings.Migrations.Folder)
	}
	m, err := migration.New(migration.Options{
		Engine: engine, Source: source, Where: settings.Migrations.Folder, Runner: cfg.Instance, OutOfOrder: settings.Migrations.OutOfOrder,
	})
	if err != nil {
		return nil, err
	}
	return &Migrations{m}, nil
}

// MigrationEngine returns a configured database's engine for package migration. It connects to nothing.
func MigrationEngine(cfg *config.Config, name string) (migration.Engine, error) {
	engine, err := engineByName(cfg.Databases[name].Type)
	if err != nil {
		return nil, err
	}
	opts := dbOptions(cfg, name)
	connection := cfg.Databases[name].MigrationConnection()
	connectBy(&opts, connection)
	opts.TransactionPool = false
	made, err := engine.migrations(opts)
	return made, connectionFault(connection, err)
}

// usable reads the folder: what is wrong with it is a fault of the configuration where it is needed at the start.
func (m *Migrations) usable() error {
	_, faults, err := m.Folder()
	if len(faults) < 2 {
		return err
	}
	all := []error{err}
	for i := range faults {
		all = append(all, errors.New(faults[i].String()))
	}
	return errors.Join(all...)
}

// Close closes the connection of migrations; nil has none.
func (m *Migrations) Close() error {
	if m == nil {
		return nil
	}
	return m.Migrator.Close()
}

var _ health.MigrationStatus = (*Migrations)(nil)

// MigrationStatus looks how the schema stands. It locks nothing and waits for no migration. A folder that is not there
// has no migrations.
func (m *Migrations) MigrationStatus(ctx context.Context) (*contract.Migrations, error) {
	report, err := m.Run(ctx, migration.Request{Action: migration.Validate})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := &contract.Migrations{
		Current: report.After.Label, Latest: report.Latest.Label, Pending: len(report.Pending), Dirty: report.Dirty, Problem: report.Problem,
	}
	if n := len(report.Faults); n > 0 && out.Problem == "" {
		out.Problem = report.Faults[0].String()
		if n > 1 {
			out.Problem += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	if r := report.Running; r != nil {
		out.Running = &contract.RunningMigration{JobID: r.Job, Runner: r.Runner, File: r.File, Since: r.Since}
	}
	return out, nil
}

// MigrationTimeout bounds migrations of a database that no job asks for, and jobs that set no timeout.
func MigrationTimeout(d *config.Database) time.Duration {
	if own := d.ByKind["migration"]; own != nil && own.Timeout > 0 {
		return own.Timeout
	}
	return jobs.KindPolicies()["migration"].Timeout
}
