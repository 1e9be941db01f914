package app_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"dbrunner/internal/app"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// Every counter matches what happened.
func TestMetricsMatchTheJobs(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			r := w.start(w.config("r1", database(t), withHTTP))
			r.expect(t, map[string]float64{
				"dbrunner_ready ": 1, "dbrunner_draining ": 0, "dbrunner_nats_connected ": 1, "dbrunner_nats_reconnects_total ": 0,
				"dbrunner_build_info runner=r1,version=test":                            1,
				"dbrunner_database_info database=shop,engine=" + name:                   1,
				"dbrunner_database_up database=shop":                                    1,
				"dbrunner_jobs_total database=shop,kind=query,status=succeeded,code=":   0,
				"dbrunner_queue_waiting database=shop,lane=work":                        0,
				"dbrunner_queue_oldest_age_seconds database=shop":                       0,
				"dbrunner_dead_letters_kept ":                                           0,
				"dbrunner_lane_slots database=shop,lane=work":                           64,
				"dbrunner_lane_slots_in_use database=shop,lane=work":                    0,
				"dbrunner_pool_max_connections database=shop":                           4,
				"dbrunner_dead_letters_evicted_total ":                                  0,
				"dbrunner_deliveries_total database=shop,disposition=settled,lane=work": 0,
				"dbrunner_jobs_total status=failed":                                     -1,
			})
			mixedWork(t, w)
			r.expect(t, map[string]float64{
				"dbrunner_jobs_total database=shop,kind=query,status=succeeded,code=":                   3,
				"dbrunner_jobs_total database=shop,kind=transaction,status=succeeded,code=":             2,
				"dbrunner_jobs_total database=shop,kind=query,status=rejected,code=unknown_key":         1,
				"dbrunner_jobs_total database=shop,kind=transaction,status=failed,code=check_violation": 1,
				"dbrunner_jobs_total database=shop,kind=transaction,status=rejected,code=job_id_reused": 1,
				"dbrunner_jobs_total ": 8,
				"dbrunner_job_duplicates_total database=shop,kind=transaction":                    2,
				"dbrunner_ledger_duplicates_total database=shop,kind=transaction":                 2, // one with the same request, one with another
				"dbrunner_dead_letters_total database=shop,kind=query,reason=rejected":            1,
				"dbrunner_dead_letters_total database=shop,kind=transaction,reason=failed":        1,
				"dbrunner_dead_letters_total database=shop,kind=transaction,reason=job_id_reused": 1,
				"dbrunner_job_execution_duration_seconds kind=query,status=succeeded":             3,
				"dbrunner_job_execution_duration_seconds kind=transaction,status=failed":          1,
				"dbrunner_job_queue_duration_seconds kind=transaction":                            4,
				"dbrunner_job_duration_seconds kind=query":                                        4,
				"dbrunner_deliveries_total disposition=settled,lane=work":                         10,
				"dbrunner_deliveries_total disposition=lease_lost,lane=work":                      0,
				"dbrunner_job_retries_total ":                                                     0,
				"dbrunner_jobs_redelivered_total ":                                                0,
				"dbrunner_lane_slots_in_use lane=work":                                            0,
			})
			require.Positive(t, r.scrape(t).value("dbrunner_pool_acquires_total", "database=shop"))
		})
	}
}

// mixedWork has jobs succeed, fail, be refused, and come again. Two duplicates are detected by the ledger and by the
// stored result.
func mixedWork(t *testing.T, w *world) {
	t.Helper()
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createAccounts).Status)
	for i := range 3 {
		require.Equal(t, "succeeded", w.do("shop", "query", fmt.Sprint("q", i), balances).Status)
	}
	require.Equal(t, "rejected", w.do("shop", "query", "bad", `"sql":"SELECT 1","limit":3`).Status)
	require.Equal(t, "failed", w.do("shop", "transaction", "broke",
		`"statements":[{"sql":"UPDATE accounts SET balance = -1"}]`).Status)
	inbox, sub := w.inbox()
	again := fmt.Sprintf(`{"id":"t1","reply_to":%q,%s}`, inbox, transfer)
	w.publish("shop", "transaction", again)
	require.False(t, w.next(sub).Duplicate)
	w.publish("shop", "transaction", again)
	require.True(t, w.next(sub).Duplicate)
	w.publish("shop", "transaction", fmt.Sprintf(`{"id":"t1","reply_to":%q,%s}`, inbox, createAccounts))
	require.Equal(t, "rejected", w.next(sub).Status)
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("dbrunner.results.shop.t1")))
	w.publish("shop", "transaction", again)
	require.True(t, w.next(sub).Duplicate, "the ledger knows")
}

