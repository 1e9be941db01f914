package embedded_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/embedded"
	"dbrunner/internal/bus/topology"
)

func TestEmbeddedServer(t *testing.T) {
	t.Parallel()
	_, err := embedded.Start(embedded.Options{})
	require.Error(t, err)
	dir := t.TempDir()
	e, err := embedded.Start(embedded.Options{Dir: dir})
	require.NoError(t, err)
	conn, _ := bustest.Connect(t, e.URL())
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	require.NoError(t, conn.Close(t.Context()))
	require.NoError(t, e.Close(t.Context()))
	_, err = nats.Connect(e.URL())
	require.Error(t, err)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, bustest.IgnorePublisher()) }
