package app_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/app"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/manager"
)

// engines are the databases that the whole way is tested on.
func engines() map[string]func(*testing.T) func(*config.Config) {
	return map[string]func(*testing.T) func(*config.Config){
		"sqlite":   func(t *testing.T) func(*config.Config) { return withSQLite(t, "shop") },
		"postgres": func(t *testing.T) func(*config.Config) { return withDatabase("shop", "postgres", dbtest.Postgres(t)) },
	}
}

const createAccounts = `"statements":[
	{"sql":"CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0))"},
	{"sql":"INSERT INTO accounts VALUES (1, 100), (2, 100)"}]`

const transfer = `"statements":[
	{"sql":"UPDATE accounts SET balance = balance - :n WHERE id = 1","params":{"n":10},"expect_rows":1},
	{"sql":"UPDATE accounts SET balance = balance + :n WHERE id = 2","params":{"n":10},"expect_rows":1}]`

const balances = `"sql":"SELECT balance FROM accounts ORDER BY id","row_format":"arrays"`

func TestWholeWay(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			r := w.start(w.config("r1", database(t)))
			wholeWay(t, w)
			r.end(t)
			require.Zero(t, w.waiting("shop"), "every job is acknowledged")
		})
	}
}

func wholeWay(t *testing.T, w *world) {
	t.Helper()
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create", createAccounts).Status)

	query := w.do("shop", "query", "q1", balances)
	require.Equal(t, "succeeded", query.Status)
	require.Equal(t, "read_only", query.Effect)
	require.Equal(t, "r1", query.Runner)
	require.Equal(t, []any{[]any{100.0}, []any{100.0}}, query.Rows)

	first := w.do("shop", "transaction", "t1", transfer)
	require.Equal(t, "succeeded", first.Status)
	require.Equal(t, "exactly_once", first.Effect)
	require.Len(t, first.Sets, 2)

	inbox, sub := w.inbox()
	w.publish("shop", "transaction", fmt.Sprintf(`{"id":"t1","reply_to":%q,%s}`, inbox, transfer))
	again := w.next(sub)
	require.Equal(t, "succeeded", again.Status)
	require.True(t, again.Duplicate)
	require.Equal(t, []any{[]any{90.0}, []any{110.0}}, w.do("shop", "query", "q2", balances).Rows, "the effect is there once")

	w.publish("shop", "transaction", fmt.Sprintf(`{"id":"t1","reply_to":%q,%s}`, inbox, createAccounts))
	reused := w.next(sub)
	require.Equal(t, "rejected", reused.Status)
	require.Equal(t, "job_id_reused", reused.Error.Code)
	require.Equal(t, "succeeded", w.await("shop", "t1").Status, "the first result is untouched")

	rejected := w.do("shop", "query", "bad", `"sqll":"SELECT 1","timeout":"soon"`)
	require.Equal(t, "rejected", rejected.Status)
	require.Len(t, rejected.Error.Faults, 3)

	failed := w.do("shop", "transaction", "broke", `"statements":[
		{"sql":"UPDATE accounts SET balance = balance + 500 WHERE id = 2"},
		{"sql":"UPDATE accounts SET balance = balance - 500 WHERE id = 1"}]`)
	require.Equal(t, "failed", failed.Status)
	require.Equal(t, "check_violation", failed.Error.Code)
	require.Equal(t, []any{[]any{90.0}, []any{110.0}}, w.do("shop", "query", "q3", balances).Rows, "nothing of it is left")

	w.publish("shop", "query", fmt.Sprintf(`{"id":"q4","reply_to":%q,%s}`, inbox, balances))
	replied := w.next(sub)
	require.Equal(t, "q4", replied.JobID)
	require.Equal(t, "succeeded", replied.Status)
	require.False(t, replied.Duplicate)
	require.Equal(t, "succeeded", w.await("shop", "q4").Status, "it is stored all the same")

	_, err := w.js.Publish(t.Context(), "dbrunner.jobs.shop.backup", []byte(`{}`), jetstream.WithRetryAttempts(0))
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse, "a kind that is not there yet is refused at the publisher")

	requireDeadLetters(t, w, map[string]string{"t1": "job_id_reused", "bad": "rejected", "broke": "failed"})
}

