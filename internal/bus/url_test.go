package bus_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

// A URL with invisible characters is refused before dialing, and without its secret.
func TestURLsThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		`"nats://u:geheim@127.0.0.1:1"`, "'nats://u:geheim@127.0.0.1:1'", "nats://u:geheim@127.0.0.1:1\r", "\uFEFFnats://u:geheim@127.0.0.1:1",
		"nats://u:geheim@127.0.0.1:1\u00A0", "nats://u:geheim@127.0.0.1:1\u200B", "nats://u:geheim@127.0.0.1:1\n", "nats://a,nats://u:ge heim@b",
	} {
		_, err := bus.Connect(t.Context(), bus.Options{URL: url})
		require.ErrorContains(t, err, "belongs in none", "%q", url)
		require.NotContains(t, err.Error(), "geheim")
	}
	node := bustest.Server(t)
	conn, err := bus.Connect(t.Context(), bus.Options{URL: node.ClientURL() + ", " + node.ClientURL()})
	require.NoError(t, err, "a blank behind a comma is no part of a URL")
	require.NoError(t, conn.Close(context.WithoutCancel(t.Context())))
}
