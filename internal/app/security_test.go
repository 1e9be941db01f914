package app_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
	"dbrunner/internal/ui"
)

const securityPage = "../../docs/security.md"

// documented is what docs/security.md has of a NATS server's configuration, with a password for each user: its name.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(securityPage)
	require.NoError(t, err)
	var text strings.Builder
	for _, user := range []string{"publisher", "flow", "agent", "operator", "runner", "auditor", "topology"} {
		fmt.Fprintf(&text, "%s_PASSWORD = %s\n", strings.ToUpper(user), user)
	}
	blocks := regexp.MustCompile("(?s)```\n(.*?)```").FindAllSubmatch(page, -1)
	require.Len(t, blocks, 8)
	for _, b := range blocks {
		text.Write(b[1])
	}
	return text.String()
}

// guarded is a NATS server with the users of the page.
func guarded(t *testing.T, change ...func([]*server.User)) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	require.NoError(t, os.WriteFile(file, []byte(documented(t)), 0o600))
	opts, err := server.ProcessConfigFile(file)
	require.NoError(t, err)
	for _, f := range change {
		f(opts.Users)
	}
	node := bustest.Server(t, bustest.Users(opts.Users...))
	return &world{t: t, node: node}
}

// as is this world as one of its users sees it.
type as struct {
	*world
	mu     sync.Mutex
	denied []string
}

func (w *world) as(user string) *as {
	w.t.Helper()
	a := &as{}
	nc, err := nats.Connect(w.node.ClientURL(), nats.UserInfo(user, user), nats.CustomInboxPrefix("_INBOX."+user),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.denied = append(a.denied, err.Error())
		}))
	require.NoError(w.t, err)
	w.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(w.t, err)
	a.world = &world{t: w.t, node: w.node, nc: nc, js: js}
	return a
}

func (a *as) refusals() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Join(a.denied, "\n")
}

// forget forgets the refusals so far.
func (a *as) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied = nil
}

// mayNot tries what the user must not do.
func (a *as) mayNot(publish, subscribe []string) {
	a.t.Helper()
	for _, subject := range publish {
		require.NoError(a.t, a.nc.Publish(subject, nil))
		require.Eventually(a.t, func() bool {
			return strings.Contains(a.refusals(), `Permissions Violation for Publish to "`+subject+`"`)
		}, testTimeout, time.Millisecond, subject)
	}
	for _, subject := range subscribe {
		_, err := a.nc.SubscribeSync(subject)
		require.NoError(a.t, err)
		require.Eventually(a.t, func() bool {
			return strings.Contains(a.refusals(), `Permissions Violation for Subscription to "`+subject+`"`)
		}, testTimeout, time.Millisecond, subject)
	}
}

// signedIn is a runner's configuration with a user of the page.
func (w *world) signedIn(instance, user string, change ...func(*config.Config)) *config.Config {
	return w.config(instance, append(change, func(cfg *config.Config) {
		cfg.NATS.User, cfg.NATS.Password = user, config.NewSecret(user)
	})...)
}

// client is a connection of this project's own clients as a user of the page.
func (w *world) client(user string, change ...func(*config.Config)) (*bus.Conn, *config.Config) {
	w.t.Helper()
	cfg := w.signedIn(user, user, change...)
	opts := manager.BusOptions(cfg, nil)
	opts.InboxPrefix = "_INBOX." + user
	conn, err := bus.Connect(w.t.Context(), opts)
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, conn.Close(context.Background())) })
	return conn, cfg
}

// content reports that a runner was never refused a subject.
func (w *world) content(r *runner) {
	w.t.Helper()
	for _, entry := range r.logs.FilterMessageSnippet("NATS refused").All() {
		require.Fail(w.t, "the runner was refused something", "%v", entry.ContextMap())
	}
}