// Ready is who can run jobs: not without its database, not without NATS.
func TestReadinessFollowsTheDatabases(t *testing.T) {
	t.Parallel()
	w := setup(t)
	server := dbtest.StartPostgres(t)
	connection := server.Database(t)
	r := w.start(w.config("r1", withDatabase("shop", "postgres", connection), withHTTP))
	r.becomes(t, http.StatusOK, `"ready":true`, `"state":"running"`)

	server.Stop(t, dbtest.StopFast)
	w.publish("shop", "query", `{"id":"q1","sql":"SELECT 1 AS n"}`)
	r.becomes(t, http.StatusServiceUnavailable, `"ready":false`, `database shop: `)
	r.expect(t, map[string]float64{"dbrunner_ready ": 0, "dbrunner_database_up database=shop": 0})
	status, _ := r.get(t, "/healthz")
	require.Equal(t, http.StatusOK, status, "the process is healthy: a restart would not help")

	server.Start(t)
	r.becomes(t, http.StatusOK, `"ready":true`)
	require.Equal(t, "succeeded", w.await("shop", "q1").Status)

	w.node.Stop()
	r.becomes(t, http.StatusServiceUnavailable, "NATS is not connected")
	w.node.Restart()
	r.becomes(t, http.StatusOK, `"ready":true`)
	r.expect(t, map[string]float64{"dbrunner_nats_connected ": 1, "dbrunner_nats_reconnects_total ": 1})
}

// One database that answers is enough: the others are named.
func TestReadyWithOneDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "up"), withDatabase("down", "postgres", "postgres://stranger@127.0.0.1:1/none"), withHTTP))
	r.becomes(t, http.StatusOK, `"ready":true`, "database down: ")
}

// becomes waits for an answer of /readyz that has all words.
func (r *runner) becomes(t *testing.T, status int, words ...string) {
	t.Helper()
	var last string
	if !wait(testTimeout, func() bool {
		have, body := r.get(t, "/readyz")
		last = fmt.Sprint(have, " ", body)
		for _, word := range words {
			if !strings.Contains(body, word) {
				return false
			}
		}
		return have == status
	}) {
		require.Failf(t, "not ready as wanted", "want %d %q, have %s", status, words, last)
	}
}

// While what runs is finished, the runner reports that it takes no more; then the port is closed.
func TestNotReadyWhileDraining(t *testing.T) {
	t.Parallel()
	w := setup(t)
	connection := dbtest.Postgres(t)
	r := w.start(w.config("r1", withDatabase("shop", "postgres", connection), withDatabase("eyes", "postgres", connection), withHTTP))
	r.becomes(t, http.StatusOK, `"ready":true`)
	w.publish("shop", "query", `{"id":"slow","sql":"SELECT count(*) AS n FROM pg_sleep(3)"}`)
	w.awaitSleeper("eyes")
	r.stop()
	r.becomes(t, http.StatusServiceUnavailable, `"ready":false`, `"state":"draining"`)
	r.expect(t, map[string]float64{"dbrunner_ready ": 0, "dbrunner_draining ": 1, "dbrunner_lane_slots_in_use database=shop,lane=work": 1})
	r.end(t)
	require.Equal(t, "succeeded", w.await("shop", "slow").Status)
	status, _ := r.get(t, "/readyz")
	require.Zero(t, status, "the port is closed")
}

// Scrapes and jobs do not wait for each other.
func TestScrapeUnderLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop"), withHTTP))
	const count = 1500
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := range count {
			_, _ = w.js.PublishAsync("dbrunner.jobs.shop.query", fmt.Appendf(nil, `{"id":"q%d","sql":"SELECT 1 AS n"}`, i))
		}
		<-w.js.PublishAsyncComplete()
	}()
	var scrapers sync.WaitGroup
	for range 3 {
		scrapers.Go(func() {
			for range 20 {
				status, _ := r.get(t, "/metrics")
				if status != http.StatusOK {
					t.Errorf("a scrape under load: status %d", status)
				}
			}
		})
	}
	scrapers.Wait()
	<-published
	r.expect(t, map[string]float64{"dbrunner_jobs_total kind=query,status=succeeded": count, "dbrunner_job_duration_seconds kind=query": count})
}

