package app_test

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/config"
)

// twoAccounts are the accounts of docs/security.md: runners in one, clients in the other. A third one has nothing to do with them.
func twoAccounts(t *testing.T, replies bool) *bustest.Node {
	t.Helper()
	runners, clients, neighbors := server.NewAccount("RUNNERS"), server.NewAccount("CLIENTS"), server.NewAccount("NEIGHBORS")
	allow := []string{"$JS.>", "$KV.>", "$O.>", "dbrunner.>", "_INBOX.>"}
	if replies {
		allow = append(allow, "_R_.>")
	}
	node := bustest.Server(t, func(o *server.Options) {
		o.Accounts = []*server.Account{runners, clients, neighbors}
		o.Users = []*server.User{
			{Username: "runner", Password: "runner", Account: runners, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: allow}}},
			{Username: "client", Password: "client", Account: clients},
			{Username: "auditor", Password: "auditor", Account: runners},
			{Username: "neighbor", Password: "neighbor", Account: neighbors},
		}
	})
	from, to := account(t, node, "RUNNERS"), account(t, node, "CLIENTS")
	for _, a := range []*server.Account{from, account(t, node, "NEIGHBORS")} {
		require.NoError(t, a.EnableJetStream(map[string]server.JetStreamAccountLimits{"": unlimited()}, nil))
	}
	for _, subject := range exportedServices {
		require.NoError(t, from.AddServiceExport(subject, []*server.Account{to}))
		require.NoError(t, to.AddServiceImport(from, subject, ""))
	}
	for _, subject := range exportedStreams {
		require.NoError(t, from.AddStreamExport(subject, []*server.Account{to}))
		require.NoError(t, to.AddStreamImport(from, subject, ""))
	}
	return node
}

// What the runners' account exports to that of their clients.
var (
	exportedServices = []string{"dbrunner.jobs.shop.*", "dbrunner.api.run.shop.*"}
	exportedStreams  = []string{"dbrunner.results.shop.*", "dbrunner.replies.shop.>"}
)

func account(t *testing.T, node *bustest.Node, name string) *server.Account {
	t.Helper()
	a, err := node.Server().LookupAccount(name)
	require.NoError(t, err)
	return a
}

// TestClientOfAnotherAccount publishes jobs and runs them over imports: the runner answers requests below _R_.
func TestClientOfAnotherAccount(t *testing.T) {
	t.Parallel()
	for _, replies := range []bool{true, false} {
		w := &world{t: t, node: twoAccounts(t, replies)}
		cfg := w.signedIn("r1", "runner", withSQLite(t, "shop"))
		require.Empty(t, faults(t, findings(t, cfg)))
		r := w.start(cfg)
		nc, err := nats.Connect(w.node.ClientURL(), nats.UserInfo("client", "client"))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		results, err := nc.SubscribeSync("dbrunner.results.shop.*")
		require.NoError(t, err)
		own, err := nc.SubscribeSync("dbrunner.replies.shop.mine")
		require.NoError(t, err)
		require.NoError(t, nc.Flush())
		ack, err := nc.Request("dbrunner.jobs.shop.query", []byte(`{"id":"a","sql":"SELECT 1","reply_to":"dbrunner.replies.shop.mine"}`), testTimeout)
		require.NoError(t, err)
		require.Contains(t, string(ack.Data), `"stream":"DBRUNNER_JOBS_shop"`)
		for _, s := range []*nats.Subscription{results, own} {
			m, err := s.NextMsg(testTimeout)
			require.NoError(t, err)
			require.Equal(t, "succeeded", parse(t, m.Data).Status)
		}
		if replies {
			m, err := nc.Request("dbrunner.api.run.shop.query", []byte(`{"sql":"SELECT 1"}`), testTimeout)
			require.NoError(t, err)
			require.Equal(t, "succeeded", parse(t, m.Data).Status)
			w.content(r)
		} else {
			_, err = nc.Request("dbrunner.api.run.shop.query", []byte(`{"sql":"SELECT 1"}`), time.Second)
			require.ErrorIs(t, err, nats.ErrTimeout)
			require.Eventually(t, func() bool { return r.logs.FilterMessageSnippet("NATS refused the subject of a reply").Len() > 0 }, testTimeout, 10*time.Millisecond)
		}
		r.end(t)
	}
}

// TestLeafNodeWithADomain reaches the hub's JetStream over a leaf node, with the permissions of a domain and without
// each of them: check reports what serve does.
func TestLeafNodeWithADomain(t *testing.T) {
	t.Parallel()
	hub := bustest.Server(t, func(o *server.Options) {
		o.JetStreamDomain = "hub"
		o.LeafNode = server.LeafNodeOpts{Host: "127.0.0.1", Port: -1}
	})
	varz, err := hub.Server().Varz(nil)
	require.NoError(t, err)
	remote, err := url.Parse(fmt.Sprintf("nats-leaf://127.0.0.1:%d", varz.LeafNode.Port))
	require.NoError(t, err)
	user := func(name, deny string) *server.User {
		return &server.User{Username: name, Password: name, Permissions: &server.Permissions{Publish: &server.SubjectPermission{Allow: []string{">"}, Deny: []string{deny}}}}
	}
	leaf := bustest.Server(t, bustest.Users(user("runner", "nothing"), user("plain", "$JS.API.>"), user("domain", "$JS.hub.API.>")), func(o *server.Options) {
		o.JetStreamDomain = "leaf"
		o.LeafNode.Remotes = []*server.RemoteLeafOpts{{URLs: []*url.URL{remote}}}
	})
	require.Eventually(t, func() bool { return leaf.Server().NumLeafNodes() == 1 }, testTimeout, 10*time.Millisecond)
	w := &world{t: t, node: leaf}
	for _, c := range []struct{ user, domain, says string }{
		{"domain", "hub", "refuses to publish $JS.hub.API."},
		{"plain", "hub", ""},
		{"runner", "nosuch", "JetStream does not answer"},
	} {
		domain := func(cfg *config.Config) { cfg.NATS.Domain = c.domain }
		cfg := w.signedIn("r-"+c.user, c.user, domain, withSQLite(t, "shop"))
		found := faults(t, findings(t, cfg))
		require.Equal(t, c.says == "", len(found) == 0, "%v", found)
		require.Contains(t, strings.Join(found, "\n"), c.says)
		if c.says == "" {
			w.start(cfg).end(t)
			continue
		}
		r := w.launch(app.Options{Config: cfg})
		t.Log(r.fails(t))
	}
}
