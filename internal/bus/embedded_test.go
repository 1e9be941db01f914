package bus_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
)

func TestEmbeddedServer(t *testing.T) {
	t.Parallel()
	_, err := bus.StartEmbedded(bus.EmbeddedOptions{})
	require.Error(t, err)
	dir := t.TempDir()
	e, err := bus.StartEmbedded(bus.EmbeddedOptions{Dir: dir})
	require.NoError(t, err)
	conn, _ := bustest.Connect(t, e.URL())
	require.NoError(t, bus.Manage(t.Context(), conn, bustest.Topology()))
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, e.Close(t.Context()))
	_, err = nats.Connect(e.URL())
	require.Error(t, err)
}
