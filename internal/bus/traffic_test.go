package bus_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

func TestPublishJob(t *testing.T) {
	t.Parallel()
	top := topology()
	top.Jobs.MaxMsgsPerKind = 2
	b := setupTopology(t, top)
	ctx := t.Context()
	sequence, duplicate, err := b.conn.PublishJob(ctx, database, "query", "a1", map[string][]string{"X": {"y"}}, []byte("1"))
	require.NoError(t, err)
	require.Equal(t, uint64(1), sequence)
	require.False(t, duplicate)
	sequence, duplicate, err = b.conn.PublishJob(ctx, database, "query", "a1", nil, []byte("2"))
	require.NoError(t, err)
	require.Equal(t, uint64(1), sequence)
	require.True(t, duplicate)
	_, _, err = b.conn.PublishJob(ctx, database, "statement", "a2", nil, nil)
	require.ErrorIs(t, err, bus.ErrNoStream)
	require.ErrorContains(t, err, "dbrunner.jobs.demo.statement")
	_, _, err = b.conn.PublishJob(ctx, "nobody", "query", "", nil, nil)
	require.ErrorIs(t, err, bus.ErrNoStream)
	_, _, err = b.conn.PublishJob(ctx, "a.b", "query", "", nil, nil)
	require.ErrorIs(t, err, bus.ErrSubject)
	_, _, err = b.conn.PublishJob(ctx, database, "query", "", nil, make([]byte, b.conn.MaxPayload()-1000))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	_, _, err = b.conn.PublishJob(ctx, database, "query", "", nil, make([]byte, b.conn.MaxPayload()+1))
	require.ErrorIs(t, err, bus.ErrTooLarge)
	_, _, err = b.conn.PublishJob(ctx, database, "query", "", nil, []byte("2"))
	require.NoError(t, err)
	_, _, err = b.conn.PublishJob(ctx, database, "query", "", nil, []byte("3"))
	require.ErrorIs(t, err, bus.ErrStreamFull)
}

func TestOldest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	before := time.Now().Add(-time.Second)
	at, found, err := b.conn.Oldest(t.Context(), database)
	require.NoError(t, err)
	require.False(t, found)
	require.WithinRange(t, at, before, time.Now().Add(time.Second))
	b.publish(t, "query", 3)
	r := b.run(t, "work", 3)
	first, second := r.next(t), r.next(t)
	at, found, err = b.conn.Oldest(t.Context(), database)
	require.NoError(t, err)
	require.True(t, found)
	require.True(t, at.Equal(first.Timestamp()), "held messages are still in the stream")
	require.NoError(t, first.AckConfirmed(t.Context()))
	at, _, err = b.conn.Oldest(t.Context(), database)
	require.NoError(t, err)
	require.True(t, at.Equal(second.Timestamp()))
	_, _, err = b.conn.Oldest(t.Context(), "nobody")
	require.ErrorIs(t, err, bus.ErrNotFound)
}

func TestReplies(t *testing.T) {
	t.Parallel()
	b := setup(t)
	inbox := b.plain.NewInbox()
	sub, err := b.plain.SubscribeSync(inbox)
	require.NoError(t, err)
	require.NoError(t, b.plain.Flush())
	require.NoError(t, b.conn.Reply(inbox, []byte("answer")))
	m, err := sub.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "answer", string(m.Data))
	require.ErrorIs(t, b.conn.Reply("dbrunner.jobs.demo.query", nil), bus.ErrSubject)
	require.ErrorIs(t, b.conn.Reply("$JS.API.STREAM.DELETE.DBRUNNER_JOBS_demo", nil), bus.ErrSubject)
}

