package crash

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKilledInAGroup kills a runner while jobs share a COMMIT: before it, behind it, and while their results are stored.
func TestKilledInAGroup(t *testing.T) {
	t.Parallel()
	const jobs = 40
	for _, place := range []string{"shared_sealed", "shared_committed", "after_commit:20", "before_store:20", "after_store:20", "after_ack:20"} {
		t.Run(strings.TrimRight(place, ":0123456789"), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set("SHOP_SHARED_COMMITS=true")
			w.set("SHOP_POOL_MAX=1") // the first job has the connection until others wait
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("transaction", `{"id":"long","statements":[{"sql":"SELECT pg_sleep(3)"}]}`)
			// Only jobs that are stored behind the consumer's making are first deliveries for certain.
			require.Eventually(t, func() bool {
				var n int
				err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
					AND state = 'active' AND query LIKE '%pg_sleep(3)' AND pid <> pg_backend_pid()`).Scan(&n)
				return err == nil && n == 1
			}, testTimeout, 10*time.Millisecond)
			for i := range jobs {
				w.publish("transaction", strings.Replace(insert(fmt.Sprint("g", i), fmt.Sprint("n", i)), "{", `{"commit":"shared",`, 1))
			}
			first.died()
			w.start("second")
			for i := range jobs {
				require.Equal(t, "succeeded", w.stored(fmt.Sprint("g", i)).Status)
			}
			w.drained()
			for i := range jobs {
				require.Equal(t, 1, w.effects(fmt.Sprint("n", i)))
			}
		})
	}
}