// TestPermissionsOfTheSecurityPage tries the permissions of docs/security.md: what each user may do works, and what he
// must not does not.
func TestPermissionsOfTheSecurityPage(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	shop := withSQLite(t, "shop")
	verify := func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify }

	maker, cfg := w.client("topology", shop)
	changes, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, changes)
	changes, err = topology.Prune(t.Context(), maker, manager.Topology(cfg), false)
	require.NoError(t, err)
	require.Empty(t, changes)
	w.as("topology").mayNot([]string{
		"dbrunner.jobs.shop.query", "dbrunner.api.run.shop.query", "dbrunner.store.shop.x", "$JS.API.STREAM.DELETE.DBRUNNER_DEAD",
		"$JS.API.STREAM.PURGE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.CREATE.other",
	}, []string{"dbrunner.>", "_INBOX.>"})

	runner := w.start(w.signedIn("r1", "runner", shop, verify))
	w.tryPublisher()
	w.tryFlow()
	w.tryAgent()
	w.tryOperator()
	w.tryRunner()
	runner.end(t)
	w.content(runner)
}

func (w *world) tryPublisher() {
	publisher := w.as("publisher")
	for _, kind := range []string{"query", "transaction"} {
		publisher.publish("shop", kind, `{"id":"by-publisher-`+kind+`","reply_to":"_INBOX.publisher.mine","sql":"SELECT 1 AS n"}`)
	}
	require.Empty(w.t, publisher.refusals())
	publisher.mayNot([]string{
		"dbrunner.jobs.shop.migration", "dbrunner.jobs.audit.query", "dbrunner.queues.shop.bulk.query", "dbrunner.api.run.shop.query", "dbrunner.api.cancel.shop.x",
		"dbrunner.api.running.shop", "dbrunner.api.result.shop.x", "dbrunner.store.shop.x", "dbrunner.results.shop.x", "dbrunner.dead.shop.query.x", "$KV.DBRUNNER_CONTROL.shop.x", "$SRV.PING",
		"$JS.API.STREAM.PURGE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.MSG.GET.DBRUNNER_JOBS_shop", "$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.x",
		"$JS.ACK.DBRUNNER_JOBS_shop.work.1.1.1.1.0", "_INBOX.flow.x", "_INBOX_dbrunner.x",
	}, []string{"dbrunner.results.shop.>", "dbrunner.jobs.>", "_INBOX.flow.>", "_INBOX.>", ">"})
}

