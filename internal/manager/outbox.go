package manager

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/db/postgres"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/db/sqlserver"
	"dbrunner/internal/outbox"
)

// outboxEngine is what there is to know of the outbox of an engine.
type outboxEngine struct {
	open func(db.Options) (*outboxtable.Table, error)
	ddl  func() string
}

// outboxes are the engines with an outbox.
func outboxes() map[string]outboxEngine {
	return map[string]outboxEngine{
		"postgres":  {postgres.Outbox, postgres.OutboxDDL},
		"sqlserver": {sqlserver.Outbox, sqlserver.OutboxDDL},
		"sqlite":    {sqlite.Outbox, sqlite.OutboxDDL},
	}
}

// OutboxDDL returns the statements that create the outbox in a database of an engine.
func OutboxDDL(engine string) (string, error) {
	e, ok := outboxes()[engine]
	if !ok {
		return "", noOutbox(engine)
	}
	return e.ddl(), nil
}

func noOutbox(engine string) error {
	return fmt.Errorf("outbox: databases of type %q have none; those of type %s do", engine, strings.Join(slices.Sorted(maps.Keys(outboxes())), ", "))
}

// The limits of a session of the outbox: each statement is short, and waits for no lock.
const (
	outboxLockTimeout = 5 * time.Second
	outboxTimeout     = 10 * time.Second
)

// OpenOutbox returns the outbox of a configured database, for commands. It connects to nothing; the caller closes it. The error
// is a *ConfigError.
func OpenOutbox(cfg *config.Config, name string) (*outboxtable.Table, error) {
	table, err := openOutbox(cfg, name, cfg.Databases[name].OutboxConnection())
	if err != nil {
		return nil, &ConfigError{fmt.Errorf("databases.%s: %w", name, err)}
	}
	return table, nil
}

// OutboxOfJobs returns the outbox as the login of jobs reaches it, to see what that may do. The caller closes it.
func OutboxOfJobs(cfg *config.Config, name string) (*outboxtable.Table, error) {
	return openOutbox(cfg, name, cfg.Databases[name].ConnectionString)
}

func openOutbox(cfg *config.Config, name string, connection config.Secret) (*outboxtable.Table, error) {
	d := cfg.Databases[name]
	e, ok := outboxes()[d.Type]
	if !ok {
		return nil, noOutbox(d.Type)
	}
	opts := dbOptions(cfg, name)
	connectBy(&opts, connection)
	opts.Limits = db.Limits{StatementTimeout: outboxTimeout, LockTimeout: outboxLockTimeout, IdleInTransaction: d.IdleInTransaction}
	table, err := e.open(opts)
	return table, connectionFault(connection, err)
}

// outboxTargets are the targets of a database's outbox in the words of package outbox.
func outboxTargets(cfg *config.Config, name string) []outbox.Target {
	var out []outbox.Target
	for _, text := range cfg.Databases[name].Outbox.Targets {
		of, _ := contract.Subjects{Namespace: cfg.Namespace}.SplitJob(cfg.Namespace + "." + text) // the configuration was checked
		out = append(out, outbox.Target{Text: text, Database: of.Database})
	}
	return out
}

// OutboxTargets returns all targets of outboxes, as the configuration has them.
func OutboxTargets(cfg *config.Config) []string {
	var out []string
	for _, name := range DatabaseNames(cfg) {
		for _, target := range cfg.Databases[name].Outbox.Targets {
			if !slices.Contains(out, target) {
				out = append(out, target)
			}
		}
	}
	return out
}
