package deadletters_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/deadletters"
)

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	ctx, reader := t.Context(), dbrunner(t, b)
	long := strings.Repeat("ä", 20_000)
	headers := map[string][]string{
		"Dbrunner-Reason": {"rejected"}, "Dbrunner-Faults": {long}, "Traceparent": {"00-x"},
		"Nats-Msg-Id": {"a1"}, "Nats-Rollup": {"all"}, "nats-expected-last-subject-sequence": {"77"}, "Status": {"409"}, "bad name": {"x"},
	}
	require.NoError(t, deadletters.Publish(ctx, b.Conn, database, "query", "s1_abc", headers, []byte("{bad")))
	require.NoError(t, deadletters.Publish(ctx, b.Conn, database, "query", "s1_abc", headers, []byte("{bad")), "again is the same")
	require.NoError(t, deadletters.Publish(ctx, b.Conn, database, "migration", "s2_abc", nil, nil))
	require.NoError(t, deadletters.Publish(ctx, b.Conn, "other", "query", "s3_abc", nil, []byte("o")))

	deadLetter, err := reader.DeadLetter(ctx, database, "query", "s1_abc")
	require.NoError(t, err)
	require.Equal(t, "{bad", string(deadLetter.Body))
	require.Equal(t, []string{"rejected"}, deadLetter.Headers["Dbrunner-Reason"])
	require.Equal(t, []string{"00-x"}, deadLetter.Headers["Traceparent"])
	require.Equal(t, []string{"a1"}, deadLetter.Headers["Dbrunner-Header-Nats-Msg-Id"])
	require.Equal(t, []string{"409"}, deadLetter.Headers["Dbrunner-Header-Status"])
	require.Equal(t, []string{"1"}, deadLetter.Headers["Dbrunner-Headers-Dropped"])
	cut := deadLetter.Headers["Dbrunner-Faults"][0]
	require.LessOrEqual(t, len(cut), 16<<10)
	require.True(t, strings.HasSuffix(cut, "ä [cut]"), cut[len(cut)-20:])
	require.NotContains(t, deadLetter.Headers, "Nats-Msg-Id")

	list := func(database, kind string) (ids []string) {
		require.NoError(t, reader.DeadLetters(ctx, client.DeadLetterFilter{Database: database, Kind: kind}, func(l *client.DeadLetter) error {
			ids = append(ids, l.Key)
			return nil
		}))
		return ids
	}
	require.Equal(t, []string{"s1_abc", "s2_abc", "s3_abc"}, list("", ""))
	require.Equal(t, []string{"s1_abc", "s2_abc"}, list(database, ""))
	require.Equal(t, []string{"s1_abc", "s3_abc"}, list("", "query"))

	state, err := deadletters.NewWatch(b.Conn).State(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(3), state.DeadLetters)
	require.NoError(t, reader.DeleteDeadLetter(ctx, deadLetter))
	require.NoError(t, reader.DeleteDeadLetter(ctx, deadLetter), "gone is gone")
	_, err = reader.DeadLetter(ctx, database, "query", "s1_abc")
	require.ErrorIs(t, err, client.ErrNoDeadLetter)
	require.ErrorIs(t, deadletters.Publish(ctx, b.Conn, database, "query", "a.b", nil, nil), bus.ErrSubject)
}

// dbrunner is the client that reads what the package stores.
func dbrunner(t *testing.T, b *bustest.Bundle) *client.Client {
	t.Helper()
	c, err := client.New(b.Conn.NATS(), client.Options{Namespace: b.Conn.Namespace()})
	require.NoError(t, err)
	return c
}

func TestTheLargestJobFitsIntoALetter(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	body := make([]byte, b.Conn.MaxPayload()-64<<10)
	headers := map[string][]string{}
	for i := range 20 {
		headers[fmt.Sprintf("Dbrunner-Own-%d", i)] = []string{strings.Repeat("x", 30_000)}
		headers[fmt.Sprintf("A-Original-%d", i)] = []string{strings.Repeat("y", 5_000)}
	}
	require.NoError(t, deadletters.Publish(t.Context(), b.Conn, database, "query", "s1_big", headers, body))
	deadLetter, err := dbrunner(t, b).DeadLetter(t.Context(), database, "query", "s1_big")
	require.NoError(t, err)
	require.Len(t, deadLetter.Body, len(body))
	require.NotEmpty(t, deadLetter.Headers["Dbrunner-Headers-Dropped"])
	require.NotEmpty(t, deadLetter.Headers["Dbrunner-Own-0"])
}

func TestEvictedDeadLettersAreCounted(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Dead.MaxBytes = 50 << 10
	b := bustest.SetupOn(t, bustest.Server(t), top)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	watch := deadletters.NewWatch(b.Conn)
	go func() { done <- watch.Run(ctx, 5*time.Millisecond) }()
	n := 0
	require.Eventually(t, func() bool {
		n++
		if err := deadletters.Publish(ctx, b.Conn, database, "query", fmt.Sprintf("s%d_x", n), nil, make([]byte, 5000)); err != nil {
			return false
		}
		state, err := watch.State(ctx)
		return err == nil && state.Evicted > 3 && state.Removed >= state.Evicted
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.NotEmpty(t, b.Logs.FilterMessageSnippet("evicting the oldest").All())
}

const database = bustest.Database

func TestMain(m *testing.M) { bustest.VerifyMain(m) }
