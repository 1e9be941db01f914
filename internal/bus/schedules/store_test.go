package schedules_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/bus/topology"
)

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

// Promise: runners that write the state of a schedule at the same moment, on a cluster too, learn that it has changed, and nothing else.
func TestStatesWrittenAtTheSameMoment(t *testing.T) {
	t.Parallel()
	c := bustest.Cluster(t, 3)
	conn, _ := bustest.Connect(t, c.URL())
	top := bustest.Topology()
	top.Replicas = 3
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	const key, writers, each = "jobs.demo.query.nightly", 4, 25
	var all sync.WaitGroup
	for range writers {
		other, _ := bustest.Connect(t, c.URL())
		store := schedules.New(other)
		all.Go(func() {
			for done := 0; done < each; {
				var last uint64
				entry, err := store.ReadState(t.Context(), key)
				if err == nil && entry != nil {
					last = entry.Sequence
				}
				if err == nil {
					_, err = store.PutState(t.Context(), key, []byte(time.Now().String()), last)
				}
				switch {
				case err == nil:
					done++
				case !errors.Is(err, schedules.ErrChanged):
					t.Errorf("an error that is no change: %s", err)
					return
				}
			}
		})
	}
	all.Wait()
}