// The level of the log is changed while the runner runs; profiles are there when they were asked for.
func TestOptionalEndpointsEnabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	level := zap.NewAtomicLevelAt(zapcore.InfoLevel)
	r := w.startWith(app.Options{Config: w.config("r1", withSQLite(t, "shop"), withHTTP), Level: &level})
	url := r.url(t, "/loglevel")
	_, body := fetch(t, http.MethodGet, url, "")
	require.JSONEq(t, `{"level":"info"}`, body)
	status, _ := fetch(t, http.MethodPut, url, "level=debug")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, zapcore.DebugLevel, level.Level())
	require.Equal(t, 1, r.logs.FilterMessage("log level changed").Len())
	status, _ = fetch(t, http.MethodPut, url, "level=loud")
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, zapcore.DebugLevel, level.Level())
	status, _ = r.get(t, "/debug/pprof/goroutine?debug=1")
	require.Equal(t, http.StatusOK, status)
}

func TestOptionalEndpointsDisabled(t *testing.T) {
	t.Parallel()
	w := setup(t)
	level := zap.NewAtomicLevelAt(zapcore.InfoLevel)
	r := w.startWith(app.Options{Level: &level, Config: w.config("r1", withSQLite(t, "shop"), func(cfg *config.Config) {
		cfg.HTTP.Address = "127.0.0.1:0"
	})})
	for _, path := range []string{"/loglevel", "/debug/pprof/", "/debug/pprof/heap", "/debug/vars", "/"} {
		status, _ := r.get(t, path)
		require.Equal(t, http.StatusNotFound, status, path)
	}
	status, _ := fetch(t, http.MethodPost, r.url(t, "/metrics"), "a=b")
	require.Equal(t, http.StatusMethodNotAllowed, status)
}

// A port that is taken ends the start with its key.
func TestPortIsTaken(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first := w.start(w.config("r1", withSQLite(t, "shop"), withHTTP))
	address := strings.TrimPrefix(first.url(t, ""), "http://")
	second := w.launch(app.Options{Config: w.config("r2", withSQLite(t, "shop"), func(cfg *config.Config) { cfg.HTTP.Address = address })})
	err := second.fails(t)
	require.ErrorContains(t, err, "http.address "+address)
	var fault *manager.ConfigError
	require.ErrorAs(t, err, &fault)
}

// The lines of one job are found by its id, database, kind and trace id: the publisher's, also without traces of our own.
func TestLogLinesOfOneJob(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop")))
	m := natsMsg("dbrunner.jobs.shop.query", "traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	m.Data = []byte(`{"id":"q1","sql":"SELECT n FROM missing WHERE secret = 'canary'"}`)
	_, err := w.js.PublishMsg(t.Context(), m)
	require.NoError(t, err)
	require.Equal(t, "failed", w.await("shop", "q1").Status)
	require.True(t, wait(testTimeout, func() bool { return r.logs.FilterMessage("job ended").Len() == 1 }))
	entry := r.logs.FilterMessage("job ended").All()[0]
	require.Equal(t, zapcore.InfoLevel, entry.Level)
	fields := entry.ContextMap()
	for name, want := range map[string]any{
		"job_id": "q1", "database": "shop", "lane": "work", "kind": "query", "status": "failed", "code": "undefined_object",
		"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "attempts": uint64(1), "deliveries": uint64(1),
	} {
		require.Equal(t, want, fields[name], name)
	}
	require.NotContains(t, fmt.Sprint(r.logs.All()), "canary")
	require.Equal(t, "succeeded", w.do("shop", "query", "q2", `"sql":"SELECT 1 AS n"`).Status)
	require.True(t, wait(testTimeout, func() bool { return r.logs.FilterMessage("job ended").FilterLevelExact(zapcore.DebugLevel).Len() == 1 }))
}

// A session names its job while it runs, where that is configured.
func TestSessionNamesItsJob(t *testing.T) {
	t.Parallel()
	w := setup(t)
	connection := dbtest.Postgres(t)
	w.start(w.config("r1", withDatabase("eyes", "postgres", connection),
		withDatabase("shop", "postgres", connection, func(d *config.Database) { d.Settings = map[string]string{"label_sessions": "true"} })))
	w.publish("shop", "query", `{"id":"order-4711","sql":"SELECT count(*) AS n FROM pg_sleep(2)"}`)
	w.awaitSleeper("eyes")
	got := w.do("eyes", "query", "who", `"row_format":"arrays","sql":"SELECT application_name FROM pg_stat_activity `+
		`WHERE datname = current_database() AND state = 'active' AND query LIKE '%FROM pg_sleep(%' AND pid <> pg_backend_pid()"`)
	require.Equal(t, []any{[]any{"dbrunner:order-4711"}}, got.Rows)
	require.Equal(t, "succeeded", w.await("shop", "order-4711").Status)
}
