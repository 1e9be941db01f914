package bus_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

func TestPublishJob(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Jobs.MaxMsgsPerKind = 2
	b := bustest.SetupOn(t, bustest.Server(t), top)
	ctx := t.Context()
	sequence, duplicate, err := bus.PublishJob(ctx, b.Conn, database, "query", "a1", map[string][]string{"X": {"y"}}, []byte("1"))
	require.NoError(t, err)
	require.Equal(t, uint64(1), sequence)
	require.False(t, duplicate)
	sequence, duplicate, err = bus.PublishJob(ctx, b.Conn, database, "query", "a1", nil, []byte("2"))
	require.NoError(t, err)
	require.Equal(t, uint64(1), sequence)
	require.True(t, duplicate)
	_, _, err = bus.PublishJob(ctx, b.Conn, database, "statement", "a2", nil, nil)
	require.ErrorIs(t, err, bus.ErrNoStream)
	require.ErrorContains(t, err, "dbrunner.jobs.demo.statement")
	_, _, err = bus.PublishJob(ctx, b.Conn, "unknown", "query", "", nil, nil)
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, _, err = bus.PublishJob(ctx, b.Conn, "a.b", "query", "", nil, nil)
	require.ErrorIs(t, err, bus.ErrSubject)
	_, _, err = bus.PublishJob(ctx, b.Conn, database, "query", "", nil, make([]byte, b.Conn.MaxPayload()-1000))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	_, _, err = bus.PublishJob(ctx, b.Conn, database, "query", "", nil, make([]byte, b.Conn.MaxPayload()+1))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	_, _, err = bus.PublishJob(ctx, b.Conn, database, "query", "", nil, []byte("2"))
	require.NoError(t, err)
	_, _, err = bus.PublishJob(ctx, b.Conn, database, "query", "", nil, []byte("3"))
	require.ErrorIs(t, err, bus.ErrStreamFull)
}

func TestOldest(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	before := time.Now().Add(-time.Second)
	at, found, err := bus.OldestJob(t.Context(), b.Conn, database)
	require.NoError(t, err)
	require.False(t, found)
	require.WithinRange(t, at, before, time.Now().Add(time.Second))
	b.Publish(t, "query", 3)
	r := bustest.Run(t, b.Conn, "work", 3)
	first, second := r.Next(t), r.Next(t)
	at, found, err = bus.OldestJob(t.Context(), b.Conn, database)
	require.NoError(t, err)
	require.True(t, found)
	require.True(t, at.Equal(first.Timestamp()), "held messages are still in the stream")
	require.NoError(t, first.AckConfirmed(t.Context()))
	at, _, err = bus.OldestJob(t.Context(), b.Conn, database)
	require.NoError(t, err)
	require.True(t, at.Equal(second.Timestamp()))
	_, _, err = bus.OldestJob(t.Context(), b.Conn, "unknown")
	require.ErrorIs(t, err, bus.ErrNotFound)
}

func TestReplies(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	inbox := b.Plain.NewInbox()
	sub, err := b.Plain.SubscribeSync(inbox)
	require.NoError(t, err)
	require.NoError(t, b.Plain.Flush())
	require.NoError(t, b.Conn.Reply(inbox, []byte("answer")))
	m, err := sub.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "answer", string(m.Data))
	require.ErrorIs(t, b.Conn.Reply("dbrunner.jobs.demo.query", nil), bus.ErrSubject)
	require.ErrorIs(t, b.Conn.Reply("$JS.API.STREAM.DELETE.DBRUNNER_JOBS_demo", nil), bus.ErrSubject)
}
