package bus_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// TestOnlyTheRunnersOwnSubjectsCountAsDenied: answers that their requesters want where the runner may not publish are
// counted apart, however many there are, and hide nothing.
func TestOnlyTheRunnersOwnSubjectsCountAsDenied(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(&server.User{Username: "u", Password: "p", Permissions: &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{"$JS.API.>", "dbrunner.health.>", "_INBOX.>"}},
	}}))
	conn, logs := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "u", "p" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	for i := range 40 {
		for _, subject := range []string{"elsewhere.%d", "_R_.x%d", "Inbox.x%d", "dbrunner.replies.demo.x%d"} {
			require.NoError(t, conn.PublishPlain(fmt.Sprintf(subject, i)))
		}
	}
	require.Eventually(t, func() bool { return conn.State().DeniedReplies == 160 }, 10*time.Second, time.Millisecond)
	require.Empty(t, conn.State().Denied)
	require.True(t, conn.State().Healthy())
	require.Empty(t, logs.FilterMessageSnippet("permissions are too narrow").All())
	require.NotEmpty(t, logs.FilterMessageSnippet("NATS refused the subject of a reply").All())

	for i := range 40 { // one of each kind of subject: many ids are one refusal
		for _, publish := range []func() error{
			func() error { return conn.PublishPlain(fmt.Sprintf("dbrunner.store.demo.x%d", i)) },
			func() error { return conn.PublishPlain(fmt.Sprintf("dbrunner.dead.demo.query.x%d", i)) },
			func() error { return conn.PublishPlain(fmt.Sprintf("$JS.ACK.DBRUNNER_JOBS_demo.work.1.%d.1.1.0", i)) },
			func() error { return conn.PublishPlain(fmt.Sprintf("$KV.DBRUNNER_CONTROL.demo.x%d", i)) },
			func() error { return conn.PublishPlain("dbrunner.jobs.demo.query") },
		} {
			require.NoError(t, publish())
		}
	}
	require.Eventually(t, func() bool { return len(conn.State().Denied) == 5 }, 10*time.Second, time.Millisecond, "%v", conn.State().Denied)
	require.NoError(t, conn.PublishPlain("dbrunner.jobs.demo.transaction"))
	require.Eventually(t, func() bool { return len(conn.State().Denied) == 6 }, 10*time.Second, time.Millisecond)
	require.False(t, conn.State().Healthy())
}