func TestLetters(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ctx := t.Context()
	long := strings.Repeat("ä", 20_000)
	headers := map[string][]string{
		"Dbrunner-Reason": {"rejected"}, "Dbrunner-Faults": {long}, "Traceparent": {"00-x"},
		"Nats-Msg-Id": {"a1"}, "Nats-Rollup": {"all"}, "nats-expected-last-subject-sequence": {"77"}, "Status": {"409"}, "bad name": {"x"},
	}
	require.NoError(t, b.conn.PublishDeadLetter(ctx, database, "query", "s1_abc", headers, []byte("{bad")))
	require.NoError(t, b.conn.PublishDeadLetter(ctx, database, "query", "s1_abc", headers, []byte("{bad")), "again is the same")
	require.NoError(t, b.conn.PublishDeadLetter(ctx, database, "migration", "s2_abc", nil, nil))
	require.NoError(t, b.conn.PublishDeadLetter(ctx, "other", "query", "s3_abc", nil, []byte("o")))

	letter, err := b.conn.DeadLetter(ctx, database, "query", "s1_abc")
	require.NoError(t, err)
	require.Equal(t, "{bad", string(letter.Body))
	require.Equal(t, []string{"rejected"}, letter.Headers["Dbrunner-Reason"])
	require.Equal(t, []string{"00-x"}, letter.Headers["Traceparent"])
	require.Equal(t, []string{"a1"}, letter.Headers["Dbrunner-Header-Nats-Msg-Id"])
	require.Equal(t, []string{"409"}, letter.Headers["Dbrunner-Header-Status"])
	require.Equal(t, []string{"1"}, letter.Headers["Dbrunner-Headers-Dropped"])
	cut := letter.Headers["Dbrunner-Faults"][0]
	require.LessOrEqual(t, len(cut), 16<<10)
	require.True(t, strings.HasSuffix(cut, "ä [cut]"), cut[len(cut)-20:])
	require.NotContains(t, letter.Headers, "Nats-Msg-Id")

	list := func(database, kind string) (ids []string) {
		require.NoError(t, b.conn.DeadLetters(ctx, database, kind, func(l bus.DeadLetter) bool {
			ids = append(ids, l.DerivedID)
			return true
		}))
		return ids
	}
	require.Equal(t, []string{"s1_abc", "s2_abc", "s3_abc"}, list("", ""))
	require.Equal(t, []string{"s1_abc", "s2_abc"}, list(database, ""))
	require.Equal(t, []string{"s1_abc", "s3_abc"}, list("", "query"))

	state, err := b.conn.DeadState(ctx)
	require.NoError(t, err)
	require.Equal(t, uint64(3), state.DeadLetters)
	require.NoError(t, b.conn.DeleteDeadLetter(ctx, letter))
	require.NoError(t, b.conn.DeleteDeadLetter(ctx, letter), "gone is gone")
	_, err = b.conn.DeadLetter(ctx, database, "query", "s1_abc")
	require.ErrorIs(t, err, bus.ErrNotFound)
	require.ErrorIs(t, b.conn.PublishDeadLetter(ctx, database, "query", "a.b", nil, nil), bus.ErrSubject)
}

func TestTheLargestJobFitsIntoALetter(t *testing.T) {
	t.Parallel()
	b := setup(t)
	body := make([]byte, b.conn.MaxPayload()-64<<10)
	headers := map[string][]string{}
	for i := range 20 {
		headers[fmt.Sprintf("Dbrunner-Own-%d", i)] = []string{strings.Repeat("x", 30_000)}
		headers[fmt.Sprintf("A-Original-%d", i)] = []string{strings.Repeat("y", 5_000)}
	}
	require.NoError(t, b.conn.PublishDeadLetter(t.Context(), database, "query", "s1_big", headers, body))
	letter, err := b.conn.DeadLetter(t.Context(), database, "query", "s1_big")
	require.NoError(t, err)
	require.Len(t, letter.Body, len(body))
	require.NotEmpty(t, letter.Headers["Dbrunner-Headers-Dropped"])
	require.NotEmpty(t, letter.Headers["Dbrunner-Own-0"])
}

func TestEvictedLettersAreCounted(t *testing.T) {
	t.Parallel()
	top := topology()
	top.Dead.MaxBytes = 50 << 10
	b := setupTopology(t, top)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.conn.WatchDeadLetters(ctx, 5*time.Millisecond) }()
	n := 0
	require.Eventually(t, func() bool {
		n++
		if err := b.conn.PublishDeadLetter(ctx, database, "query", fmt.Sprintf("s%d_x", n), nil, make([]byte, 5000)); err != nil {
			return false
		}
		state, err := b.conn.DeadState(ctx)
		return err == nil && state.Evicted > 3 && state.Removed >= state.Evicted
	}, 10*time.Second, time.Millisecond)
	cancel()
	require.NoError(t, <-done)
	require.NotEmpty(t, b.logs.FilterMessageSnippet("oldest letters are being lost").All())
}

