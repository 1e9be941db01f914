package app_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// besides gives the users of runners a second database, audit, whose data no other user may reach, and lifts all limits of the
// auditor, who is the test's own eye.
func besides(users []*server.User) {
	for _, name := range []string{"runner", "topology"} {
		p := find(users, name).Permissions
		for _, list := range []*server.SubjectPermission{p.Publish, p.Subscribe} {
			for _, subject := range slices.Clone(list.Allow) {
				if strings.Contains(subject, "shop") {
					list.Allow = append(list.Allow, strings.ReplaceAll(subject, "shop", "audit"))
				}
			}
		}
	}
	find(users, "auditor").Permissions = nil
}

// only limits a user to some subjects.
func only(user string, publish, subscribe []string) func([]*server.User) {
	return func(users []*server.User) {
		find(users, user).Permissions = &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: publish},
			Subscribe: &server.SubjectPermission{Allow: append(subscribe, "_INBOX."+user+".>")},
		}
	}
}

// every is how often these tests look at what they wait for.
const every = 5 * time.Millisecond

// secret is what the table of the database audit holds.
const secret = "4711"

// runBoth starts a runner of the databases shop and audit, and returns what sees everything.
func (w *world) runBoth(t *testing.T) *as {
	t.Helper()
	shop, audit := withSQLite(t, "shop"), withSQLite(t, "audit")
	maker, cfg := w.client("topology", shop, audit)
	_, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	w.start(w.signedIn("r1", "runner", shop, audit, func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify }))
	eye := w.as("auditor")
	done := eye.do("audit", "transaction", "table",
		`"statements":[{"sql":"CREATE TABLE accounts (n INTEGER)"},{"sql":"INSERT INTO accounts VALUES (`+secret+`)"}]`)
	require.Equal(t, "succeeded", done.Status)
	return eye
}

// untouched reads the table of the database audit: no job has written to it.
func (a *as) untouched() {
	a.t.Helper()
	a.count++
	rows := a.do("audit", "query", fmt.Sprintf("look%d", a.count), `"row_format":"arrays","sql":"SELECT CAST(n AS TEXT) FROM accounts"`).Rows
	require.Equal(a.t, []any{[]any{secret}}, rows)
}

// watch collects what is published to some subjects, with its bodies.
func (a *as) watch(subjects ...string) func() map[string]string {
	a.t.Helper()
	var mu sync.Mutex
	seen := map[string]string{}
	for _, subject := range subjects {
		_, err := a.nc.Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			defer mu.Unlock()
			seen[m.Subject] = string(m.Data)
		})
		require.NoError(a.t, err)
	}
	require.NoError(a.t, a.nc.Flush())
	return func() map[string]string {
		require.NoError(a.t, a.nc.Flush())
		mu.Lock()
		defer mu.Unlock()
		out := map[string]string{}
		for subject, body := range seen {
			out[subject] = body
		}
		return out
	}
}

// subjectsOf are the subjects that the users of the page may publish or subscribe to, without wildcards in those to publish.
func subjectsOf(users []*server.User) (publish, subscribe []string) {
	literal := strings.NewReplacer("*", "x", ">", "x")
	for _, u := range users {
		if u.Permissions == nil {
			continue
		}
		for _, subject := range u.Permissions.Publish.Allow {
			publish = append(publish, literal.Replace(subject))
		}
		subscribe = append(subscribe, u.Permissions.Subscribe.Allow...)
	}
	slices.Sort(publish)
	slices.Sort(subscribe)
	return slices.Compact(publish), slices.Compact(subscribe)
}

// ours are subjects that only runners and operators publish to, or that are another database's.
var ours = []string{
	"dbrunner.store.shop.planted", "dbrunner.results.shop.planted", "dbrunner.store.audit.planted", "dbrunner.jobs.shop.transaction",
	"dbrunner.jobs.audit.transaction", "dbrunner.queues.shop.bulk.query", "dbrunner.dead.shop.query.planted", "dbrunner.health.runner.planted",
	"dbrunner.api.run.shop.transaction", "dbrunner.audit.fleet.planted", "dbrunner.replies.audit.planted", "dbrunner.control.shop.planted",
	"$KV.DBRUNNER_STATE.pause.shop", "$KV.DBRUNNER_CONTROL.shop.planted", "$KV.DBRUNNER_SCHEDULES.jobs.shop.transaction.planted",
	"$O.DBRUNNER_ROWS.C.shop.planted", "$JS.API.STREAM.PURGE.DBRUNNER_JOBS_audit", "$JS.ACK.DBRUNNER_JOBS_shop.work.1.1.1.1.0",
	"$SYS.REQ.SERVER.PING", "$SRV.PING", "_INBOX_dbrunner.planted", "_R_.planted", "elsewhere",
}

