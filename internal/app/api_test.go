package app_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// reply is an answer of the service.
type reply struct {
	code string // of an error
	text string
	body []byte
}

// request sends a request to the service as any client does.
func (w *world) request(path, body string, headers ...string) reply {
	w.t.Helper()
	m := natsMsg("dbrunner.api."+path, headers...)
	m.Data = []byte(body)
	answer, err := w.nc.RequestMsg(m, testTimeout)
	require.NoError(w.t, err, path)
	return reply{code: answer.Header.Get(micro.ErrorCodeHeader), text: answer.Header.Get(micro.ErrorHeader), body: answer.Data}
}

// refusal is the body of an error.
type refusal struct {
	Error struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Retryable bool   `json:"retryable"`
	} `json:"error"`
	Database string `json:"database"`
	JobID    string `json:"job_id"`
}

func (r reply) refused(t *testing.T, status, code string) refusal {
	t.Helper()
	var body refusal
	require.Equal(t, status, r.code, "%s %s", r.text, r.body)
	require.NoError(t, json.Unmarshal(r.body, &body))
	require.Equal(t, code, body.Error.Code)
	require.Equal(t, r.text, body.Error.Message)
	return body
}

func (r reply) into(t *testing.T, value any) {
	t.Helper()
	require.Empty(t, r.code, "%s %s", r.text, r.body)
	require.NoError(t, json.Unmarshal(r.body, value), "%s", r.body)
}

func TestServiceShowsRunners(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	w.start(w.config("r2", withSQLite(t, "shop"), withSQLite(t, "audit")))

	require.Len(t, w.gather("$SRV.PING.dbrunner", 2), 2)
	infos := map[string]micro.Info{}
	for _, raw := range w.gather("$SRV.INFO.dbrunner", 2) {
		var info micro.Info
		require.NoError(t, json.Unmarshal(raw, &info))
		infos[info.Metadata["instance"]] = info
	}
	require.Equal(t, "shop", infos["r1"].Metadata["databases"])
	require.Equal(t, "audit,shop", infos["r2"].Metadata["databases"])
	require.Equal(t, "0.0.0", infos["r1"].Version, "the build of a test has no version")
	require.Len(t, infos["r1"].Endpoints, 8)

	w.request("health.audit", "")
	w.request("cancel.audit.not.there", "").refused(t, "400", "invalid_subject")
	w.request("cancel.audit.a+b", "").refused(t, "400", "invalid_id")
	counted := false
	for _, raw := range w.gather("$SRV.STATS.dbrunner", 2) {
		var stats struct {
			Endpoints []struct {
				Name        string `json:"name"`
				NumRequests int    `json:"num_requests"`
				Data        struct {
					Answered int `json:"answered"`
					Failed   int `json:"failed"`
				} `json:"data"`
			} `json:"endpoints"`
		}
		require.NoError(t, json.Unmarshal(raw, &stats))
		for _, e := range stats.Endpoints {
			if e.Name == "cancel-audit" {
				counted = true
				require.Equal(t, 1, e.NumRequests)
				require.Equal(t, 1, e.Data.Answered)
				require.Equal(t, 1, e.Data.Failed)
			}
		}
	}
	require.True(t, counted)
}

// gather collects n answers to one request.
func (w *world) gather(subject string, n int) [][]byte {
	w.t.Helper()
	inbox, sub := w.inbox()
	require.NoError(w.t, w.nc.PublishRequest(subject, inbox, nil))
	var out [][]byte
	for range n {
		m, err := sub.NextMsg(testTimeout)
		require.NoError(w.t, err)
		out = append(out, m.Data)
	}
	return out
}