func (w *world) tryFlow() {
	t := w.t.(*testing.T)
	flow := w.as("flow")
	sub, err := flow.nc.SubscribeSync("dbrunner.results.shop.>")
	require.NoError(t, err)
	done := flow.do("shop", "transaction", "by-flow", `"statements":[{"sql":"CREATE TABLE t (n INTEGER)"}]`)
	require.Equal(t, "succeeded", done.Status)
	require.Eventually(t, func() bool { return flow.next(sub).JobID == "by-flow" }, testTimeout, time.Millisecond, "besides those of others")
	require.Equal(t, "succeeded", parse(t, flow.request("run.shop.query", `{"sql":"SELECT 1 AS n"}`).body).Status)
	require.Equal(t, "already_finished", flow.cancel(t, "shop", "by-flow", "1s").Outcome)
	require.Equal(t, "requested", flow.cancel(t, "shop", "never", "10ms").Outcome)
	require.Equal(t, "succeeded", parse(t, flow.request("result.shop.by-flow", "").body).Status)
	flow.request("running.shop", "").into(t, &struct{}{})
	flow.request("health.shop", "").into(t, &struct{}{})
	flow.request("databases", "").into(t, &struct{}{})
	flow.request("databases.shop", "").into(t, &struct{}{})

	flow.publish("shop", "query", `{"id":"awaited","sql":"SELECT 1 AS n"}`)
	conn, _ := w.client("flow", withSQLite(t, "shop"))
	awaited, err := clientOn(t, conn).Await(t.Context(), "shop", "awaited")
	require.NoError(t, err)
	require.Equal(t, contract.Succeeded, awaited.Status)
	require.Empty(t, flow.refusals())
	require.Empty(t, conn.State().Denied)
	running, err := clientOn(t, conn).Running(t.Context(), client.RunningOptions{Databases: []string{"shop"}, Wait: 2 * time.Second})
	require.NoError(t, err)
	require.Len(t, running.Runners, 1)
	require.Contains(t, running.Unlisted, client.ErrDenied.Error(), "it may not read heartbeats")
	_, err = clientOn(t, conn).Running(t.Context(), client.RunningOptions{Databases: []string{"audit"}})
	require.ErrorIs(t, err, client.ErrDenied)
	_, err = clientOn(t, conn).Running(t.Context(), client.RunningOptions{})
	require.ErrorIs(t, err, client.ErrDenied, "the databases are in the heartbeats")
	flow.mayNot([]string{
		"dbrunner.jobs.shop.migration", "dbrunner.api.run.shop.migration", "dbrunner.api.run.audit.query", "dbrunner.api.cancel.audit.x",
		"dbrunner.api.running.audit", "dbrunner.api.result.audit.x", "dbrunner.api.health.audit", "dbrunner.store.shop.x", "dbrunner.audit.database.shop.cancel", "$KV.DBRUNNER_CONTROL.shop.x", "$SRV.PING",
		"$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_shop", "$JS.API.DIRECT.GET.DBRUNNER_RESULTS_audit.x", "$JS.API.STREAM.MSG.GET.DBRUNNER_JOBS_shop",
	}, []string{"dbrunner.results.audit.>", "dbrunner.results.>", "dbrunner.dead.>", "_INBOX.publisher.>", "$KV.>"})
}

func (w *world) tryAgent() {
	agent := w.as("agent")
	require.Contains(w.t, string(agent.request("calls.shop", "").body), `"calls":[]`)
	require.Contains(w.t, string(agent.request("run.shop.call.pay", "{}").body), "kind_not_allowed", "the runner has no catalog: NATS lets the request pass")
	require.Equal(w.t, "requested", agent.cancel(w.t.(*testing.T), "shop", "never", "10ms").Outcome) //nolint:forcetypeassert // it is one
	require.Empty(w.t, agent.refusals())
	agent.mayNot([]string{
		"dbrunner.jobs.shop.query", "dbrunner.jobs.shop.call.pay", "dbrunner.api.run.shop.query", "dbrunner.api.run.shop.transaction", "dbrunner.api.run.shop.call.refund",
		"dbrunner.api.result.shop.x", "dbrunner.api.running.shop", "dbrunner.store.shop.x", "$SRV.PING", "$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.x", "_INBOX.flow.x",
	}, []string{"dbrunner.results.shop.>", "dbrunner.health.>", "_INBOX.>", ">"})
}