// TestHostilePublisher is a user who may publish the queries of one database, and nothing else.
func TestHostilePublisher(t *testing.T) {
	t.Parallel()
	const mine = "dbrunner.jobs.shop.query"
	var publish, subscribe []string
	w := guarded(t, besides, func(users []*server.User) {
		publish, subscribe = subjectsOf(slices.DeleteFunc(slices.Clone(users), func(u *server.User) bool { return u.Username == "publisher" }))
	}, only("publisher", []string{mine}, nil))
	eye := w.runBoth(t)
	planted := eye.watch(ours...)
	publisher := w.as("publisher")

	publish = slices.DeleteFunc(publish, func(subject string) bool { return subject == mine })
	require.Greater(t, len(publish), 100)
	publisher.mayNot(publish, append(subscribe, "_INBOX.>", "$SYS.>", ">", "*.*"))
	publisher.mayNot(ours, nil)

	for i, subject := range ours { // the runner does not publish for it either
		id := fmt.Sprintf("reply%d", i)
		publisher.publish("shop", "query", fmt.Sprintf(`{"id":%q,"sql":"SELECT 1 AS n","reply_to":%q}`, id, subject))
		done := eye.await("shop", id)
		require.Equal(t, "rejected", done.Status, subject)
		require.Equal(t, "reply_to_forbidden", done.Error.Code, subject)
	}
	require.Empty(t, planted(), "no header, body or reply reached what is not the publisher's")
	eye.untouched()

	// What it can do by design (docs/security.md).
	inbox := eye.watch("_INBOX.flow.guessed")
	publisher.publish("shop", "query", `{"id":"own","sql":"SELECT 1 AS n","reply_to":"_INBOX.flow.guessed"}`)
	require.Eventually(t, func() bool { return len(inbox()) == 1 }, testTimeout, every, "runners reply to every inbox")
	_, err := publisher.js.Publish(t.Context(), mine, []byte(`{"id":"first","sql":"SELECT 1 AS n"}`), jetstream.WithMsgID("shared"))
	require.NoError(t, err)
	ack, err := eye.js.Publish(t.Context(), "dbrunner.jobs.shop.transaction", []byte(`{"id":"second"}`), jetstream.WithMsgID("shared"))
	require.NoError(t, err)
	require.True(t, ack.Duplicate, "publishers of one database share its message ids")
}

// acknowledged publishes a job whose acknowledgment the server sends to a subject, and waits until it has.
func (a *as) acknowledged(seen func() map[string]string, subject string) {
	a.t.Helper()
	require.NoError(a.t, a.nc.PublishRequest("dbrunner.jobs.shop.query", subject, []byte(`{"sql":"SELECT 1 AS n"}`)))
	require.Eventually(a.t, func() bool {
		return strings.Contains(seen()[subject], `"stream":"DBRUNNER_JOBS_shop"`)
	}, testTimeout, every, subject)
}

