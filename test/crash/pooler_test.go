package crash

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// newWorldBehindPgBouncer makes a world whose runners reach the database through a pooler in transaction mode, and past
// it for what needs a session.
func newWorldBehindPgBouncer(t *testing.T) *world {
	t.Helper()
	direct := dbtest.Postgres(t)
	pooler := dbtest.StartPgBouncer(t, direct, "default_pool_size = 2")
	node := bustest.Server(t)
	w := setup(t, node.ClientURL(), pooler.URL(t, direct), direct)
	w.node = node
	w.set("SHOP_POOLER=transaction", "SHOP_DIRECT_CONNECTION_STRING="+direct)
	return w
}

// A pooler changes nothing in what is promised when a runner dies between commit and result, or holds a statement's lock.
func TestKilledBehindAPooler(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]struct {
		kind, job, status string
		effects           int
	}{
		"after_commit":    {"transaction", insert("a1", "a"), "succeeded", 1},
		"before_store":    {"transaction", insert("a1", "a"), "succeeded", 1},
		"after_statement": {"statement", statement("a1", `INSERT INTO effects (name) VALUES ('a')`), "unknown", 1},
	} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorldBehindPgBouncer(t)
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish(want.kind, want.job)
			first.died()
			w.start("second")
			require.Equal(t, want.status, w.stored("a1").Status)
			w.drained()
			require.Equal(t, want.effects, w.effects("a"))
		})
	}
}
