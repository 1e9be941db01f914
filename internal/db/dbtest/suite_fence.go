package dbtest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

func testFence(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"TakenKey":  testTakenKey,
		"OwnUnique": testOwnUnique,
		"Namespaces": func(t *testing.T, h Harness) {
			b := setup(t, h)
			others := []db.Database{
				b.second(func(o *db.Options) { o.Namespace += "x" }),
				b.second(func(o *db.Options) { o.Name += "x" }),
			}
			_, err := b.transact(sealed("job"), b.item(1, "a"))
			require.NoError(t, err)
			for i, d := range others {
				row, err := d.Lookup(t.Context(), "job")
				require.NoError(t, err)
				require.Nil(t, row, "keys of another namespace or database are not ours")
				_, err = b.transactOn(d, sealed("job"), b.item(i+2, fmt.Sprint(i)))
				require.NoError(t, err)
			}
			require.Equal(t, 3, b.count("item"))
		},
	})
}

// testTakenKey runs the same job again, at every isolation level: no second effect, and the first row stays.
func testTakenKey(t *testing.T, h Harness) {
	b := setup(t, h)
	for i, first := range levels(h) {
		job := fmt.Sprintf("job-%d", i)
		_, err := b.db.Transact(t.Context(), call(), one(b.item(100*i, job), first.level), objects(), sealed(job))
		require.NoError(t, err)
		for j, again := range levels(h) {
			other := func(context.Context, []db.ResultSet) (*db.Entry, error) {
				e := entry(job)
				e.Answer = []byte(`{"second":true}`)
				return e, nil
			}
			tx := one(b.item(100*i+j+1, job+again.name), again.level)
			sets, err := b.db.Transact(t.Context(), call(), tx, objects(), other)
			require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%s after %s: %v", again.name, first.name, err)
			require.Nil(t, sets)
		}
		require.Equal(t, i+1, b.count("item"))
		row, err := b.db.Lookup(t.Context(), job)
		require.NoError(t, err)
		require.JSONEq(t, string(entry(job).Answer), string(row.Answer))
	}
}

func one(c *dialect.Compiled, level db.Isolation) *db.Transaction {
	return &db.Transaction{Statements: []*dialect.Compiled{c}, Expect: []*db.Range{nil}, Isolation: level}
}

// testOwnUnique distinguishes the job's own unique violation from a taken key.
func testOwnUnique(t *testing.T, h Harness) {
	b := setup(t, h)
	_, err := b.transact(sealed("first"), b.item(1, "a"))
	require.NoError(t, err)
	_, err = b.transact(sealed("second"), b.item(2, "a"))
	e := requireError(t, err, db.ClassPermanent, contract.CodeUnique)
	require.Zero(t, e.Statement)
	row, err := b.db.Lookup(t.Context(), "second")
	require.NoError(t, err)
	require.Nil(t, row)
}

func testRaces(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Transacts": func(t *testing.T, h Harness) {
			for _, l := range levels(h) {
				t.Run(l.name, func(t *testing.T) { raceTransacts(t, h, l.level) })
			}
		},
		"RecordAndTransact": raceRecord,
		"Records":           raceRecords,
	})
}

// raceTransacts runs the same job on two runners at the same time, several times each: one effect.
func raceTransacts(t *testing.T, h Harness, level db.Isolation) {
	const runners, rounds = 4, 5
	b := setup(t, h)
	both := []db.Database{b.db, b.second()}
	for round := range rounds {
		job := fmt.Sprintf("job-%d", round)
		ends := make([]error, runners)
		var wg sync.WaitGroup
		for r := range runners {
			tx := one(b.item(100*round+r, fmt.Sprintf("%s by %d", job, r)), level)
			wg.Go(func() { ends[r] = persist(t.Context(), both[r%2], tx, sealed(job)) })
		}
		wg.Wait()
		won := 0
		for _, err := range ends {
			if err == nil {
				won++
				continue
			}
			require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
		}
		require.Equal(t, 1, won)
		require.Equal(t, round+1, b.count("item"))
	}
}

// persist repeats a transaction while its end is transient, as a runner does.
func persist(ctx context.Context, d db.Database, tx *db.Transaction, seal db.BeforeCommit) error {
	for {
		_, err := d.Transact(ctx, call(), tx, objects(), seal)
		if db.ClassOf(err) != db.ClassTransient {
			return err
		}
	}
}

// raceRecord lets a runner record another end of a job while a second one executes it: one of the two wins,
// and both know which.
func raceRecord(t *testing.T, h Harness) {
	b := setup(t, h)
	other := b.second()
	for round := range 20 {
		job := fmt.Sprintf("job-%d", round)
		before := b.count("item")
		tx := one(b.item(round, job), db.IsolationDefault)
		var effect error
		var wg sync.WaitGroup
		wg.Go(func() { effect = persist(t.Context(), b.db, tx, sealed(job)) })
		tombstone := entry(job)
		tombstone.Status = "failed"
		row, inserted, err := other.Record(t.Context(), tombstone)
		wg.Wait()
		require.NoError(t, err)
		if inserted {
			require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(effect), "%v", effect)
			require.Equal(t, before, b.count("item"))
			continue
		}
		require.NoError(t, effect)
		require.Equal(t, "succeeded", row.Status)
		require.Equal(t, before+1, b.count("item"))
	}
}

func raceRecords(t *testing.T, h Harness) {
	const runners = 6
	b := setup(t, h)
	both := []db.Database{b.db, b.second()}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := map[string]bool{}
	for r := range runners {
		wg.Go(func() {
			e := entry("job")
			e.Runner = fmt.Sprintf("runner-%d", r)
			row, inserted, err := both[r%2].Record(t.Context(), e)
			mu.Lock()
			defer mu.Unlock()
			if !check(t, err) {
				return
			}
			won[row.Runner] = won[row.Runner] || inserted
		})
	}
	wg.Wait()
	require.Len(t, won, 1, "all see the same row")
	for _, inserted := range won {
		require.True(t, inserted)
	}
}

// check is require.NoError for goroutines.
func check(t testing.TB, err error) bool {
	if err != nil {
		t.Errorf("unexpected error: %v", err)
	}
	return err == nil
}