// TestTheServerIsADeputy has NATS send its own answers where their receiver may not publish: a server checks the permission for a
// subject, and none for a reply subject. docs/security.md lists what that reaches within an account; TestHostileNeighbor
// shows that it reaches no other one.
func TestTheServerIsADeputy(t *testing.T) {
	t.Parallel()
	w := guarded(t, besides, func(users []*server.User) {
		allow := &find(users, "publisher").Permissions.Publish.Allow
		*allow = append(*allow, "$O.DBRUNNER_PARAMS.M.>", "$JS.API.DIRECT.GET.OBJ_DBRUNNER_PARAMS.$O.DBRUNNER_PARAMS.M.>")
	})
	eye := w.runBoth(t)
	streams := func() (out []jetstream.StreamConfig) {
		for info := range eye.js.ListStreams(t.Context()).Info() {
			out = append(out, info.Config)
		}
		return out
	}
	before := streams()
	publisher := w.as("publisher")

	// The server answers to no subject of JetStream's own. Servers before 2.15.3 did; an acknowledgment is no valid request there.
	for _, request := range []string{
		"STREAM.PURGE.DBRUNNER_RESULTS_audit", "STREAM.DELETE.DBRUNNER_RESULTS_audit", "STREAM.MSG.DELETE.DBRUNNER_RESULTS_audit",
		"STREAM.UPDATE.DBRUNNER_RESULTS_audit", "CONSUMER.DELETE.DBRUNNER_JOBS_audit.work", "CONSUMER.PAUSE.DBRUNNER_JOBS_audit.work",
	} {
		require.NoError(t, publisher.nc.PublishRequest("dbrunner.jobs.shop.query", "$JS.API."+request, []byte(`{"sql":"SELECT 1 AS n"}`)))
		require.Eventually(t, func() bool {
			return strings.Contains(publisher.refusals(), `Permissions Violation for Publish with Reply of "$JS.API.`+request+`"`)
		}, testTimeout, every, request)
	}
	publisher.forget()

	// An acknowledgment removes and changes nothing, and is no job and no schedule.
	jobs := []string{"dbrunner.jobs.audit.transaction", "$KV.DBRUNNER_SCHEDULES.jobs.audit.transaction.planted"}
	for _, subject := range jobs {
		publisher.acknowledged(eye.watch(subject), subject)
	}
	require.NotNil(t, eye.stored("audit", "table"), "the results are there")
	require.Equal(t, before, streams())
	_, err := eye.js.Consumer(t.Context(), "DBRUNNER_JOBS_audit", "work")
	require.NoError(t, err)
	eye.untouched()

	// It does take the place of a result that is not there yet, cancel a job, and pause a database.
	for _, subject := range []string{"dbrunner.store.audit.planted", "$KV.DBRUNNER_CONTROL.audit.planted", "$KV.DBRUNNER_STATE.pause.audit"} {
		publisher.acknowledged(eye.watch(subject), subject)
	}
	require.Eventually(t, func() bool { return eye.stored("audit", "planted") != nil }, testTimeout, every)
	require.NoError(t, eye.nc.PublishMsg(&nats.Msg{Subject: "$KV.DBRUNNER_STATE.pause.audit", Header: nats.Header{"KV-Operation": {"DEL"}}}))

	// A user who may write and read descriptions of parameters has any text sent anywhere: also as another database's job.
	_, err = publisher.js.Publish(t.Context(), "$O.DBRUNNER_PARAMS.M.planted", []byte(`{"id":"by-deputy","statements":[{"sql":"DELETE FROM accounts"}]}`))
	require.NoError(t, err)
	require.NoError(t, publisher.nc.PublishRequest("$JS.API.DIRECT.GET.OBJ_DBRUNNER_PARAMS.$O.DBRUNNER_PARAMS.M.planted",
		"dbrunner.jobs.audit.transaction", []byte(`{"no_hdr":true}`)))
	require.Equal(t, "succeeded", eye.await("audit", "by-deputy").Status)

	// A user who may read the results of one database has them sent as those of another.
	flow := w.as("flow")
	flow.do("shop", "query", "forged", `"sql":"SELECT 1 AS n"`)
	require.NoError(t, flow.nc.PublishRequest("$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.dbrunner.results.shop.forged",
		"dbrunner.store.audit.forged", []byte(`{"no_hdr":true}`)))
	require.Equal(t, "succeeded", eye.await("audit", "forged").Status)

	// A user who may read offloaded rows has those of a query delivered into another database's stream. They keep their own subject, so no
	// consumer takes them.
	flow.do("shop", "query", "rows", `"output":"object","sql":"SELECT 'by-consumer' AS id, 'INSERT INTO accounts VALUES (1)' AS sql"`)
	request, err := json.Marshal(map[string]any{"stream_name": "OBJ_DBRUNNER_ROWS", "action": "create", "config": map[string]any{
		"name": "pushing", "filter_subject": "$O.DBRUNNER_ROWS.C.shop.>", "deliver_subject": "dbrunner.jobs.audit.statement", "ack_policy": "none",
	}})
	require.NoError(t, err)
	created, err := flow.nc.Request("$JS.API.CONSUMER.CREATE.OBJ_DBRUNNER_ROWS.pushing.$O.DBRUNNER_ROWS.C.shop.>", request, testTimeout)
	require.NoError(t, err)
	require.NotContains(t, string(created.Data), `"error"`)
	require.Eventually(t, func() bool {
		info, err := eye.js.Stream(t.Context(), "DBRUNNER_JOBS_audit")
		if err != nil {
			return false
		}
		m, err := info.GetMsg(t.Context(), info.CachedInfo().State.LastSeq)
		return err == nil && strings.HasPrefix(m.Subject, "$O.DBRUNNER_ROWS.C.shop.")
	}, testTimeout, every)
	require.Equal(t, []any{}, eye.do("audit", "query", "left", `"sql":"SELECT n FROM accounts"`).Rows, "by-deputy deleted the row, and no other job ran")
	require.Empty(t, publisher.refusals()+flow.refusals())
}

