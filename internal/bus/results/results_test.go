package results_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/report"
)

func TestFirstWriterWins(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	ctx := t.Context()
	seen := make(chan *nats.Msg, 16)
	sub, err := b.Plain.ChanSubscribe("dbrunner.results.demo.*", seen)
	require.NoError(t, err)
	require.NoError(t, b.Plain.Flush())
	demo := results.Of(b.Conn, database)

	body, err := demo.StoredResult(ctx, "a1")
	require.NoError(t, err)
	require.Nil(t, body)
	body, err = demo.GetDirect(ctx, "a1")
	require.NoError(t, err)
	require.Nil(t, body)

	found, err := demo.HasResult(ctx, "a1")
	require.NoError(t, err)
	require.False(t, found)

	verdict, err := demo.Store(ctx, "a1", []byte("one"))
	require.NoError(t, err)
	require.Equal(t, report.Stored, verdict)
	verdict, err = demo.Store(ctx, "a1", []byte("two"))
	require.NoError(t, err)
	require.Equal(t, report.Taken, verdict)

	for _, get := range []func(context.Context, string) ([]byte, error){demo.StoredResult, demo.GetDirect} {
		body, err = get(ctx, "a1")
		require.NoError(t, err)
		require.Equal(t, "one", string(body))
	}
	found, err = demo.HasResult(ctx, "a1")
	require.NoError(t, err)
	require.True(t, found)
	_, err = results.Of(b.Conn, "nowhere").HasResult(ctx, "a1")
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, err = demo.HasResult(ctx, "a.1")
	require.ErrorIs(t, err, bus.ErrSubject)
	m := <-seen
	require.Equal(t, "dbrunner.results.demo.a1", m.Subject)
	require.Equal(t, "one", string(m.Data))
	require.NoError(t, sub.Unsubscribe())
	require.Empty(t, seen, "a subscriber never sees the refused one")

	stream, err := b.JS.Stream(ctx, "DBRUNNER_RESULTS_demo")
	require.NoError(t, err)
	stored, err := stream.GetLastMsgForSubject(ctx, "dbrunner.results.demo.a1")
	require.NoError(t, err)
	require.Equal(t, "one", string(stored.Data))
}

func TestRacingWritersHaveOneWinner(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	other, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance = "other" })
	bustest.RaceWriters(t, []*bus.Conn{b.Conn, other}, 300, 3)
}

func TestFullResultsStreamIsPurgedBeyondTheMinimumAge(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Results.MaxCount = 100
	b := bustest.SetupOn(t, bustest.Server(t), top)
	demo := results.Of(b.Conn, database)
	store := func(id string) report.StoreVerdict {
		verdict, err := demo.Store(t.Context(), id, []byte("x"))
		require.NoError(t, err)
		return verdict
	}
	for i := range 100 {
		require.Equal(t, report.Stored, store(fmt.Sprintf("old%d", i)))
	}
	require.Equal(t, report.Full, store("new"))
	require.Equal(t, report.Taken, store("old5"), "a taken subject differs from a full store")
	room, err := demo.Room(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(100), room.Messages)
	require.InDelta(t, 1.0, room.Used(), 0.0001)
	require.False(t, room.Free(10))

	purged, err := demo.Purge(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, purged, "all are younger than the minimum age")
	require.Equal(t, report.Full, store("new"))

	purged, err = demo.Purge(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.Equal(t, uint64(30), purged, "down to 70 %")
	require.Equal(t, uint64(30), demo.Purged())
	require.NotEmpty(t, b.Logs.FilterMessageSnippet("purged").All())
	require.Equal(t, report.Stored, store("new"))
	for id, want := range map[string]bool{"old29": false, "old30": true, "old99": true} {
		body, err := demo.StoredResult(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, want, body != nil, id)
	}
	purged, err = demo.Purge(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.Zero(t, purged, "below 80 %")
}

func TestPurgeStopsAtTheMinimumAge(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Results.MaxCount = 100
	b := bustest.SetupOn(t, bustest.Server(t), top)
	demo := results.Of(b.Conn, database)
	for i := range 90 {
		if i == 10 { // ten are older
			time.Sleep(600 * time.Millisecond) // by the clock: age is what the test is about
		}
		_, err := demo.Store(t.Context(), fmt.Sprintf("r%d", i), []byte("x"))
		require.NoError(t, err)
	}
	purged, err := demo.Purge(t.Context(), 500*time.Millisecond)
	require.NoError(t, err)
	require.Equal(t, uint64(10), purged)
}

func TestPurgeByBytes(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Results.MaxBytes = 200 << 10
	b := bustest.SetupOn(t, bustest.Server(t), top)
	demo := results.Of(b.Conn, database)
	n := 0
	for ; ; n++ {
		verdict, err := demo.Store(t.Context(), fmt.Sprintf("r%d", n), make([]byte, 1000))
		require.NoError(t, err)
		if verdict == report.Full {
			break
		}
	}
	require.Greater(t, n, 150)
	purged, err := demo.Purge(t.Context(), 0)
	require.NoError(t, err)
	room, err := demo.Room(t.Context())
	require.NoError(t, err)
	require.InDelta(t, 0.7, room.Used(), 0.03, "purged %d of %d", purged, n)
}

func TestSeveralRunnersPurgeConcurrently(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Results.MaxCount = 200
	b := bustest.SetupOn(t, bustest.Server(t), top)
	demo := results.Of(b.Conn, database)
	for i := range 200 {
		_, err := demo.Store(t.Context(), fmt.Sprintf("r%d", i), []byte("x"))
		require.NoError(t, err)
	}
	var total atomic.Uint64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			n, err := results.Of(b.Conn, database).Purge(context.Background(), 0)
			if err == nil {
				total.Add(n)
			}
		})
	}
	wg.Wait()
	room, err := demo.Room(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(140), room.Messages)
	require.Equal(t, uint64(60), total.Load())
}