func (w *world) tryOperator() {
	t := w.t.(*testing.T)
	operator := w.as("operator")
	require.Len(t, operator.gather("$SRV.STATS.dbrunner", 1), 1)
	operator.request("health.shop", "").into(t, &struct{}{})
	require.Equal(t, "requested", operator.cancel(t, "shop", "nowhere", "10ms").Outcome)
	operator.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.State == "running" })

	conn, cfg := w.client("operator", withSQLite(t, "shop"))
	_, err := topology.Show(t.Context(), conn, manager.Topology(cfg))
	require.NoError(t, err)
	runners := clientOn(t, conn)
	running, err := runners.Running(t.Context(), client.RunningOptions{Wait: testTimeout})
	require.NoError(t, err)
	require.Len(t, running.Runners, 1)
	require.Empty(t, running.Unlisted)
	recorded, err := runners.RecordedResult(t.Context(), "shop", "by-flow")
	require.NoError(t, err)
	require.Equal(t, contract.Succeeded, recorded.Status)
	deadLetter := oldestDeadLetter(t, runners)
	require.Equal(t, "transaction", deadLetter.Kind, "the publisher's job of another kind than its body")
	_, err = runners.Submit(t.Context(), &client.Job{Database: "shop", Kind: "query", ID: "redriven", Body: deadLetter.Body})
	require.NoError(t, err)
	require.NoError(t, runners.DeleteDeadLetter(t.Context(), deadLetter))
	require.NoError(t, client.WriteAudit(t.Context(), runners, &contract.AuditEntry{Action: contract.AuditRedrive, Database: "shop"}))
	entries, err := client.AuditEntries(t.Context(), runners, client.AuditFilter{})
	require.NoError(t, err)
	require.Len(t, entries, 1)
	for _, subject := range []string{"dbrunner.queues.shop.bulk.query", "dbrunner.jobs.shop.call.pay", "$KV.DBRUNNER_STATE.pause.shop.queue.bulk"} {
		require.NoError(t, operator.nc.Publish(subject, nil))
	}
	require.NoError(t, operator.nc.Flush())
	page, err := ui.New(ui.Options{NATS: w.as("operator").nc, Write: true}) // it replaces the connection's error handler
	require.NoError(t, err)
	for _, path := range []string{"/", "/db/shop", "/db/shop/jobs", "/db/shop/job/by-flow", "/dead"} {
		shown := httptest.NewRecorder()
		page.Handler().ServeHTTP(shown, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
		require.Equal(t, http.StatusOK, shown.Code)
		require.NotContains(t, shown.Body.String(), `class="problem"`, path)
	}
	require.Empty(t, operator.refusals())
	require.Empty(t, conn.State().Denied)
	operator.mayNot([]string{
		"dbrunner.api.run.shop.query", "dbrunner.store.shop.x", "dbrunner.health.runner.r1", "dbrunner.audit.fleet.topology", "$KV.DBRUNNER_CONTROL.shop.x",
		"$JS.API.STREAM.DELETE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.UPDATE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.PURGE.DBRUNNER_JOBS_shop",
		"$JS.API.STREAM.MSG.DELETE.DBRUNNER_JOBS_shop", "$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_shop.work",
	}, []string{"_INBOX.flow.>", "_INBOX.>", "_INBOX_dbrunner.>"})
}

// TestReadOnlyOperator leaves out of an operator's permissions what the page names: what is left changes nothing, and suffices for the page of
// runner ui.
func TestReadOnlyOperator(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(securityPage)
	require.NoError(t, err)
	sentence := regexp.MustCompile(`(?s)For access that only\s+reads, leave out (.*?\.) `).FindSubmatch(page)
	require.NotNil(t, sentence)
	var without []string
	for _, quoted := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(sentence[1], -1) {
		without = append(without, string(quoted[1]))
	}
	reads := regexp.MustCompile(`^(dbrunner\.api\.(databases|health|running|result|calls)\b.*|\$JS\.API\.(INFO|STREAM\.(NAMES|LIST|INFO\.\*|MSG\.GET\.\*)|` +
		`CONSUMER\.(LIST|NAMES|INFO)\..*|DIRECT\.GET\.>))$`)
	w := guarded(t, func(users []*server.User) {
		for _, user := range users {
			if user.Username != "operator" {
				continue
			}
			may := user.Permissions.Publish
			may.Allow = slices.DeleteFunc(may.Allow, func(subject string) bool {
				return slices.Contains(without, subject) || strings.HasPrefix(subject, "$KV.") && slices.Contains(without, "$KV.")
			})
			for _, subject := range may.Allow {
				require.Regexp(t, reads, subject, "the page does not name it")
			}
		}
	})
	admin, cfg := w.client("topology", withSQLite(t, "shop"))
	_, err = topology.Apply(t.Context(), admin, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	shown, err := ui.New(ui.Options{NATS: w.as("operator").nc})
	require.NoError(t, err)
	for _, path := range []string{"/", "/db/shop/jobs", "/dead"} {
		answer := httptest.NewRecorder()
		shown.Handler().ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "http://localhost"+path, nil))
		require.Equal(t, http.StatusOK, answer.Code)
		require.NotContains(t, answer.Body.String(), "may not read", path)
	}
	w.as("operator").mayNot([]string{
		"dbrunner.jobs.shop.query", "dbrunner.jobs.shop.call.pay", "dbrunner.queues.shop.bulk.query", "dbrunner.api.cancel.shop.x", "$SRV.PING",
		"$KV.DBRUNNER_STATE.pause.shop", "$KV.DBRUNNER_SCHEDULES.jobs.shop.query.x", "$JS.API.STREAM.MSG.DELETE.DBRUNNER_DEAD", "$JS.API.STREAM.PURGE.KV_DBRUNNER_STATE",
		"dbrunner.audit.database.shop.pause",
	}, nil)
}