func TestServiceListsDatabases(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "audit"), withDatabase("shop", "sqlite", filepath.Join(t.TempDir(), "shop.db"), func(d *config.Database) {
		d.Kinds, d.Ledger.Mode, d.MaxRows, d.MaxAffected = []string{"query", "transaction"}, "off", 77, 500
		d.ByKind = map[string]*config.KindLimits{"query": {Timeout: time.Second, MaxTimeout: time.Minute}}
	})))
	type list struct {
		Runner    string `json:"runner"`
		Databases []struct {
			Name   string `json:"name"`
			Engine string `json:"engine"`
			Kinds  []struct {
				Kind    string   `json:"kind"`
				Effects []string `json:"effects"`
				Timeout string   `json:"timeout"`
			} `json:"kinds"`
			Limits struct {
				MaxRows     int `json:"max_rows"`
				MaxAffected int `json:"max_affected"`
				MaxBody     int `json:"max_body"`
			} `json:"limits"`
			Ledger struct {
				Mode      string `json:"mode"`
				Retention string `json:"retention"`
			} `json:"ledger"`
		} `json:"databases"`
	}
	var all, one list
	w.request("databases", "").into(t, &all)
	require.Equal(t, "r1", all.Runner)
	require.Len(t, all.Databases, 2)
	require.Equal(t, "audit", all.Databases[0].Name)
	require.Equal(t, "48h0m0s", all.Databases[0].Ledger.Retention)
	w.request("databases.shop", "{}").into(t, &one)
	require.Equal(t, all.Databases[1:], one.Databases)
	shop := one.Databases[0]
	require.Equal(t, "sqlite", shop.Engine)
	require.Equal(t, 77, shop.Limits.MaxRows)
	require.Equal(t, 500, shop.Limits.MaxAffected)
	require.Equal(t, 1<<20-64<<10, shop.Limits.MaxBody)
	require.Len(t, shop.Kinds, 2)
	require.Equal(t, "query", shop.Kinds[0].Kind)
	require.Equal(t, []string{"read_only"}, shop.Kinds[0].Effects)
	require.Equal(t, "1s", shop.Kinds[0].Timeout)
	require.Equal(t, []string{"at_least_once"}, shop.Kinds[1].Effects, "without a ledger")

	w.request("databases", `{"all":true}`).refused(t, "400", "invalid_body")
	w.request("health.shop", `x`).refused(t, "400", "invalid_body")
}

func TestServiceHealth(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop"), withDatabase("gone", "sqlite", "/nosuch/folder/gone.db")))
	type health struct {
		Runner   string   `json:"runner"`
		Database string   `json:"database"`
		Verdict  string   `json:"verdict"`
		Reasons  []string `json:"reasons"`
		Checks   struct {
			Query *struct{} `json:"query"`
		} `json:"checks"`
	}
	w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`)
	var up, down health
	w.request("health.shop", "").into(t, &up)
	require.Equal(t, "r1", up.Runner)
	require.Equal(t, "shop", up.Database)
	require.Equal(t, "healthy", up.Verdict)
	require.NotNil(t, up.Checks.Query)
	w.request("health.gone", "").into(t, &down)
	require.Equal(t, "unhealthy", down.Verdict)
	require.NotEmpty(t, down.Reasons)
}

// TestMixedFleetAnswersForWhatItHas: a runner without a database takes no request from one that has it, and one runner
// says so when none has it.
func TestMixedFleetAnswersForWhatItHas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "shop.db")
	w.start(w.config("r1", withDatabase("shop", "sqlite", file)))
	w.start(w.config("r2", withSQLite(t, "audit")))
	w.start(w.config("r3", withSQLite(t, "audit")))
	for range 20 {
		var h struct {
			Runner string `json:"runner"`
		}
		w.request("health.shop", "").into(t, &h)
		require.Equal(t, "r1", h.Runner)
		require.Equal(t, "succeeded", parse(t, w.request("run.audit.query", `{"sql":"SELECT 1 AS n"}`).body).Status)
	}
	for _, path := range []string{"health.nosuch", "run.nosuch.query", "cancel.nosuch.a1"} {
		got := w.request(path, "").refused(t, "404", "unknown_database")
		require.Equal(t, "nosuch", got.Database)
	}
	w.request("health", "").refused(t, "400", "invalid_subject")
	w.request("health.a+b", "").refused(t, "400", "invalid_subject")
	w.request("run.shop", "").refused(t, "400", "invalid_subject")
	w.request("run.shop.query.more", "").refused(t, "400", "invalid_subject")
	w.request("nosuch", "").refused(t, "404", "unknown_request")
	_, err := w.nc.Request("dbrunner.api.databases.nosuch", nil, testTimeout)
	require.ErrorIs(t, err, nats.ErrNoResponders)

	answers := w.gather("dbrunner.api.databases", 2)
	require.NotEqual(t, answers[0], answers[1], "one answer for each set of databases")
}

func TestRunEndpointRunsJobs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	run := func(kind, body string, headers ...string) *result {
		t.Helper()
		got := w.request("run.shop."+kind, body, headers...)
		require.Empty(t, got.code, "%s %s", got.text, got.body)
		r := parse(t, got.body)
		require.JSONEq(t, string(w.stored("shop", r.JobID)), string(got.body), "the answer is the stored result")
		return r
	}
	require.Equal(t, "succeeded", run("transaction", `{"id":"create",`+createAccounts+`}`).Status)
	require.Equal(t, "named", run("query", `{`+balances+`}`, "Nats-Msg-Id", "named").JobID)
	require.Regexp(t, "^api-", run("query", `{`+balances+`}`).JobID)
	require.Equal(t, "body", run("query", `{"id":"body",`+balances+`}`, "Nats-Msg-Id", "header").JobID)

	rejected := run("query", `{"sqll":"SELECT 1"}`)
	require.Equal(t, "rejected", rejected.Status)
	require.Equal(t, "rejected", run("query", `no JSON`).Status)
	require.Equal(t, "rejected", run("query", ``).Status)
	require.Equal(t, "failed", run("query", `{"sql":"SELECT * FROM nosuch"}`).Status)

	again := w.request("run.shop.transaction", `{"id":"create",`+createAccounts+`}`)
	require.Equal(t, "succeeded", parse(t, again.body).Status, "within the stream's window")
	w.request("run.shop.query", `{"id":"s1_abc","sql":"SELECT 1"}`).refused(t, "400", "invalid_id")
	w.request("run.shop.query", `{"sql":"SELECT 1"}`, "Nats-Msg-Id", "a b").refused(t, "400", "invalid_id")
	w.request("run.shop.query", `{"answer":"reply","reply_to":"_INBOX.x","sql":"SELECT 1"}`).refused(t, "400", "invalid_value")
	w.request("run.shop.nosuch", `{}`).refused(t, "404", "kind_not_allowed")
	for _, wait := range []string{"soon", "0s", "-1s", "6m"} {
		w.request("run.shop.query", `{"sql":"SELECT 1"}`, "Dbrunner-Wait", wait).refused(t, "400", "invalid_header")
	}
	big := make([]byte, 1<<20-32<<10)
	for i := range big {
		big[i] = 'x'
	}
	w.request("run.shop.query", string(big)).refused(t, "413", "body_too_large")
}

// TestRunEndpointRejectsAnotherRequestsResult: an id that was used before the stream's window has the first request's result.
func TestRunEndpointRejectsAnotherRequestsResult(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop"), func(cfg *config.Config) { cfg.Topology.Jobs.DuplicateWindow = 100 * time.Millisecond }))
	w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`)
	var same, other reply
	require.Eventually(t, func() bool { // the window passes
		same = w.request("run.shop.query", `{"id":"q1","sql":"SELECT 1 AS n"}`)
		return same.code == "" && parse(t, same.body).Duplicate
	}, testTimeout, 50*time.Millisecond)
	require.Eventually(t, func() bool {
		other = w.request("run.shop.query", `{"id":"q1","sql":"SELECT 2 AS n"}`)
		return other.code != ""
	}, testTimeout, 50*time.Millisecond)
	other.refused(t, "409", "job_id_reused")
}