// TestHostileReader is a user who may read the results and rows of one database, and nothing else.
func TestHostileReader(t *testing.T) {
	t.Parallel()
	const rows = "OBJ_DBRUNNER_ROWS"
	w := guarded(t, besides, only("flow", []string{
		"$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.>", "$JS.API.STREAM.INFO.DBRUNNER_RESULTS_shop", "$JS.API.STREAM.MSG.GET.DBRUNNER_RESULTS_shop",
		"$JS.API.CONSUMER.CREATE." + rows + ".*.$O.DBRUNNER_ROWS.C.shop.>",
	}, []string{"dbrunner.results.shop.>"}))
	eye := w.runBoth(t)
	require.Equal(t, "succeeded", eye.do("audit", "query", "hidden", `"output":"object","sql":"SELECT n FROM accounts"`).Status)
	require.Equal(t, "succeeded", eye.do("shop", "query", "shown", `"sql":"SELECT 1 AS n"`).Status)
	before := eye.stored("shop", "shown")

	reader := w.as("flow")
	ask := func(subject, body string) string {
		answer, err := reader.nc.Request(subject, []byte(body), testTimeout)
		require.NoError(t, err, subject)
		return answer.Header.Get("Status") + string(answer.Data)
	}
	require.Contains(t, ask("$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop.dbrunner.results.shop.shown", ""), `"succeeded"`)
	for _, subject := range []string{"dbrunner.results.audit.hidden", "dbrunner.results.audit.>", "dbrunner.results.*.hidden"} {
		require.Equal(t, "404", ask("$JS.API.DIRECT.GET.DBRUNNER_RESULTS_shop."+subject, ""), subject)
		got := ask("$JS.API.STREAM.MSG.GET.DBRUNNER_RESULTS_shop", fmt.Sprintf(`{"last_by_subj":%q}`, subject))
		require.Contains(t, got, `"error"`, subject)
	}
	// A consumer of offloaded rows is limited by its subject; neither its body nor a second filter widens it.
	for name, body := range map[string]map[string]any{
		"other filter": {"filter_subject": "$O.DBRUNNER_ROWS.C.audit.>"},
		"no filter":    {},
		"two filters":  {"filter_subjects": []string{"$O.DBRUNNER_ROWS.C.shop.>", "$O.DBRUNNER_ROWS.C.audit.>"}},
	} {
		body["name"], body["ack_policy"], body["inactive_threshold"] = "probe", "none", 1_000_000_000
		request, err := json.Marshal(map[string]any{"stream_name": rows, "config": body, "action": "create"})
		require.NoError(t, err)
		require.Contains(t, ask("$JS.API.CONSUMER.CREATE."+rows+".probe.$O.DBRUNNER_ROWS.C.shop.>", string(request)), `"error"`, name)
	}
	reader.mayNot(append([]string{
		"dbrunner.jobs.shop.query", "dbrunner.jobs.audit.query", "dbrunner.results.shop.shown", "dbrunner.api.run.shop.query", "dbrunner.api.result.audit.hidden",
		"dbrunner.api.cancel.shop.shown", "$JS.API.DIRECT.GET.DBRUNNER_RESULTS_audit.dbrunner.results.audit.hidden", "$JS.API.DIRECT.GET." + rows,
		"$JS.API.STREAM.MSG.GET.DBRUNNER_RESULTS_audit", "$JS.API.STREAM.MSG.GET." + rows, "$JS.API.STREAM.PURGE.DBRUNNER_RESULTS_shop",
		"$JS.API.STREAM.MSG.DELETE.DBRUNNER_RESULTS_shop", "$JS.API.STREAM.DELETE.DBRUNNER_RESULTS_shop", "$JS.API.CONSUMER.CREATE.DBRUNNER_RESULTS_audit",
		"$JS.API.CONSUMER.CREATE." + rows + ".probe.$O.DBRUNNER_ROWS.C.audit.x", "$JS.API.CONSUMER.CREATE." + rows, "$O.DBRUNNER_ROWS.C.shop.x",
	}, ours...), []string{"dbrunner.results.audit.>", "dbrunner.results.>", "dbrunner.dead.>", "dbrunner.health.>", "$O.>", "_INBOX.auditor.>", ">"})
	require.Equal(t, before, eye.stored("shop", "shown"))
	eye.untouched()
}

