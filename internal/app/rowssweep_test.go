package app_test

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/app"
	"dbrunner/internal/config"
)

// forget takes a result away, as its age does.
func (w *world) forget(database, id string) {
	w.t.Helper()
	results, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_"+database)
	require.NoError(w.t, err)
	require.NoError(w.t, results.Purge(w.t.Context(), jetstream.WithPurgeSubject("dbrunner.results."+database+"."+id)))
}

// objectStore is the bucket of rows as stock clients may write it: they need roll-up, which an earlier release allowed.
func (w *world) objectStore() jetstream.ObjectStore {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(w.t, err)
	config := stream.CachedInfo().Config
	config.AllowRollup = true
	_, err = w.js.UpdateStream(w.t.Context(), config)
	require.NoError(w.t, err)
	bucket, err := w.js.ObjectStore(w.t.Context(), "DBRUNNER_ROWS")
	require.NoError(w.t, err)
	return bucket
}

// Of the rows outside of results those go that are old and that nothing names: no result, under either of the ids that it may
// have, and no answer in the ledger. What is not of this runner's databases, or of no job, is left alone.
func TestSweepOfRows(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			cfg := w.config("r1", database(t))
			running := w.start(cfg)
			query := `"output":"object","sql":` + strconv.Quote(count(name, 3))
			write := `"output":"object","statements":[{"sql":` + strconv.Quote(count(name, 3)) + `}]`
			named := w.rows("shop", "named", "query", query).Object.Name
			orphan := w.rows("shop", "orphan", "query", query).Object.Name
			recorded := w.rows("shop", "recorded", "transaction", write).Statements[0].Object.Name
			running.end(t)
			w.forget("shop", "orphan")
			w.forget("shop", "recorded")

			bucket := w.objectStore()
			// A job whose id has got another job's result meanwhile has its own under the derived id.
			const derived = "s42_dgrfgbv552j9"
			aside := "shop.taken." + derived + ".MZXW6YTBOI2DKNRX.ndjson"
			_, err := bucket.PutString(t.Context(), aside, "rows")
			require.NoError(t, err)
			_, err = w.js.Publish(t.Context(), "dbrunner.store.shop."+derived, bytes.ReplaceAll(w.stored("shop", "named"), []byte(named), []byte(aside)))
			require.NoError(t, err)
			_, err = w.js.Publish(t.Context(), "dbrunner.store.shop.taken", w.stored("shop", "named"))
			require.NoError(t, err)

			odd := []string{
				"elsewhere.orphan.MZXW6YTBOI2DKNRX.csv", // another runner's database
				"shop", "shop.", "shop..", "shop...", "shop....", "shop.orphan", "shop.orphan.csv", "shop..orphan.csv", "shop.a b.x.csv",
				"shop." + strings.Repeat("a", 121) + ".x.csv", "shop.>.x.csv", "shop.*.x.csv", ".orphan.x.csv", "...", ".", " ", "report.csv",
				"Shop.orphan.x.csv", "shop/orphan.x.y.csv", "shop.\x00.x.csv", strings.Repeat("long.", 200),
			}
			for _, name := range odd {
				_, err := bucket.PutString(t.Context(), name, "rows")
				require.NoError(t, err, name)
			}
			info, err := bucket.GetInfo(t.Context(), named)
			require.NoError(t, err)
			_, err = bucket.AddLink(t.Context(), "shop.link.x.csv", info)
			require.NoError(t, err)
			odd = append(odd, "shop.link.x.csv")
			const alike = "shop.unknown.x.csv" // of another writer, but named as a job's
			_, err = bucket.PutString(t.Context(), alike, "rows")
			require.NoError(t, err)
			all := append([]string{named, orphan, recorded, aside, alike}, odd...)
			require.ElementsMatch(t, all, w.objects())

			unreadable := app.RowsSweeper(t, w.config("r2", withDatabase("shop", "postgres", "postgres://postgres@127.0.0.1:1/shop?sslmode=disable")))
			require.Zero(t, unreadable(0), "a ledger that cannot be read may name them")
			sweep := app.RowsSweeper(t, cfg)
			require.Zero(t, sweep(time.Hour), "they are young")
			require.ElementsMatch(t, all, w.objects())
			for _, want := range []int{2, 0} {
				require.Equal(t, want, sweep(0))
				require.ElementsMatch(t, append([]string{named, recorded, aside}, odd...), w.objects())
			}

			w.forget("shop", "*")
			require.Equal(t, 2, app.RowsSweeper(t, cfg)(0), "their results are gone")
			require.ElementsMatch(t, append([]string{recorded}, odd...), w.objects())
		})
	}
}

// The rows of a job that has not finished are left alone however old they are: its message is still in the queue. When it
// has left the queue, what no result names goes.
func TestRowsOfAQueuedJobAreKept(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.config("r1", engines()["sqlite"](t))
	running := w.start(cfg)
	w.rows("shop", "first", "query", `"sql":"SELECT 1"`)
	running.end(t)
	ack, err := w.js.Publish(t.Context(), "dbrunner.jobs.shop.query", []byte(`{"id":"long","sql":"SELECT 1"}`))
	require.NoError(t, err)
	queue, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	job, err := queue.GetMsg(t.Context(), ack.Sequence)
	require.NoError(t, err)
	derived := contract.DerivedID(job.Sequence, job.Time)
	bucket := w.objectStore()
	kept := []string{
		"shop.long." + derived + ".MZXW6YTBOI2DKNRX.ndjson", // of a job with an id of its own
		"shop." + derived + ".MZXW6YTBOI2DKNRX.ndjson",      // of one without
	}
	gone := []string{
		"shop.long." + contract.DerivedID(job.Sequence, job.Time.Add(1)) + ".MZXW6YTBOI2DKNRX.ndjson", // of a queue before
		"shop.long." + contract.DerivedID(job.Sequence+1, job.Time) + ".MZXW6YTBOI2DKNRX.ndjson",
	}
	for _, name := range append(slices.Clone(kept), gone...) {
		_, err = bucket.PutString(t.Context(), name, "rows")
		require.NoError(t, err)
	}
	sweep := app.RowsSweeper(t, cfg)
	require.Equal(t, 2, sweep(0))
	require.ElementsMatch(t, kept, w.objects())
	require.NoError(t, queue.DeleteMsg(t.Context(), job.Sequence))
	require.Zero(t, sweep(time.Hour), "of a job that an operator took out of the queue while it ran")
	require.Equal(t, 2, sweep(0))
	require.Empty(t, w.objects())
}

// Rows are left alone for longer than any execution may last: one that writes them may begin with its first row and stop for a
// while before the next.
func TestRowsAreLeftAloneWhileTheyMayBeWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.config("r1", withDatabase("shop", "sqlite", t.TempDir()+"/shop.db"), withDatabase("other", "sqlite", t.TempDir()+"/other.db"))
	require.Equal(t, time.Hour+15*time.Minute, app.RowsGrace(cfg), "migrations may last longer, and offload nothing")
	cfg.Databases["other"].MaxTimeout = 24 * time.Hour
	require.Equal(t, 25*time.Hour, app.RowsGrace(cfg))
	cfg.Databases["other"].ByKind = map[string]*config.KindLimits{"query": {MaxTimeout: 2 * time.Hour}, "transaction": {MaxTimeout: 3 * time.Hour}}
	require.Equal(t, 4*time.Hour, app.RowsGrace(cfg))
}