func TestRunEndpointAnswersInTime(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t))))
	body := `{"id":"slow","sql":"SELECT 7 AS n FROM pg_sleep(1.5)"}`
	late := w.request("run.shop.query", body, "Dbrunner-Wait", "200ms").refused(t, "504", "no_result_yet")
	require.Equal(t, "slow", late.JobID)
	require.True(t, late.Error.Retryable)
	require.Equal(t, "succeeded", parse(t, w.request("run.shop.query", body, "Dbrunner-Wait", "30s").body).Status)

	named := w.request("run.shop.query", `{"sql":"SELECT 7 AS n FROM pg_sleep(1)"}`, "Dbrunner-Wait", "100ms").refused(t, "504", "no_result_yet")
	again := w.request("run.shop.query", `{"sql":"SELECT 7 AS n FROM pg_sleep(1)"}`, "Dbrunner-Wait", "30s", "Nats-Msg-Id", named.JobID)
	require.Equal(t, named.JobID, parse(t, again.body).JobID)
}

func TestRunEndpointIsLimitedAndCanBeDisabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	runner := w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t)), func(cfg *config.Config) {
		cfg.API.MaxRequests = 1
		cfg.Topology.Jobs.MaxMessages, cfg.Topology.Jobs.MaxMessagesPerKind = 2, 1
	}))
	inbox, sub := w.inbox()
	slow := natsMsg("dbrunner.api.run.shop.query", "Dbrunner-Wait", "30s")
	slow.Reply, slow.Data = inbox, []byte(`{"id":"slow","sql":"SELECT 1 AS n FROM pg_sleep(30)"}`)
	require.NoError(t, w.nc.PublishMsg(slow))
	require.Eventually(t, func() bool { return w.waiting("shop") == 1 }, testTimeout, 10*time.Millisecond)
	require.Equal(t, "503", w.request("run.shop.query", `{"sql":"SELECT 1"}`).code, "one at a time")
	w.request("health.shop", "") // not crowded out

	var cancelled struct{ Outcome string }
	w.request("cancel.shop.slow", "", "Dbrunner-Wait", "20s").into(t, &cancelled)
	require.Equal(t, "cancelled", cancelled.Outcome)
	require.Equal(t, "cancelled", w.next(sub).Status, "the requester of the run endpoint gets it")
	runner.end(t)

	w.start(w.config("r2", withDatabase("shop", "postgres", dbtest.Postgres(t)), func(cfg *config.Config) {
		cfg.API.Run = false
		cfg.Topology.Jobs.MaxMessages, cfg.Topology.Jobs.MaxMessagesPerKind = 2, 1
	}))
	w.request("run.shop.query", `{"sql":"SELECT 1"}`).refused(t, "403", "run_disabled")
}

