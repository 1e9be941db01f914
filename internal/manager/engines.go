package manager

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/config"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/postgres"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/db/sqlserver"
	"dbrunner/internal/jobs"
)

// engine is what the rest of the runner needs to know of a database engine.
type engine struct {
	name string
	open func(db.Options) (db.Database, error)
	ddl  func() string // creates the ledger
	// dialect is how its SQL text and parameters are read.
	dialect func() *dialect.Dialect
	// migrations is the engine for package migration.
	migrations func(db.Options) (migration.Engine, error)
}

// engines is the table of engines: a new one is a line here.
func engines() []engine {
	return []engine{
		{"postgres", postgres.Open, postgres.DDL, postgres.Dialect, postgres.Migrations},
		{"sqlserver", sqlserver.Open, sqlserver.DDL, sqlserver.Dialect, sqlserver.Migrations},
		{"sqlite", sqlite.Open, sqlite.DDL, sqlite.Dialect, sqlite.Migrations},
	}
}

func engineByName(name string) (engine, error) {
	for _, e := range engines() {
		if e.name == name {
			return e, nil
		}
	}
	return engine{}, fmt.Errorf("unknown engine %q; known are %v", name, Engines())
}

// Engines returns the names of all engines.
func Engines() []string {
	var names []string
	for _, e := range engines() {
		names = append(names, e.name)
	}
	return names
}

// LedgerDDL returns the statements that create the ledger in a database of an engine.
func LedgerDDL(engine string) (string, error) {
	e, err := engineByName(engine)
	if err != nil {
		return "", err
	}
	return e.ddl(), nil
}

// RequestHash returns the hash that the result of a job has, for a client that does not know the database's engine: it is
// the same for every engine that understands the body. kind is that of a call with its name ("call.pay"). nil if none does.
func RequestHash(database, kind string, body []byte) []byte {
	kind, name, _ := strings.Cut(kind, ".")
	in := jobs.Message{Database: database, Kind: kind, Name: name, Body: body}
	policy := jobs.Policy{Ledger: true, Kinds: jobs.Kinds()}
	for _, e := range engines() {
		job, rejection := jobs.NewDecoder(jobs.DecoderOptions{Policy: &policy, Dialect: e.dialect()}).Decode(&in)
		switch {
		case job != nil:
			return job.Hash
		case rejection.Hash != nil:
			return rejection.Hash
		}
	}
	return nil
}

// CheckJob returns why a job would be rejected, for a client that does not know the database's engine; nil: some engine would take
// it. What only the database's configuration or its catalog forbids does not show. call is the name of the statement that a job of
// kind call runs.
func CheckJob(database, kind, call string, body []byte) error {
	var best error
	fewest := 0
	for _, e := range engines() {
		d := jobs.NewDecoder(jobs.DecoderOptions{Policy: &jobs.Policy{Ledger: true, Kinds: jobs.Kinds()}, Dialect: e.dialect()})
		_, rejection := d.Decode(&jobs.Message{Database: database, Kind: kind, Name: call, Timestamp: time.Now(), Body: body})
		if rejection == nil {
			return nil
		}
		var faults []error
		for _, f := range rejection.Faults {
			if f.Code != contract.CodeUnknownCall {
				faults = append(faults, errors.New(strings.TrimPrefix(f.Path+": "+f.Message, ": ")))
			}
		}
		if len(faults) == 0 {
			return nil
		}
		if best == nil || len(faults) < fewest {
			best, fewest = errors.Join(faults...), len(faults)
		}
	}
	return best
}

// Words are the words of the contract and of the engines that a configuration may use.
func Words() config.Words {
	return config.Words{
		Engines:     Engines(),
		Kinds:       jobs.Kinds(),
		OwnSlots:    jobs.OptionalKinds(),
		Effects:     []string{string(contract.ReadOnly), string(contract.ExactlyOnce), string(contract.AtLeastOnce), string(contract.AtMostOnce), string(contract.RolledBack)},
		DeadLetters: contract.DeadLetterReasons(),
	}
}
