package topology_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// withOther is the topology with one more database, which a second runner serves.
func withOther() topology.Topology {
	two := bustest.Topology()
	two.Databases = append(two.Databases, topology.Database{
		Name: "other_db", Lanes: []topology.Lane{{Name: "work", Kinds: []string{"query"}}},
	})
	return two
}

func byResource(t *testing.T, changes []topology.Change, resource string) topology.Change {
	t.Helper()
	for _, c := range changes {
		if c.Resource == resource {
			return c
		}
	}
	require.FailNow(t, "no such change", "%s in %+v", resource, changes)
	return topology.Change{}
}

// TestPruneKeepsWhatIsInUse with another runner's configuration: each use by itself is a reason.
func TestPruneKeepsWhatIsInUse(t *testing.T) {
	t.Parallel()
	jobs, results := "stream DBRUNNER_JOBS_other_db", "stream DBRUNNER_RESULTS_other_db"
	for name, c := range map[string]struct {
		use  func(*testing.T, *bustest.Bundle)
		kept map[string]string // by resource
	}{
		"a waiting request": {
			use: func(t *testing.T, b *bustest.Bundle) {
				o, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_other_db", "work")
				require.NoError(t, err)
				batch, err := o.Fetch(1, jetstream.FetchMaxWait(time.Minute))
				require.NoError(t, err)
				t.Cleanup(func() { // the request ends with its consumer, before the connection does
					for range batch.Messages() {
						assert.Fail(t, "a message of an empty queue")
					}
				})
				require.Eventually(t, func() bool {
					info, err := o.Info(t.Context())
					return err == nil && info.NumWaiting == 1
				}, 10*time.Second, time.Millisecond)
			},
			kept: map[string]string{jobs: "1 requests wait for its messages"},
		},
		"a held message": {
			use: func(t *testing.T, b *bustest.Bundle) {
				_, err := b.JS.Publish(t.Context(), "dbrunner.jobs.other_db.query", nil)
				require.NoError(t, err)
				o, err := b.JS.Consumer(t.Context(), "DBRUNNER_JOBS_other_db", "work")
				require.NoError(t, err)
				_, err = o.Next()
				require.NoError(t, err)
			},
			kept: map[string]string{jobs: "it holds 1 messages, runners hold 1 of its messages"},
		},
		"a result": {
			use: func(t *testing.T, b *bustest.Bundle) {
				_, err := b.JS.Publish(t.Context(), "dbrunner.store.other_db.a", []byte("{}"))
				require.NoError(t, err)
			},
			kept: map[string]string{results: "it holds 1 messages"},
		},
		"a heartbeat": {
			use: func(t *testing.T, b *bustest.Bundle) {
				beat(t, b, "r2", "running", "other_db")
				beat(t, b, "r3", "running", "demo")
			},
			kept: map[string]string{jobs: "served by runner r2", results: "served by runner r2"},
		},
		"a runner that has stopped": {use: func(t *testing.T, b *bustest.Bundle) { beat(t, b, "r2", "stopped", "other_db") }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := bustest.SetupOn(t, bustest.Server(t), withOther())
			c.use(t, b)
			planned, err := topology.PlanPrune(t.Context(), b.Conn, bustest.Topology(), false)
			require.NoError(t, err)
			require.NoError(t, topology.Manage(t.Context(), b.Conn, withOther()), "nothing was removed")
			changes, err := topology.Prune(t.Context(), b.Conn, bustest.Topology(), false)
			require.NoError(t, err)
			for _, resource := range []string{jobs, results} {
				done, plan := byResource(t, changes, resource), byResource(t, planned, resource)
				if why, kept := c.kept[resource]; kept {
					require.False(t, done.Done)
					require.Contains(t, done.What, "kept: "+why)
					require.Equal(t, done, plan)
					continue
				}
				require.Equal(t, "removed", done.What)
				require.Contains(t, plan.What, "would be removed: no messages")
			}
			planned, err = topology.PlanPrune(t.Context(), b.Conn, bustest.Topology(), true)
			require.NoError(t, err)
			changes, err = topology.Prune(t.Context(), b.Conn, bustest.Topology(), true)
			require.NoError(t, err)
			require.Len(t, changes, len(c.kept))
			for resource, why := range c.kept {
				require.Equal(t, "removed", byResource(t, changes, resource).What)
				require.Equal(t, "would be removed: "+why, byResource(t, planned, resource).What)
			}
		})
	}
}

