package topology_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
)

func rightsWanted() topology.RightsOptions {
	return topology.RightsOptions{Topology: bustest.Topology(), Create: true, Run: true, ReplyPrefixes: []string{"flows.answers."}}
}

// A try leaves nothing behind: no message, no purge, no answer to anybody, whatever the rights are.
func TestTryRightsHasNoEffect(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "query", 3)
	_, err := results.Of(b.Conn, database).Store(t.Context(), "kept", []byte("{}"))
	require.NoError(t, err)
	everything, err := b.Plain.SubscribeSync("dbrunner.>")
	require.NoError(t, err)
	require.NoError(t, b.Plain.Flush())

	rights, err := bus.ProbePermissions(t.Context(), bus.Options{URL: b.Node.ClientURL(), Instance: "tester"}, topology.RunnerPermissions(bus.Options{Instance: "tester"}, rightsWanted()))
	require.NoError(t, err)
	require.Greater(t, len(rights), 50)
	for _, r := range rights {
		require.Equal(t, bus.RightGranted, r.State, r.String())
	}
	require.NoError(t, b.Plain.Flush())
	heard, _, err := everything.Pending()
	require.NoError(t, err)
	require.Zero(t, heard)
	for stream, messages := range map[string]uint64{
		"DBRUNNER_JOBS_demo": 3, "DBRUNNER_RESULTS_demo": 1, "DBRUNNER_DEAD": 0, "DBRUNNER_HEALTH": 0, "KV_DBRUNNER_CONTROL": 0,
		"OBJ_DBRUNNER_ROWS": 0, "OBJ_DBRUNNER_PARAMS": 0,
	} {
		s, err := b.JS.Stream(t.Context(), stream)
		require.NoError(t, err)
		require.Equal(t, messages, s.CachedInfo().State.Msgs, stream)
	}
	differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Empty(t, differences)
}

// Each right is found to be missing by itself: one user, who lacks it and nothing else.
func TestTryRightsFindsEachThatIsMissing(t *testing.T) {
	t.Parallel()
	wanted := topology.RunnerPermissions(bus.Options{Instance: "tester"}, rightsWanted())
	users := make([]*server.User, len(wanted))
	for i, r := range wanted {
		deny := &server.SubjectPermission{Allow: []string{">"}, Deny: []string{r.Subject}}
		users[i] = &server.User{Username: r.String(), Password: "x", Permissions: &server.Permissions{}}
		if r.Subscribe {
			users[i].Permissions.Subscribe = deny
		} else {
			users[i].Permissions.Publish = deny
		}
	}
	node := bustest.Server(t, bustest.Users(users...))
	for i, user := range users {
		rights, err := bus.ProbePermissions(t.Context(), bus.Options{URL: node.ClientURL(), Instance: "tester", User: user.Username, Password: "x"}, wanted)
		require.NoError(t, err)
		require.Equal(t, bus.RightDenied, rights[i].State, user.Username)
		for j, r := range rights {
			if r.State != bus.RightGranted && (!wanted[i].Subscribe || !r.Subscribe) { // a wildcard may cover another one
				require.Equal(t, i, j, "%s is refused to who lacks %s", r, user.Username)
			}
		}
	}
}

func TestTryRightsCannotSignIn(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(&server.User{Username: "a", Password: "geheim"}))
	_, err := bus.ProbePermissions(t.Context(), bus.Options{URL: node.ClientURL(), User: "a", Password: "anders"}, nil)
	require.ErrorContains(t, err, "refused the credentials")
	require.NotContains(t, err.Error(), "anders")
}
