package dbtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testPoisons lets jobs harm what their own execution needs. Whatever they do is their own failure, which says nothing of
// the server, and the next job finds everything as it was.
func testPoisons(t *testing.T, h Harness) {
	for _, p := range h.Poisons {
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, h)
			for _, sql := range p.Before {
				b.exec(sql)
			}
			for round := range 3 {
				job := fmt.Sprintf("poison-%d", round)
				err := b.poison(p, job)
				t.Logf("%v: %v", db.ClassOf(err), err)
				require.NotEqual(t, db.ClassUnavailable, db.ClassOf(err), "it reports that the server is gone: %v", err)
				b.requireWell(round)
				row, lookErr := b.db.Lookup(t.Context(), job)
				require.NoError(t, lookErr)
				if err != nil && db.ClassOf(err) != db.ClassUnknown {
					require.Nil(t, row, "it is rolled back: %v", err)
				}
				if err == nil && !p.Query {
					require.NotNil(t, row, "it is committed, and nothing reports it")
				}
			}
		})
	}
}

// poison runs the job of a poison; what the runner itself refuses is refused.
func (b *bench) poison(p Poison, job string) error {
	var statements []*dialect.Compiled
	for _, sql := range p.SQL {
		c, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: sql})
		if len(faults) > 0 {
			return db.Errorf(db.ClassPermanent, faults[0].Code, "refused: %s", faults[0].Message)
		}
		statements = append(statements, c)
	}
	limited := db.Call{Label: job, Timeout: 3 * time.Second}
	if p.Query {
		_, err := b.db.Read(b.t.Context(), limited, statements[0], objects())
		return err
	}
	tx := &db.Transaction{Statements: statements, Expect: make([]*db.Range, len(statements))}
	_, err := b.db.Transact(b.t.Context(), limited, tx, objects(), sealed(job))
	return err
}

// requireWell requires that jobs run, with their ledger rows, and that the probe says so.
func (b *bench) requireWell(round int) {
	b.t.Helper()
	require.NoError(b.t, b.db.Probe(b.t.Context()))
	for i := range 3 { // more than one session
		job := fmt.Sprintf("well-%d-%d", round, i)
		tx := one(b.item(1_000_000+10*round+i, job), db.IsolationDefault)
		require.NoError(b.t, attempts(b.t.Context(), b.db, tx, sealed(job)))
		row, err := b.db.Lookup(b.t.Context(), job)
		require.NoError(b.t, err)
		require.NotNil(b.t, row)
	}
	_, inserted, err := b.db.Record(b.t.Context(), entry(fmt.Sprintf("recorded-%d", round)))
	require.NoError(b.t, err)
	require.True(b.t, inserted)
}

// attempts is a transaction as a runner makes it: a few attempts where the connection was lost or the failure is transient.
func attempts(ctx context.Context, d db.Database, tx *db.Transaction, seal db.BeforeCommit) (err error) {
	for range 4 {
		_, err = d.Transact(ctx, call(), tx, objects(), seal)
		if class := db.ClassOf(err); class != db.ClassTransient && class != db.ClassLost {
			return err
		}
	}
	return err
}