func TestRunEndpointReportsAFullQueue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("gone", "sqlite", "/nosuch/folder/gone.db"), func(cfg *config.Config) {
		cfg.Topology.Jobs.MaxMessages, cfg.Topology.Jobs.MaxMessagesPerKind = 2, 1
	}))
	w.request("run.gone.query", `{"id":"one","sql":"SELECT 1"}`, "Dbrunner-Wait", "50ms").refused(t, "504", "no_result_yet")
	full := w.request("run.gone.query", `{"id":"two","sql":"SELECT 1"}`).refused(t, "503", "queue_full")
	require.True(t, full.Error.Retryable)
}

// TestServiceAnswersOnlyToTheRequestersInbox: a runner's permissions exceed a requester's.
func TestServiceAnswersOnlyToTheRequestersInbox(t *testing.T) {
	t.Parallel()
	w := setup(t)
	runner := w.start(w.config("r1", withSQLite(t, "shop")))
	for _, reply := range []string{
		"dbrunner.store.shop.victim", "dbrunner.jobs.shop.query", "$KV.DBRUNNER_STATE.pause.shop", "_INBOX_dbrunner.x",
	} {
		require.NoError(t, w.nc.PublishRequest("dbrunner.api.run.shop.query", reply, []byte(`{"id":"forged","sql":"SELECT 1 AS n"}`)))
	}
	require.NoError(t, w.nc.Publish("dbrunner.api.run.shop.query", []byte(`{"id":"forged","sql":"SELECT 1 AS n"}`)))
	require.Eventually(t, func() bool {
		return runner.logs.FilterMessage("request rejected; nothing done").Len() == 5
	}, testTimeout, 10*time.Millisecond)
	w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`)
	require.Nil(t, w.stored("shop", "victim"))
	require.Nil(t, w.stored("shop", "forged"))
	elsewhere := w.nc.NewInbox()
	own, err := w.nc.SubscribeSync("requester.of.mine." + elsewhere)
	require.NoError(t, err)
	require.NoError(t, w.nc.PublishRequest("dbrunner.api.run.shop.query", own.Subject, []byte(`{"id":"own","sql":"SELECT 1 AS n"}`)))
	require.Equal(t, "own", w.next(own).JobID, "any inbox of a requester's own will do")
}

func TestRunEndpointRequestOutlivesItsRunner(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dsn := dbtest.Postgres(t)
	first := w.start(w.config("r1", withDatabase("shop", "postgres", dsn), func(cfg *config.Config) { cfg.Worker.DrainTimeout = 50 * time.Millisecond }))
	inbox, sub := w.inbox()
	slow := natsMsg("dbrunner.api.run.shop.query", "Dbrunner-Wait", "1m")
	slow.Reply, slow.Data = inbox, []byte(`{"id":"slow","sql":"SELECT 1 AS n FROM pg_sleep(2)"}`)
	require.NoError(t, w.nc.PublishMsg(slow))
	require.Eventually(t, func() bool { return w.waiting("shop") == 1 }, testTimeout, 10*time.Millisecond)
	first.end(t)
	m, err := sub.NextMsg(testTimeout)
	require.NoError(t, err)
	reply{code: m.Header.Get(micro.ErrorCodeHeader), text: m.Header.Get(micro.ErrorHeader), body: m.Data}.refused(t, "504", "no_result_yet")
	w.start(w.config("r2", withDatabase("shop", "postgres", dsn)))
	require.Equal(t, "succeeded", parse(t, w.request("run.shop.query", string(slow.Data), "Dbrunner-Wait", "20s").body).Status)
}
