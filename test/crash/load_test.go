package crash

import (
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// load publishes jobs in the background and checks at the end that each had one effect and one result.
type load struct {
	w    *world
	stop chan struct{}
	done chan struct{}
	n    int
	acks atomic.Int64 // the same, to be read while it goes on
	seen func(string) int
}

func (w *world) startLoad() *load {
	l := &load{w: w, stop: make(chan struct{}), done: make(chan struct{}), seen: w.startWatching()}
	go func() {
		defer close(l.done)
		pace := time.NewTicker(4 * time.Millisecond)
		defer pace.Stop()
		for {
			select {
			case <-l.stop:
				return
			case <-pace.C:
				l.w.publish("transaction", insert(fmt.Sprintf("l%d", l.n), fmt.Sprintf("l%d", l.n)))
				l.n++
				l.acks.Add(1)
			}
		}
	}()
	return l
}

// for the given time the load goes on.
func (l *load) goOn(d time.Duration) {
	select {
	case <-l.done:
	case <-time.After(d):
	}
}

func (l *load) check() {
	t := l.w.t
	t.Helper()
	close(l.stop)
	<-l.done
	require.Greater(t, l.n, 20)
	l.w.drained()
	for i := range l.n {
		require.Equal(t, "succeeded", l.w.stored(fmt.Sprintf("l%d", i)).Status)
	}
	var effects, names int
	require.NoError(t, l.w.pool.QueryRow(t.Context(),
		`SELECT count(*), count(DISTINCT name) FROM effects WHERE name LIKE 'l%'`).Scan(&effects, &names))
	require.Equal(t, l.n, effects, "each effect once")
	require.Equal(t, l.n, names, "no effect missing")
	for i := range l.n {
		require.LessOrEqual(t, l.seen(fmt.Sprintf("l%d", i)), 1)
	}
	t.Logf("%d jobs", l.n)
}

func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first")
	w.serving()
	l := w.startLoad()
	l.goOn(time.Second)
	w.start("second")
	l.goOn(time.Second)
	first.signal(syscall.SIGTERM)
	asked := time.Now()
	first.wait()
	require.Equal(t, 0, first.cmd.ProcessState.ExitCode(), "%s", first.output)
	require.Less(t, time.Since(asked), 15*time.Second)
	l.goOn(time.Second)
	l.check()
}

// Jobs that a terminated runner has not started go to another one immediately, not after the ack wait.
func TestTerminatedRunnerRequeuesImmediately(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("RUNNER_TOPOLOGY_ACK_WAIT=5m", "SHOP_POOL_MAX=1")
	first := w.start("first")
	w.serving()
	w.publish("transaction", `{"id":"slow","statements":[{"sql":"SELECT pg_sleep(3)"}]}`)
	w.sleeping("pg_sleep(3)")
	for i := range 10 {
		w.publish("transaction", insert(fmt.Sprintf("h%d", i), "h"))
	}
	require.Eventually(t, func() bool {
		consumer, err := w.js.Consumer(t.Context(), "DBRUNNER_JOBS_shop", "work")
		if err != nil {
			return false
		}
		info, err := consumer.Info(t.Context())
		return err == nil && info.NumAckPending == 4
	}, testTimeout, 10*time.Millisecond, "the first runner holds as many as it may while they take long")
	first.signal(syscall.SIGTERM)
	w.start("second")
	for i := range 10 {
		require.Equal(t, "second", w.stored(fmt.Sprintf("h%d", i)).Runner)
	}
	require.Equal(t, "first", w.stored("slow").Runner, "what ran is finished")
	first.wait()
	require.Equal(t, 0, first.cmd.ProcessState.ExitCode())
	w.drained()
	require.Equal(t, 10, w.effects("h"))
}

func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("healthy")
	w.serving()
	l := w.startLoad()
	for i := range 4 {
		r := w.start(fmt.Sprintf("victim%d", i))
		l.goOn(1500 * time.Millisecond)
		r.kill()
	}
	l.check()
}

func TestNATSRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("r1")
	w.start("r2")
	w.serving()
	l := w.startLoad()
	for range 2 {
		l.goOn(1500 * time.Millisecond)
		w.node.Restart()
	}
	l.goOn(1500 * time.Millisecond)
	l.check()
}

func TestPostgreSQLRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorldWithServer(t)
	w.start("r1")
	w.start("r2")
	w.serving()
	l := w.startLoad()
	for range 2 {
		l.goOn(1500 * time.Millisecond)
		w.restartDatabase()
		l.goOn(1500 * time.Millisecond)
	}
	l.check()
	require.Empty(t, w.deadLetters(), "an outage costs no attempt")
}
