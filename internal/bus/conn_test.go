package bus_test

import (
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
)

func TestConnectErrorsNameCauseAndFix(t *testing.T) {
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
		"password":    {bus.Options{URL: node.ClientURL(), User: "u", Password: "canary"}, "refused the credentials"},
		"no password": {bus.Options{URL: node.ClientURL()}, "refused the credentials"},
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
	require.ErrorContains(t, err, "exclude each other")
	require.ErrorContains(t, err, `instance "a b"`)
}

func TestOurOwnInboxPrefix(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	subs, err := b.Node.Server().Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1000})
	require.NoError(t, err)
	ours := 0
	for _, s := range subs.Subs {
		if strings.HasPrefix(s.Subject, "_INBOX_dbrunner_tester.") {
			ours++
		}
	}
	require.Positive(t, ours)
}

func TestReconnectsIndefinitely(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	conn, logs := bustest.Connect(t, node.ClientURL())
	node.Stop()
	require.Eventually(t, func() bool { return !conn.State().Connected }, 5*time.Second, time.Millisecond)
	require.False(t, conn.State().Healthy())
	node.Start()
	require.Eventually(t, func() bool { return conn.State().Connected }, 10*time.Second, time.Millisecond)
	require.Equal(t, uint64(1), conn.State().Reconnects)
	require.Len(t, logs.FilterMessageSnippet("reconnecting").All(), 1)
	require.Len(t, logs.FilterMessageSnippet("reconnected").All(), 1)
}

func TestReconnectsWhileTheServerRefusesUs(t *testing.T) {
	t.Parallel()
	password := "one"
	node := bustest.Server(t, func(o *server.Options) {
		o.Users = []*server.User{{Username: "u", Password: password}}
	})
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "u", "one" })
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
	b := bustest.Setup(t)
	sub, err := b.Plain.SubscribeSync("answers.x")
	require.NoError(t, err)
	require.NoError(t, b.Plain.Flush())
	require.NoError(t, b.Conn.Reply("answers.x", []byte("last words")))
	require.NoError(t, b.Conn.Close(t.Context()))
	m, err := sub.NextMsg(5 * time.Second)
	require.NoError(t, err)
	require.Equal(t, "last words", string(m.Data))
	require.True(t, b.Conn.State().Closed)
	require.Error(t, b.Conn.Reply("answers.x", nil))
	_, err = results.Of(b.Conn, database).Store(t.Context(), "x", nil)
	require.ErrorIs(t, err, bus.ErrClosed)
}
