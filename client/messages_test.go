package client_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
)

func newClient(t *testing.T, nc *nats.Conn) *client.Client {
	t.Helper()
	c, err := client.New(nc, client.Options{})
	require.NoError(t, err)
	return c
}

// TestMessagesReadsWhatIsStored in batches, whatever headers the messages have.
func TestMessagesReadsWhatIsStored(t *testing.T) {
	t.Parallel()
	nc, js := bustest.Plain(t, bustest.Server(t).ClientURL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}, AllowDirect: true})
	require.NoError(t, err)
	c := newClient(t, nc)
	read := func(request client.MessagesRequest) (got []uint64, err error) {
		request.Stream, request.Subject = "S", "s.>"
		err = client.Messages(t.Context(), c, request, func(m *client.Message) error {
			require.Equal(t, fmt.Sprint("s.", m.Sequence%7), m.Subject)
			require.WithinDuration(t, time.Now(), m.Time, time.Minute)
			got = append(got, m.Sequence)
			return nil
		})
		return got, err
	}
	none, err := read(client.MessagesRequest{})
	require.NoError(t, err)
	require.Empty(t, none)
	const count = 1203
	for i := 1; i <= count; i++ {
		_, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: fmt.Sprint("s.", i%7), Data: make([]byte, i%3), Header: nats.Header{ // what could pass for an answer
			"Status": {"503"}, "Nats-Sequence": {"1"}, "Nats-Subject": {"forged"}, "Nats-Time-Stamp": {"x"}, "Nats-Num-Pending": {"0"},
		}})
		require.NoError(t, err)
	}
	all, err := read(client.MessagesRequest{})
	require.NoError(t, err)
	require.Len(t, all, count)
	part, err := read(client.MessagesRequest{From: 700, To: 1201})
	require.NoError(t, err)
	require.Len(t, part, 502)
	few, err := read(client.MessagesRequest{From: 10, MaxBytes: 5})
	require.NoError(t, err)
	require.Equal(t, []uint64{10, 11, 12, 13, 14}, few)
	later, err := read(client.MessagesRequest{Since: time.Now().Add(time.Hour)})
	require.NoError(t, err)
	require.Empty(t, later)
	enough := errors.New("enough")
	require.ErrorIs(t, client.Messages(t.Context(), c, client.MessagesRequest{Stream: "S", Subject: "s.>"}, func(*client.Message) error { return enough }), enough)
	err = client.Messages(t.Context(), c, client.MessagesRequest{Stream: "NONE", Subject: "s.>"}, nil)
	require.ErrorIs(t, err, client.ErrStreamMissing)
}

// TestAuditIsDecidedByTheServer: the permission of the subject counts, and a missing stream is certain.
func TestAuditIsDecidedByTheServer(t *testing.T) {
	t.Parallel()
	allow := func(subjects ...string) *natsserver.Permissions {
		return &natsserver.Permissions{Publish: &natsserver.SubjectPermission{Allow: subjects}, Subscribe: &natsserver.SubjectPermission{Allow: []string{"_INBOX.>"}}}
	}
	node := bustest.Server(t, bustest.Users(
		&natsserver.User{Username: "admin", Password: "x"},
		&natsserver.User{Username: "pauses", Password: "x", Permissions: allow("dbrunner.audit.database.shop.pause")},
		&natsserver.User{Username: "asks", Password: "x", Permissions: allow("dbrunner.audit.database.shop.pause", "$JS.API.STREAM.INFO.DBRUNNER_AUDIT")}))
	as := func(user string) *client.Client {
		nc, _ := bustest.Plain(t, node.ClientURL(), nats.UserInfo(user, "x"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
		return newClient(t, nc)
	}
	entry := func(action string) *contract.AuditEntry {
		return &contract.AuditEntry{By: "ada", Tool: "test", Action: action, Database: "shop"}
	}
	require.ErrorIs(t, client.WriteAudit(t.Context(), as("asks"), entry(contract.AuditPause)), client.ErrNoAudit)
	started := time.Now()
	unclear := client.WriteAudit(t.Context(), as("pauses"), entry(contract.AuditPause))
	require.Less(t, time.Since(started), 4*time.Second, "the time limit of an entry is 5 s")
	require.ErrorContains(t, unclear, "it is not known whether there is one")
	require.NotErrorIs(t, unclear, client.ErrNoAudit, "the stream may have no leader")

	_, js := bustest.Plain(t, node.ClientURL(), nats.UserInfo("admin", "x"))
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DBRUNNER_AUDIT", Subjects: []string{"dbrunner.audit.>"}, AllowDirect: true})
	require.NoError(t, err)
	pauses := as("pauses")
	started = time.Now()
	denied := client.WriteAudit(t.Context(), pauses, entry(contract.AuditResume))
	require.Less(t, time.Since(started), 4*time.Second, "the time limit of an entry is 5 s")
	require.ErrorIs(t, denied, client.ErrDenied)
	require.ErrorContains(t, denied, "publish to dbrunner.audit.database.shop.resume: ")
	require.NoError(t, client.WriteAudit(t.Context(), pauses, entry(contract.AuditPause)), "the same connection, after a denied one")
	_, err = client.AuditEntries(t.Context(), pauses, client.AuditFilter{})
	require.ErrorIs(t, err, client.ErrDenied)

	_, err = js.Publish(t.Context(), "dbrunner.audit.database.shop.resume", []byte(`{"by":"eve","database":"other","action":"cancel"}`))
	require.NoError(t, err)
	_, err = js.Publish(t.Context(), "dbrunner.audit.fleet.topology", []byte(`nonsense`))
	require.NoError(t, err)
	found, err := client.AuditEntries(t.Context(), as("admin"), client.AuditFilter{})
	require.NoError(t, err)
	require.Len(t, found, 3)
	require.Equal(t, "shop resume", found[1].Database+" "+found[1].Action, "of the subject, not of the body")
	require.Equal(t, contract.AuditTopology, found[2].Action)
}