func (w *world) tryRunner() {
	runner := w.as("runner")
	nc, err := nats.Connect(w.node.ClientURL(), nats.UserInfo("runner", "runner"), nats.CustomInboxPrefix("_INBOX_dbrunner"))
	require.NoError(w.t, err)
	defer nc.Close()
	purged, err := nc.Request("$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_shop", []byte(`{"seq":1}`), testTimeout)
	require.NoError(w.t, err)
	require.Contains(w.t, string(purged.Data), `"success":true`)
	runner.mayNot([]string{
		"dbrunner.jobs.audit.query", "dbrunner.store.audit.x", "dbrunner.results.shop.x", "dbrunner.replies.audit.x", "dbrunner.dead.audit.query.x",
		"dbrunner.api.run.shop.query", "dbrunner.api.cancel.shop.x", "dbrunner.control.shop.x", "_INBOX_dbrunner.x",
		"$JS.API.STREAM.CREATE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.DELETE.DBRUNNER_JOBS_shop", "$JS.API.STREAM.PURGE.DBRUNNER_JOBS_shop",
		"$JS.API.CONSUMER.CREATE.DBRUNNER_JOBS_shop.work", "$JS.API.CONSUMER.MSG.NEXT.DBRUNNER_JOBS_audit.work", "$SRV.PING",
	}, []string{"dbrunner.jobs.>", "_INBOX.>", "_INBOX.flow.>", "$KV.>", "$JS.API.>"})
}

// TestPermissionsOfARunnerThatManages adds the permissions for creating streams to a runner's own.
func TestPermissionsOfARunnerThatManages(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(users []*server.User) {
		own, more := find(users, "runner").Permissions, find(users, "topology").Permissions
		own.Publish.Allow = append(own.Publish.Allow, more.Publish.Allow...)
	})
	r := w.start(w.signedIn("r1", "runner", withSQLite(t, "shop")))
	flow := w.as("flow")
	require.Equal(t, "succeeded", parse(t, flow.request("run.shop.query", `{"sql":"SELECT 1 AS n"}`).body).Status)
	r.end(t)
	w.content(r)
}

// TestRunEndpointWithoutPermissionToPublish reports it immediately.
func TestRunEndpointWithoutPermissionToPublish(t *testing.T) {
	t.Parallel()
	w := guarded(t, func(users []*server.User) {
		own, more := find(users, "runner").Permissions, find(users, "topology").Permissions
		own.Publish.Allow = slices.DeleteFunc(append(own.Publish.Allow, more.Publish.Allow...), func(subject string) bool {
			return subject == "dbrunner.jobs.shop.*"
		})
	})
	w.start(w.signedIn("r1", "runner", withSQLite(t, "shop")))
	w.as("flow").request("run.shop.query", `{"sql":"SELECT 1 AS n"}`, "Dbrunner-Wait", "2s").refused(t, "503", "run_disabled")
}

func find(users []*server.User, name string) *server.User {
	return users[slices.IndexFunc(users, func(u *server.User) bool { return u.Username == name })]
}