func beat(t *testing.T, b *bustest.Bundle, instance, state, name string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"instance": instance, "state": state, "databases": []any{map[string]any{"name": name}}})
	require.NoError(t, err)
	_, err = b.JS.Publish(t.Context(), "dbrunner.health.runner."+instance, body)
	require.NoError(t, err)
}

// TestPruneNeverStrandsJobs: a consumer whose jobs wait stays, also by force; no consumer would deliver them.
func TestPruneNeverStrandsJobs(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	fewer := bustest.Topology()
	fewer.Databases[0].Lanes = fewer.Databases[0].Lanes[:2] // without the lane of kind health
	_, err := b.JS.Publish(t.Context(), "dbrunner.jobs.demo.health", nil)
	require.NoError(t, err)
	for _, force := range []bool{false, true} {
		for _, do := range []func() ([]topology.Change, error){
			func() ([]topology.Change, error) { return topology.PlanPrune(t.Context(), b.Conn, fewer, force) },
			func() ([]topology.Change, error) { return topology.Prune(t.Context(), b.Conn, fewer, force) },
		} {
			changes, err := do()
			require.NoError(t, err)
			require.Len(t, changes, 1)
			require.False(t, changes[0].Done)
			require.Contains(t, changes[0].What, "kept: 1 jobs wait for it, which no other consumer would deliver")
		}
	}
	s, err := b.JS.Stream(t.Context(), "DBRUNNER_JOBS_demo")
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	_, err = topology.Apply(t.Context(), b.Conn, fewer, topology.ApplyOptions{}) // the stream takes none any more
	require.NoError(t, err)
	changes, err := topology.Prune(t.Context(), b.Conn, fewer, false)
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "consumer DBRUNNER_JOBS_demo/health", What: "removed", Done: true}}, changes)
}

// TestPlanApplyChangesNothing and names what Apply does.
func TestPlanApplyChangesNothing(t *testing.T) {
	t.Parallel()
	conn, _ := bustest.Connect(t, bustest.Server(t).ClientURL())
	planned, err := topology.Apply(t.Context(), conn, bustest.Topology(), topology.ApplyOptions{Plan: true})
	require.NoError(t, err)
	require.Len(t, planned, 13)
	for _, c := range planned {
		require.Equal(t, "would be created", c.What)
	}
	require.ErrorContains(t, topology.Verify(t.Context(), conn, bustest.Topology()), "stream DBRUNNER_JOBS_demo is missing")
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	top := bustest.Topology()
	top.AckWait, top.Dead.MaxBytes = 5*time.Second, 1<<20
	planned, err = topology.Apply(t.Context(), conn, top, topology.ApplyOptions{Plan: true})
	require.NoError(t, err)
	require.Equal(t, "would be changed max_bytes from 1073741824 to 1048576", byResource(t, planned, "stream DBRUNNER_DEAD").What)
	require.Equal(t, "would be changed ack_wait from 10s to 5s", byResource(t, planned, "consumer DBRUNNER_JOBS_demo/work").What)
	require.NoError(t, topology.Verify(t.Context(), conn, bustest.Topology()))
	changes, err := topology.Apply(t.Context(), conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.Len(t, changes, len(planned))
	for _, c := range changes {
		require.Equal(t, "would be "+c.What, byResource(t, planned, c.Resource).What)
	}
}

// TestARefusedInboxIsNamed immediately, with the fix.
func TestARefusedInboxIsNamed(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(&server.User{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{">"}}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.own.>"}},
	}}))
	as := func(prefix string) func(*bus.Options) {
		return func(o *bus.Options) { o.User, o.Password, o.InboxPrefix = "u", "p", prefix }
	}
	conn, _ := bustest.Connect(t, node.ClientURL(), as("_INBOX.Another"))
	err := conn.CheckInbox(t.Context())
	var refused *bus.ConnectError
	require.ErrorAs(t, err, &refused)
	require.Contains(t, refused.Reason, "refuses to subscribe _INBOX.Another.>")
	require.True(t, strings.Contains(refused.Remedy, "--inbox-prefix") && strings.Contains(refused.Remedy, "nats.inbox_prefix"))
	conn, _ = bustest.Connect(t, node.ClientURL(), as("_INBOX.own"))
	require.NoError(t, conn.CheckInbox(t.Context()))
}