func TestConnectErrorsSayWhatAndHow(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(&server.User{Username: "u", Password: "right"}))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	closed := l.Addr().String()
	require.NoError(t, l.Close())
	for name, c := range map[string]struct {
		opts   bus.Options
		reason string
	}{
		"refused":     {bus.Options{URL: "nats://u:canary@" + closed}, "connection refused"},
		"name":        {bus.Options{URL: "nats://u:canary@no-such-host.invalid:4222"}, "cannot be resolved"},
		"password":    {bus.Options{URL: node.ClientURL(), User: "u", Password: "canary"}, "refused our credentials"},
		"no password": {bus.Options{URL: node.ClientURL()}, "refused our credentials"},
		"tls":         {bus.Options{URL: strings.Replace(node.ClientURL(), "nats:", "tls:", 1), User: "u", Password: "canary"}, "TLS"},
		"creds file":  {bus.Options{URL: node.ClientURL(), CredentialsFile: "/nowhere/x.creds"}, "a file cannot be read"},
		"bad url":     {bus.Options{URL: "nats://u:canary@%zz"}, "URL cannot be parsed"},
	} {
		_, err := bus.Connect(t.Context(), c.opts)
		require.Error(t, err, name)
		require.ErrorContains(t, err, c.reason, name)
		require.NotContains(t, err.Error(), "canary", name)
		var explained *bus.ConnectError
		require.ErrorAs(t, err, &explained, name)
		require.NotEmpty(t, explained.Remedy, name)
		for cause := error(explained); cause != nil; cause = errors.Unwrap(cause) {
			require.NotContains(t, cause.Error(), "canary", name)
		}
	}
	_, err = bus.Connect(t.Context(), bus.Options{User: "u", Token: "t", Instance: "a b"})
	require.ErrorContains(t, err, "more than one")
	require.ErrorContains(t, err, `instance "a b"`)
}

func TestOurOwnInboxPrefix(t *testing.T) {
	t.Parallel()
	b := setup(t)
	subs, err := b.node.Server().Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1000})
	require.NoError(t, err)
	ours := 0
	for _, s := range subs.Subs {
		if strings.HasPrefix(s.Subject, "_INBOX_dbrunner_tester.") {
			ours++
		}
	}
	require.Positive(t, ours)
}

func TestReconnectsForEver(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	conn, logs := connect(t, node.ClientURL())
	node.Stop()
	require.Eventually(t, func() bool { return !conn.State().Connected }, 5*time.Second, time.Millisecond)
	require.False(t, conn.State().Healthy())
	node.Start()
	require.Eventually(t, func() bool { return conn.State().Connected }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(1), conn.State().Reconnects)
	require.Len(t, logs.FilterMessageSnippet("reconnecting").All(), 1)
	require.Len(t, logs.FilterMessageSnippet("is back").All(), 1)
}

func TestReconnectsWhileTheServerRefusesUs(t *testing.T) {
	t.Parallel()
	password := "one"
	node := bustest.Server(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: password}}
	})
	conn, _ := connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "u", "one" })
	node.Stop()
	password = "two"
	node.Start()
	require.Eventually(t, func() bool { return strings.Contains(strings.ToLower(conn.State().LastError), "authorization") },
		10*time.Second, time.Millisecond)
	time.Sleep(500 * time.Millisecond) // by the clock: several refusals; the library's default would have given up
	node.Stop()
	password = "one"
	node.Start()
	require.Eventually(t, func() bool { return conn.State().Connected }, 10*time.Second, time.Millisecond)
}

func TestCloseFlushesAndEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	sub, err := b.plain.SubscribeSync("answers.x")
	require.NoError(t, err)
	require.NoError(t, b.plain.Flush())
	require.NoError(t, b.conn.Reply("answers.x", []byte("last words")))
	require.NoError(t, b.conn.Close(t.Context()))
	m, err := sub.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "last words", string(m.Data))
	require.True(t, b.conn.State().Closed)
	require.Error(t, b.conn.Reply("answers.x", nil))
	_, err = b.conn.Results(database).Store(t.Context(), "x", nil)
	require.ErrorIs(t, err, bus.ErrClosed)
}

func TestEmbeddedServer(t *testing.T) {
	t.Parallel()
	_, err := bus.StartEmbedded(bus.EmbeddedOptions{})
	require.Error(t, err)
	dir := t.TempDir()
	e, err := bus.StartEmbedded(bus.EmbeddedOptions{Dir: dir})
	require.NoError(t, err)
	conn, _ := connect(t, e.URL())
	require.NoError(t, conn.Manage(t.Context(), topology()))
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, e.Close(t.Context()))
	_, err = nats.Connect(e.URL())
	require.Error(t, err)
}
