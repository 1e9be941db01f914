package app_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/app"
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
			const alike = "shop.nobody.x.csv" // somebody's, but named as those of a job
			_, err = bucket.PutString(t.Context(), alike, "rows")
			require.NoError(t, err)
			all := append([]string{named, orphan, recorded, aside, alike}, odd...)
			require.ElementsMatch(t, all, w.objects())

			nobody := app.RowsSweeper(t, w.config("r2", withDatabase("shop", "postgres", "postgres://postgres@127.0.0.1:1/shop?sslmode=disable")))
			require.Zero(t, nobody(0), "a ledger that cannot be read may name them")
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