// requireDeadLetters checks the dead letters: reason by job id, and that nothing else is there.
func requireDeadLetters(t *testing.T, w *world, want map[string]string) {
	t.Helper()
	runners, err := client.New(w.nc, client.Options{})
	require.NoError(t, err)
	have := map[string]string{}
	require.NoError(t, runners.DeadLetters(t.Context(), client.DeadLetterFilter{}, func(l *client.DeadLetter) error {
		have[l.JobID()] = l.Reason()
		return nil
	}))
	require.Equal(t, want, have)
}

// clientOn is a client on the connection of one of the users.
func clientOn(t *testing.T, conn *bus.Conn) *client.Client {
	t.Helper()
	c, err := client.New(conn.NATS(), client.Options{})
	require.NoError(t, err)
	return c
}

// oldestDeadLetter waits for a dead letter of the database shop.
func oldestDeadLetter(t *testing.T, runners *client.Client) (oldest *client.DeadLetter) {
	t.Helper()
	enough := errors.New("found")
	require.Eventually(t, func() bool {
		err := runners.DeadLetters(t.Context(), client.DeadLetterFilter{Database: "shop"}, func(l *client.DeadLetter) error {
			oldest = l
			return enough
		})
		return errors.Is(err, enough)
	}, testTimeout, 5*time.Millisecond)
	return oldest
}

// A job without a body and with the header of a status message is a job like any other bad one.
func TestStatusHeaderIsNoStatus(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	sub, err := w.nc.SubscribeSync("dbrunner.results.shop.*")
	require.NoError(t, err)
	for _, status := range []string{"100", "404", "408", "409", "503"} {
		msg := natsMsg("dbrunner.jobs.shop.query", "Status", status, "Description", "Consumer Deleted")
		_, err := w.js.PublishMsg(t.Context(), msg)
		require.NoError(t, err)
		got := w.next(sub)
		require.Equal(t, "rejected", got.Status)
		require.Regexp(t, `^s\d+_[0-9a-z]+$`, got.JobID)
	}
	require.Equal(t, "succeeded", w.do("shop", "query", "after", `"sql":"SELECT 1 AS n"`).Status)
}

// A job's own headers cannot replace a runner's headers in a dead letter; they are kept under other names.
func TestDeadLetterHeadersAreTheRunners(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	msg := natsMsg("dbrunner.jobs.shop.query", "Nats-Msg-Id", "real", "Dbrunner-Job-Id", "forged", "dbrunner-reason", "forged", "Traceparent", "00-a-b-01")
	msg.Data = []byte(`{"nosuch":1}`)
	_, err := w.js.PublishMsg(t.Context(), msg)
	require.NoError(t, err)
	require.Equal(t, "rejected", w.await("shop", "real").Status, "the id in the header counts where the body has none")
	runners, err := client.New(w.nc, client.Options{})
	require.NoError(t, err)
	deadLetter := oldestDeadLetter(t, runners)
	require.Equal(t, []string{"real"}, deadLetter.Headers[contract.HeaderJobID])
	require.Equal(t, []string{"rejected"}, deadLetter.Headers[contract.HeaderReason])
	require.Equal(t, []string{"forged"}, deadLetter.Headers[contract.HeaderOriginal+"Dbrunner-Job-Id"])
	require.Equal(t, []string{"00-a-b-01"}, deadLetter.Headers["Traceparent"])
	require.Equal(t, msg.Data, deadLetter.Body)
}

