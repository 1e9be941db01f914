package manager

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/jobs"
)

// dbOptions says in db's words how a configured database is opened.
func dbOptions(cfg *config.Config, name string) db.Options {
	d := cfg.Databases[name]
	opts := db.Options{
		Name:      name,
		Namespace: cfg.Namespace,
		Runner:    cfg.Instance,
		Ledger:    ledgerMode(d.Ledger.Mode),
		Pool: db.PoolOptions{
			Min: d.Pool.Min, Max: d.Pool.Max,
			MaxLifetime: d.Pool.MaxLifetime, LifetimeJitter: d.Pool.LifetimeJitter,
			MaxIdleTime: d.Pool.MaxIdleTime, ConnectTimeout: d.Pool.ConnectTimeout,
			PingAfterIdle: d.Pool.PingAfterIdle,
		},
		Limits: db.Limits{
			StatementTimeout: d.Timeout, LockTimeout: d.LockTimeout, IdleInTransaction: d.IdleInTransaction,
			CountsRows: d.MaxAffected > 0,
		},
		SharedCommits:   d.SharedCommits,
		TransactionPool: d.Pooler == config.PoolerTransaction,
		Settings:        d.Settings,
	}
	connectBy(&opts, d.ConnectionString)
	return opts
}

// connectBy sets how the database is reached: by the connection string of the start, and later by the one of the moment.
func connectBy(opts *db.Options, connection config.Secret) {
	opts.ConnectionString, opts.Reread = connection.Reveal(), connection.Current
}

// connectionFault names the key or the variable of a connection string that an engine refused.
func connectionFault(connection config.Secret, err error) error {
	if _, ok := errors.AsType[*db.ConnectionStringError](err); ok && connection.Source() != "" {
		return fmt.Errorf("%s: %w", connection.Source(), err)
	}
	return err
}

func ledgerMode(word string) db.LedgerMode {
	switch word {
	case config.LedgerVerify:
		return db.LedgerVerify
	case config.LedgerOff:
		return db.LedgerOff
	default:
		return db.LedgerManage
	}
}

// withoutSessions reports whether jobs have no session of their own: a pooler in transaction mode stands before the
// database, and no way past it is configured.
func withoutSessions(d *config.Database) bool {
	return d.Pooler == config.PoolerTransaction && d.DirectConnectionString.Empty()
}

// checkPooled refuses a configuration that asks for what is impossible without sessions. What it does not ask for by name
// is refused job by job.
func checkPooled(d *config.Database) error {
	if !withoutSessions(d) {
		return nil
	}
	const why = "needs a session of its own, and a pooler in transaction mode gives none: write direct_connection_string too, or leave it out"
	var faults []error
	for _, kind := range d.Kinds {
		if jobs.NeedsSession(kind) {
			faults = append(faults, errors.New("kinds: "+kind+" "+why))
		}
	}
	if slices.Contains(d.Effects, string(contract.AtMostOnce)) {
		faults = append(faults, errors.New("effects: at_most_once "+why))
	}
	return errors.Join(faults...)
}

// Policy says in jobs' words what a configured database allows.
func Policy(cfg *config.Config, d *config.Database) *jobs.Policy {
	p := &jobs.Policy{
		Kinds:       d.Kinds,
		Pooled:      withoutSessions(d),
		Ordered:     orderedQueues(d),
		Retention:   d.Ledger.Retention,
		Ledger:      d.HasLedger(),
		Timeout:     d.Timeout,
		MaxTimeout:  d.MaxTimeout,
		ByKind:      jobs.KindPolicies(),
		MaxRows:     d.MaxRows,
		MaxBytes:    int64(d.MaxBytes),
		MaxAffected: d.MaxAffected,

		SharedCommits: d.SharedCommits,

		Output: jobs.OutputPolicy{
			Off: !d.Output.Enabled, MaxRows: d.Output.MaxRows, MaxBytes: int64(d.Output.MaxBytes),
		},
		ReplyTo:       cfg.ReplyPrefixes,
		DeadLetters:   d.DeadLetters,
		MaxDeliveries: uint64(cfg.Worker.MaxDeliveries),
		Retry: jobs.RetryPolicy{
			Attempts: uint(d.Retry.Attempts), Delay: d.Retry.Delay, MaxDelay: d.Retry.MaxDelay,
		},
	}
	for _, e := range d.Effects {
		p.Effects = append(p.Effects, contract.Effect(e))
	}
	for kind, k := range d.ByKind {
		own := p.ByKind[kind]
		p.ByKind[kind] = jobs.KindPolicy{Timeout: cmp.Or(k.Timeout, own.Timeout), MaxTimeout: cmp.Or(k.MaxTimeout, own.MaxTimeout)}
	}
	return p
}
