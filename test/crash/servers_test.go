package crash

import (
	"syscall"
	"testing"
	"time"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// newWorld makes a world on a NATS server of its own and a database of the shared PostgreSQL server.
func newWorld(t *testing.T) *world {
	t.Helper()
	url := dbtest.Postgres(t)
	node := bustest.Server(t)
	w := setup(t, node.ClientURL(), url, url)
	w.node = node
	return w
}

// newWorldWithServer makes a world whose PostgreSQL server can be restarted.
func newWorldWithServer(t *testing.T) *world {
	t.Helper()
	server := dbtest.StartPostgres(t, "fsync=on")
	url := server.Database(t)
	node := bustest.Server(t)
	w := setup(t, node.ClientURL(), url, url)
	w.node, w.postgres = node, server
	return w
}

// restartDatabase ends PostgreSQL as after a crash and starts it again.
func (w *world) restartDatabase() {
	w.postgres.Stop(w.t, dbtest.StopImmediate)
	w.postgres.Start(w.t)
}

func (r *runner) freeze() { r.signal(syscall.SIGSTOP) }

func (r *runner) thaw() { r.signal(syscall.SIGCONT) }

// tick is how often a test looks again at what it waits for.
func tick() <-chan time.Time { return time.After(tickEvery) }

const tickEvery = 50 * time.Millisecond