func TestDatabaseDownAtStart(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	down := server.Database(t)
	server.Stop(t, dbtest.StopFast)
	w := setup(t)
	cfg := w.config("r1", withDatabase("down", "postgres", down), withSQLite(t, "up"))
	w.start(cfg)

	h := w.awaitHeartbeat("r1", func(h *heartbeat) bool {
		return h.State == "running" && h.Databases[0].State == "down" && h.Databases[1].State == "up"
	})
	require.Equal(t, "down", h.Databases[0].Name)
	require.NotEmpty(t, h.Databases[0].Reason)
	require.Equal(t, "test", h.Build)

	w.publish("down", "query", `{"id":"q1","sql":"SELECT 1 AS n"}`)
	require.Equal(t, "succeeded", w.do("up", "query", "q1", `"sql":"SELECT 1 AS n"`).Status, "others do not notice")
	require.Nil(t, w.stored("down", "q1"))

	strict := w.launch(app.Options{Config: w.config("r2", withDatabase("down", "postgres", down)), Strict: true})
	require.ErrorContains(t, strict.fails(t), "database down")

	server.Start(t)
	require.Equal(t, "succeeded", w.await("down", "q1").Status, "it waited for its database")
	w.awaitHeartbeat("r1", func(h *heartbeat) bool {
		return h.Databases[0].State == "up" && h.Databases[0].Lanes[0].Jobs["succeeded"] == 1
	})
}

func TestConfigurationFaultsEndTheStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.config("r1",
		withDatabase("one", "postgres", "postgres://u:geheim@h:port/x"),
		withDatabase("two", "postgres", "postgres://u@h/x", func(d *config.Database) { d.Settings = map[string]string{"nosuch": "1"} }))
	err := w.launch(app.Options{Config: cfg}).fails(t)
	fault, ok := errors.AsType[*manager.ConfigError](err)
	require.True(t, ok)
	require.ErrorContains(t, fault, "databases.one")
	require.ErrorContains(t, fault, "databases.two")
	require.NotContains(t, err.Error(), "geheim")
	_, err = w.js.Stream(t.Context(), "DBRUNNER_JOBS_one")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound, "nothing was created")
}

func TestTopologyDifferenceEndsTheStart(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := withSQLite(t, "shop")
	w.start(w.config("r1", file)).end(t)
	changed := w.config("r1", file, func(cfg *config.Config) { cfg.Topology.Results.MaxAge = time.Hour })
	err := w.launch(app.Options{Config: changed}).fails(t)
	var difference *topology.Error
	require.ErrorAs(t, err, &difference)
	for _, part := range []string{"DBRUNNER_RESULTS_shop", "max_age", "24h0m0s", "1h0m0s", "runner topology apply"} {
		require.ErrorContains(t, err, part)
	}
}

func TestVerifyCreatesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := withSQLite(t, "shop")
	verify := w.config("r1", file, func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify })
	err := w.launch(app.Options{Config: verify}).fails(t)
	require.ErrorContains(t, err, "stream DBRUNNER_JOBS_shop is missing")
	_, err = w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)

	w.start(w.config("r1", file)).end(t)
	w.start(verify)
	require.Equal(t, "succeeded", w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`).Status)
}

// SIGTERM with work under way: what runs is finished and answered, what was not started is requeued immediately.
func TestDrain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	database := dbtest.Postgres(t)
	one := func(d *config.Database) { d.Pool.Min, d.Pool.Max, d.Slots = 1, 1, 8 }
	r := w.start(w.config("r1", withDatabase("shop", "postgres", database, one), withDatabase("watch", "postgres", database)))
	w.publish("shop", "query", `{"id":"slow","sql":"SELECT count(*) AS n FROM pg_sleep(5)"}`)
	w.awaitSleeper("watch")
	for i := range 6 {
		w.publish("shop", "query", fmt.Sprintf(`{"id":"quick%d","sql":"SELECT 1 AS n"}`, i))
	}
	w.awaitHeld("shop", 4) // the slow one and what waits for its connection

	r.end(t)
	require.Equal(t, "succeeded", parse(t, w.stored("shop", "slow")).Status, "what ran was finished")
	require.Equal(t, 6, w.waiting("shop"), "unstarted jobs are in the queue")
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.State == "stopped" })

	handed := time.Now()
	w.start(w.config("r2", withDatabase("shop", "postgres", database)))
	for i := range 6 {
		got := w.await("shop", fmt.Sprintf("quick%d", i))
		require.Equal(t, "succeeded", got.Status)
		require.Equal(t, "r2", got.Runner)
	}
	require.Less(t, time.Since(handed), 5*time.Second, "nothing waited for its lease to run out, which takes 10 s")
}

// What does not end in time is stopped in the database and requeued.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	w := setup(t)
	database := dbtest.Postgres(t)
	cfg := w.config("r1", withDatabase("shop", "postgres", database), withDatabase("watch", "postgres", database),
		func(cfg *config.Config) { cfg.Worker.DrainTimeout = 300 * time.Millisecond })
	r := w.start(cfg)
	w.publish("shop", "transaction", `{"id":"endless","statements":[{"sql":"SELECT count(*) FROM pg_sleep(600)"}]}`)
	w.awaitSleeper("watch")
	started := time.Now()
	r.end(t)
	require.Less(t, time.Since(started), 10*time.Second)
	require.Nil(t, w.stored("shop", "endless"))
	require.Equal(t, 1, w.waiting("shop"))
}

// Load over a restart of the server: nothing is lost, and effects are there once.
func TestRestartOfNATSUnderLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withSQLite(t, "shop")))
	require.Equal(t, "succeeded", w.do("shop", "transaction", "create",
		`"statements":[{"sql":"CREATE TABLE effects (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)"},{"sql":"INSERT INTO effects VALUES (1, 0)"}]`).Status)
	const jobs = 200
	for i := range jobs {
		w.publish("shop", "transaction", fmt.Sprintf(`{"id":"j%d","statements":[{"sql":"UPDATE effects SET n = n + 1 WHERE id = 1"}]}`, i))
		if i == jobs/2 {
			w.node.Restart()
			require.Eventually(t, func() bool {
				_, err := w.js.AccountInfo(context.Background())
				return err == nil
			}, testTimeout, 10*time.Millisecond)
		}
	}
	for i := range jobs {
		require.Equal(t, "succeeded", w.await("shop", fmt.Sprintf("j%d", i)).Status)
	}
	require.Equal(t, []any{[]any{float64(jobs)}}, w.do("shop", "query", "count", `"sql":"SELECT n FROM effects","row_format":"arrays"`).Rows)
}

func TestDemoWorld(t *testing.T) {
	t.Parallel()
	demo, err := app.NewDemo(t.Context(), 0, nil)
	require.NoError(t, err)
	require.NoError(t, demo.Close(t.Context()))
	_, err = os.Stat(filepath.Dir(demo.File))
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestLedgerDDL(t *testing.T) {
	t.Parallel()
	for _, engine := range manager.Engines() {
		ddl, err := manager.LedgerDDL(engine)
		require.NoError(t, err)
		require.Contains(t, ddl, "CREATE TABLE")
	}
	_, err := manager.LedgerDDL("oracle")
	require.ErrorContains(t, err, "oracle")
}

// A runner that is stopped at any moment of its start ends in order.
func TestStopDuringStartup(t *testing.T) {
	t.Parallel()
	w := setup(t)
	cfg := w.config("r1", withSQLite(t, "shop"))
	for i := range 30 {
		a, err := app.New(app.Options{Config: cfg, Logger: zap.NewNop(), Version: "test"})
		require.NoError(t, err)
		ctx, stop := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Duration(i)*3*time.Millisecond, func() { stop(errors.New("SIGTERM")) })
		require.NoError(t, a.Run(ctx), "stopped after %d ms", 3*i)
	}
}
