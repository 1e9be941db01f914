package topology_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// manageTogether lets many runners meet on a server without streams, several times over: each round is a namespace.
func manageTogether(t *testing.T, url string, replicas, rounds int) {
	t.Helper()
	const runners = 12
	for round := range rounds {
		namespace := fmt.Sprintf("round%d", round)
		top := bustest.Topology()
		top.Replicas = replicas
		conns := make([]*bus.Conn, runners)
		for i := range conns {
			conns[i], _ = bustest.Connect(t, url, func(o *bus.Options) {
				o.Namespace, o.Instance = namespace, fmt.Sprintf("runner%d", i)
			})
		}
		var all sync.WaitGroup
		ready := make(chan struct{})
		for _, conn := range conns {
			all.Go(func() {
				<-ready
				assert.NoError(t, topology.Manage(t.Context(), conn, top))
			})
		}
		close(ready)
		all.Wait()
		require.NoError(t, topology.Verify(t.Context(), conns[0], top))
		require.False(t, t.Failed(), "round %d", round)
	}
}

// Runners that start together on an empty server all find their streams and consumers.
func TestManyRunnersManageConcurrently(t *testing.T) {
	t.Parallel()
	manageTogether(t, bustest.Server(t).ClientURL(), 1, 8)
}

// In a cluster, a server does not know immediately what another one created.
func TestManyRunnersManageConcurrentlyOnACluster(t *testing.T) {
	t.Parallel()
	manageTogether(t, bustest.Cluster(t, 3).URL(), 3, 4)
}