// TestHostileNeighbor are users of other accounts of the same server: one without imports, and one with those of docs/security.md.
func TestHostileNeighbor(t *testing.T) {
	t.Parallel()
	w := &world{t: t, node: twoAccounts(t, true)}
	w.start(w.signedIn("r1", "runner", withSQLite(t, "shop"), withSQLite(t, "audit")))
	eye := w.as("auditor")
	require.Equal(t, "succeeded", eye.do("audit", "transaction", "table",
		`"statements":[{"sql":"CREATE TABLE accounts (n INTEGER)"},{"sql":"INSERT INTO accounts VALUES (`+secret+`)"}]`).Status)
	reached := eye.watch(slices.DeleteFunc(slices.Clone(ours), func(subject string) bool { // what the client's account imports
		return subject == "dbrunner.jobs.shop.transaction" || subject == "dbrunner.api.run.shop.transaction"
	})...)

	neighbor, client := w.as("neighbor"), w.as("client")
	seen, heard := neighbor.watch(">"), client.watch(">")
	for _, database := range []string{"shop", "audit"} {
		require.Equal(t, "succeeded", eye.do(database, "query", "one", `"sql":"SELECT `+secret+` AS n"`).Status)
	}
	require.Eventually(t, func() bool { return strings.Contains(heard()["dbrunner.results.shop.one"], secret) }, testTimeout, every)
	require.Len(t, heard(), 1, "%v", heard())
	require.Empty(t, seen())
	neighbor.nc.Close()
	client.nc.Close()
	neighbor, client = w.as("neighbor"), w.as("client") // without the subscriptions, which would take requests
	for _, subject := range exportedServices {
		require.Error(t, account(t, w.node, "NEIGHBORS").AddServiceImport(account(t, w.node, "RUNNERS"), subject, ""), subject)
	}
	for _, subject := range append(exportedStreams, "dbrunner.results.audit.*") {
		require.Error(t, account(t, w.node, "NEIGHBORS").AddStreamImport(account(t, w.node, "RUNNERS"), subject, ""), subject)
	}
	require.Error(t, account(t, w.node, "CLIENTS").AddServiceImport(account(t, w.node, "RUNNERS"), "dbrunner.jobs.audit.*", ""))

	answers := client.watch("elsewhere")

	// Streams of the same names are streams of its own.
	_, err := neighbor.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DBRUNNER_JOBS_shop", Subjects: []string{"dbrunner.jobs.>"}})
	require.NoError(t, err)
	_, err = neighbor.js.Publish(t.Context(), "dbrunner.jobs.shop.query", []byte(`{"id":"foreign","sql":"SELECT 1 AS n"}`))
	require.NoError(t, err)
	_, err = neighbor.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	for _, a := range []*as{neighbor, client} {
		for _, subject := range []string{"dbrunner.api.databases", "dbrunner.api.health.shop", "dbrunner.api.cancel.shop.one", "dbrunner.api.result.audit.one", "$SRV.PING"} {
			_, err := a.nc.Request(subject, nil, testTimeout)
			require.ErrorIs(t, err, nats.ErrNoResponders, subject)
		}
		for _, subject := range ours { // as subject, as what the server answers to, and as what a runner replies to
			require.NoError(t, a.nc.Publish(subject, []byte("{}")))
			if !strings.HasPrefix(subject, "$JS.ACK.") && !strings.HasPrefix(subject, "_R_.") {
				require.NoError(t, a.nc.PublishRequest("dbrunner.jobs.shop.query", subject, []byte(`{"sql":"SELECT 1 AS n"}`)))
			}
			require.NoError(t, a.nc.Publish("dbrunner.jobs.shop.query", fmt.Appendf(nil, `{"sql":"SELECT 1 AS n","reply_to":%q}`, subject)))
		}
		require.NoError(t, a.nc.Flush())
	}
	require.Eventually(t, func() bool { return strings.Contains(answers()["elsewhere"], `"stream":"DBRUNNER_JOBS_shop"`) }, testTimeout, every,
		"the acknowledgment comes to the account of the publisher")
	require.Equal(t, "succeeded", eye.do("shop", "query", "last", `"sql":"SELECT 1 AS n"`).Status)
	require.Empty(t, reached())
	require.Nil(t, eye.stored("shop", "foreign"))
	eye.untouched()
}
