package dbtest

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testSharedDryRun runs a dry run beside a group, which it does not join although it may share a commit: nothing of it is kept.
func testSharedDryRun(t *testing.T, h Harness) {
	b := sharing(t, h)
	first, dry, last := shares("first", b.item(1, "first")), shares("dry", b.item(2, "dry")), shares("last", b.item(3, "last"))
	dry.tx.DryRun = true
	b.together(first, dry, last)
	b.requireShared(first, last)
	require.NoError(t, dry.err)
	require.Len(t, dry.sets, 1)
	require.Equal(t, 2, b.count("item"))
	b.requireRows(false, "dry")
}

// testSharedDeferred has a job violate a deferred constraint, which a job behind it would make good: it is run by itself.
func testSharedDeferred(t *testing.T, h Harness) {
	if !h.Has.DeferredConstraints {
		return // the engine has no such words: nothing to conform to
	}
	b := sharing(t, h)
	b.exec("CREATE TABLE late (id INTEGER NOT NULL PRIMARY KEY, item_id INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)")
	first, violates, last := shares("first", b.item(1, "first")), shares("violates", b.compile("INSERT INTO late (id, item_id) VALUES (1, 99)")),
		shares("last", b.item(99, "last"))
	b.together(first, violates, last)
	require.NoError(t, first.err)
	require.NoError(t, last.err)
	require.EqualValues(t, 2, violates.starts, "in its group, and by itself")
	b.requireRows(violates.err == nil, "violates")
	b.requireRows(true, "first", "last")
}

// testSharedSessions leaves state behind in a session, in a group, and looks for it from its neighbors.
func testSharedSessions(t *testing.T, h Harness) {
	for _, leak := range h.Leaks {
		t.Run(leak.Name, func(t *testing.T) {
			t.Parallel()
			h.Needs(t, leak.Needs)
			b := sharing(t, h)
			b.exec("CREATE TABLE beside (id INTEGER)")
			_, inside := look(b, leak)
			before, sets, behind, last := shares("before", b.compile("INSERT INTO beside (id) VALUES (1)")), shares("sets", rawStatements(leak.Set)...),
				shares("behind", &dialect.Compiled{SQL: leak.Look}), shares("last", b.compile("INSERT INTO beside (id) VALUES (2)"))
			b.together(before, sets, behind, last)
			require.NoError(t, before.err)
			require.NoError(t, last.err)
			seen := ""
			if behind.err != nil {
				seen = behind.err.Error()
			} else {
				seen = shown(t, behind.sets[0], nil)
			}
			require.Equal(t, inside, seen, "seen by a neighbor")
			require.Equal(t, 2, b.count("beside"))
			b.requireRows(true, "before", "last")
			_, again := look(b, leak)
			require.Equal(t, inside, again, "seen by a later transaction")
		})
	}
}

// testSharedPoisons puts jobs that harm their own execution between others.
func testSharedPoisons(t *testing.T, h Harness) {
	for _, p := range h.Poisons {
		if p.Query {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			b := sharing(t, h)
			for _, sql := range p.Before {
				b.exec(sql)
			}
			before, behind := shares("before", b.item(1, "before")), shares("behind", b.item(2, "behind"))
			poison := shares("poison")
			for _, sql := range p.SQL {
				c, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: sql})
				if len(faults) > 0 {
					return // the runner refuses it
				}
				poison.tx.Statements, poison.tx.Expect = append(poison.tx.Statements, c), append(poison.tx.Expect, nil)
			}
			poison.timeout = 3 * time.Second
			b.together(before, poison, behind)
			for _, m := range []*sharer{before, behind} {
				if class := db.ClassOf(m.err); class == db.ClassLost || class == db.ClassTransient || class == db.ClassUnknown { // as a runner does
					if m.err = attempts(t.Context(), b.db, m.tx, m.seal); db.ClassOf(m.err) == db.ClassAlreadyRecorded {
						m.err = nil
					}
				}
				require.NoError(t, m.err)
			}
			require.Equal(t, 2, b.number("SELECT count(*) AS n FROM item WHERE name IN ('before', 'behind')"))
			b.requireRows(true, "before", "behind")
			if poison.err != nil && db.ClassOf(poison.err) != db.ClassUnknown {
				b.requireRows(false, "poison")
			}
		})
	}
}
