package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
)

func runnerHeartbeats(t *testing.T, conn *bus.Conn, instance string) func(body string) (shared bool) {
	t.Helper()
	b, err := bus.RunnerHeartbeats(conn, instance)
	require.NoError(t, err)
	return func(body string) bool {
		shared, err := b.Publish(t.Context(), []byte(body))
		require.NoError(t, err)
		return shared
	}
}

func lastHeartbeat(t *testing.T, b *bustest.Bundle, subject string) string {
	t.Helper()
	stream, err := b.JS.Stream(t.Context(), "DBRUNNER_HEALTH")
	require.NoError(t, err)
	m, err := stream.GetLastMsgForSubject(t.Context(), subject)
	require.NoError(t, err)
	return string(m.Data)
}

func TestHeartbeatsKeepTheLast(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	one := runnerHeartbeats(t, b.Conn, "one")
	for i := range 3 {
		require.False(t, one(fmt.Sprint(i)), "no other process is there")
	}
	require.Equal(t, "2", lastHeartbeat(t, b, "dbrunner.health.runner.one"))
	shop, err := bus.DatabaseHeartbeats(b.Conn, "shop", "one")
	require.NoError(t, err)
	shared, err := shop.Publish(t.Context(), []byte("up"))
	require.NoError(t, err)
	require.False(t, shared)
	require.Equal(t, "up", lastHeartbeat(t, b, "dbrunner.health.database.shop.one"))
	stream, err := b.JS.Stream(t.Context(), "DBRUNNER_HEALTH")
	require.NoError(t, err)
	require.EqualValues(t, 2, stream.CachedInfo().State.Msgs, "one a subject")
	_, err = bus.RunnerHeartbeats(b.Conn, "a.b")
	require.ErrorIs(t, err, bus.ErrSubject)
	_, err = bus.DatabaseHeartbeats(b.Conn, "*", "one")
	require.ErrorIs(t, err, bus.ErrSubject)
}

// Two processes with one name detect each other, and both stay visible. One that follows another is alone.
func TestHeartbeatsDetectADuplicateInstance(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	other, _ := bustest.Connect(t, b.Node.ClientURL())
	first, second := runnerHeartbeats(t, b.Conn, "twin"), runnerHeartbeats(t, other, "twin")
	require.False(t, first("first"))
	require.False(t, second("second"), "what was there before may be of a process that has ended")
	require.True(t, first("first"))
	require.True(t, second("second"))
	require.Equal(t, "second", lastHeartbeat(t, b, "dbrunner.health.runner.twin"))
	require.False(t, second("second"), "no other process has published since")
}

// A heartbeat that is gone, by its age or by hand, is no sign of anybody else.
func TestHeartbeatsContinueAfterTheirRemoval(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Health.MaxAge = 3 * time.Second
	b := bustest.SetupOn(t, bustest.Server(t), top)
	one := runnerHeartbeats(t, b.Conn, "one")
	require.False(t, one("1"))
	stream, err := b.JS.Stream(t.Context(), "DBRUNNER_HEALTH")
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := stream.GetLastMsgForSubject(t.Context(), "dbrunner.health.runner.one")
		return err != nil
	}, 20*time.Second, 10*time.Millisecond, "it has its age")
	require.False(t, one("2"))
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("dbrunner.health.runner.one")))
	require.False(t, one("3"))
	require.Equal(t, "3", lastHeartbeat(t, b, "dbrunner.health.runner.one"))
}

func TestLagAndRoom(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Results.MaxCount = 100
	b := bustest.SetupOn(t, bustest.Server(t), top)
	b.Publish(t, "query", 5)
	lag, err := bus.ReadLag(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	require.EqualValues(t, 5, lag.Pending)
	require.Zero(t, lag.AckPending)
	r := bustest.Run(t, b.Conn, "work", 2)
	r.Next(t)
	r.Next(t)
	lag, err = bus.ReadLag(t.Context(), b.Conn, database, "work")
	require.NoError(t, err)
	require.EqualValues(t, 3, lag.Pending)
	require.Equal(t, 2, lag.AckPending)
	_, err = bus.ReadLag(t.Context(), b.Conn, database, "nosuch")
	require.ErrorIs(t, err, bus.ErrNotFound)

	demo := results.Of(b.Conn, database)
	_, seen := demo.SeenRoom()
	require.False(t, seen, "no scan has run yet")
	_, err = demo.Store(t.Context(), "a", []byte("r"))
	require.NoError(t, err)
	_, err = demo.Purge(t.Context(), time.Minute)
	require.NoError(t, err)
	room, seen := demo.SeenRoom()
	require.True(t, seen)
	require.EqualValues(t, 1, room.Messages)
	require.EqualValues(t, 100, room.MaxMessages)
}