func TestStoreWaitsOutARestart(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	demo := results.Of(b.Conn, database)
	_, err := demo.Store(t.Context(), "before", []byte("x"))
	require.NoError(t, err)
	b.Node.Stop()
	type outcome struct {
		verdict report.StoreVerdict
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		verdict, err := demo.Store(t.Context(), "during", []byte("y"))
		done <- outcome{verdict, err}
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = demo.Store(ctx, "impatient", []byte("z"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	b.Node.Start()
	select {
	case o := <-done:
		require.NoError(t, o.err)
	case <-time.After(20 * time.Second):
		require.FailNow(t, "the result was not stored")
	}
	body, err := demo.StoredResult(t.Context(), "during")
	require.NoError(t, err)
	require.Equal(t, "y", string(body))
}

func TestResultAboveTheLimitIsAnError(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	_, err := results.Of(b.Conn, database).Store(t.Context(), "big", make([]byte, b.Conn.MaxPayload()+1))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	_, err = results.Of(b.Conn, database).Store(t.Context(), "a.b", nil)
	require.ErrorIs(t, err, bus.ErrSubject)
}

func TestAwaitResult(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	demo := results.Of(b.Conn, database)
	_, err := demo.Store(t.Context(), "there", []byte("1"))
	require.NoError(t, err)
	body, err := results.Await(t.Context(), b.Conn, database, "there")
	require.NoError(t, err)
	require.Equal(t, "1", string(body))

	done := make(chan []byte, 1)
	go func() {
		body, _ := results.Await(t.Context(), b.Conn, database, "later")
		done <- body
	}()
	require.Eventually(t, func() bool { return b.Node.Server().NumSubscriptions() > 0 }, 5*time.Second, time.Millisecond)
	_, err = demo.Store(t.Context(), "later", []byte("2"))
	require.NoError(t, err)
	select {
	case body := <-done:
		require.Equal(t, "2", string(body))
	case <-time.After(10 * time.Second):
		require.FailNow(t, "no result")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = results.Await(ctx, b.Conn, database, "never")
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

// TestLooksOfOneMoment: many concurrent lookups find what is there, and nothing else.
func TestLooksOfOneMoment(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	demo := results.Of(b.Conn, database)
	const looks, every = 400, 7
	look := func(there func(i int) bool) {
		var all sync.WaitGroup
		for i := range looks {
			all.Go(func() {
				found, err := demo.HasResult(t.Context(), fmt.Sprintf("job%d", i))
				if err != nil || found != there(i) {
					t.Errorf("job %d: %v, %v", i, found, err)
				}
			})
		}
		all.Wait()
	}
	look(func(int) bool { return false }) // the stream is empty
	for i := range looks {
		if i%every == 0 {
			_, err := demo.Store(t.Context(), fmt.Sprintf("job%d", i), []byte("{}"))
			require.NoError(t, err)
		}
	}
	look(func(i int) bool { return i%every == 0 })
	_, err := demo.Store(t.Context(), "another", []byte("{}"))
	require.NoError(t, err)
	look(func(i int) bool { return i%every == 0 })
}

// What says to which trace a result belongs reaches those who subscribe and those who get it; the first writer wins all
// the same.
func TestStoreTraced(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	sub, err := b.Plain.SubscribeSync("dbrunner.results.demo.a1")
	require.NoError(t, err)
	require.NoError(t, b.Plain.Flush())
	demo := results.Of(b.Conn, database)
	verdict, err := demo.StoreTraced(t.Context(), "a1", parent, []byte("one"))
	require.NoError(t, err)
	require.Equal(t, report.Stored, verdict)
	for _, store := range []func() (report.StoreVerdict, error){
		func() (report.StoreVerdict, error) { return demo.Store(t.Context(), "a1", []byte("two")) },
		func() (report.StoreVerdict, error) {
			return demo.StoreTraced(t.Context(), "a1", parent, []byte("two"))
		},
	} {
		verdict, err = store()
		require.NoError(t, err)
		require.Equal(t, report.Taken, verdict)
	}
	m, err := sub.NextMsg(10 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "one", string(m.Data))
	require.Equal(t, parent, m.Header.Get(contract.HeaderTraceParent))
}

const database = bustest.Database

func TestMain(m *testing.M) { bustest.VerifyMain(m) }
