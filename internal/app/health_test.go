package app_test

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// health is what tests look at in the answer of a health job and in a database's heartbeat.
type health struct {
	Status      string   `json:"status"`
	Process     string   `json:"process"`
	RunnerState string   `json:"runner_state"`
	State       string   `json:"state"`
	Verdict     string   `json:"verdict"`
	Reasons     []string `json:"reasons"`
	Checks      struct {
		Connection, Query *struct {
			Verdict string  `json:"verdict"`
			Latency float64 `json:"latency_seconds"`
		}
		Replication *struct {
			Role     string `json:"role"`
			ReadOnly bool   `json:"read_only"`
		}
		Pool *struct {
			Max     int `json:"max"`
			InUse   int `json:"in_use"`
			Waiting int `json:"waiting"`
		}
		Migrations *struct {
			Current string    `json:"current"`
			Latest  string    `json:"latest"`
			Pending int       `json:"pending"`
			Running *struct{} `json:"running"`
		}
		Jobs *struct{ Verdict string }
	} `json:"checks"`
	Ledger *struct{} `json:"ledger"`
}

// ask publishes a health job and awaits its stored result.
func (w *world) ask(database, id, rest string) *health {
	w.t.Helper()
	w.publish(database, "health", fmt.Sprintf(`{"id":%q%s}`, id, rest))
	w.await(database, id)
	var h health
	require.NoError(w.t, json.Unmarshal(w.stored(database, id), &h))
	require.Equal(w.t, "succeeded", h.Status, "whatever it finds")
	return &h
}

func (w *world) awaitDatabase(database, instance string, wanted func(*health) bool) *health {
	w.t.Helper()
	return awaitLast(w, "dbrunner.health.database."+database+"."+instance, wanted)
}

func withHealth(change func(*config.Health)) func(*config.Database) {
	return func(d *config.Database) {
		d.Health.Interval = time.Second
		change(&d.Health)
	}
}

func TestHealthOfAHealthyDatabase(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			r := w.start(w.config("r1", database(t)))
			// Not only at the very start: a pool that is just being filled is in use.
			w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "healthy" })
			h := w.ask("shop", "h1", "")
			require.Equal(t, "healthy", h.Verdict, "%v", h.Reasons)
			require.Equal(t, []string{}, h.Reasons)
			require.Positive(t, h.Checks.Connection.Latency)
			require.Positive(t, h.Checks.Query.Latency)
			require.False(t, h.Checks.Replication.ReadOnly)
			require.Equal(t, 4, h.Checks.Pool.Max)
			require.Nil(t, h.Checks.Migrations, "none are configured")
			require.Equal(t, "healthy", h.Checks.Jobs.Verdict)

			h = w.ask("shop", "h2", `,"checks":["pool"]`)
			require.NotNil(t, h.Checks.Pool)
			require.Nil(t, h.Checks.Connection)

			inbox, sub := w.inbox()
			w.publish("shop", "health", fmt.Sprintf(`{"id":"h3","answer":"reply","reply_to":%q}`, inbox))
			m, err := sub.NextMsg(testTimeout)
			require.NoError(t, err)
			require.Contains(t, string(m.Data), `"verdict":"healthy"`)
			require.Nil(t, w.stored("shop", "h3"))

			beat := w.awaitDatabase("shop", "r1", func(h *health) bool { return h.RunnerState == "running" && h.Ledger != nil })
			require.Equal(t, "up", beat.State)
			r.end(t)
			w.awaitDatabase("shop", "r1", func(h *health) bool { return h.RunnerState == "stopped" })
		})
	}
}

// A health job is answered while the database is stopped: jobs wait for it, the health lane does not. Heartbeats report the
// change immediately.
func TestHealthOfAStoppedDatabase(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", server.Database(t), func(d *config.Database) {
		d.Health.Interval = time.Hour // immediate reports do not depend on the interval
	}), func(cfg *config.Config) { cfg.Worker.HeartbeatInterval = time.Minute }))
	w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "healthy" })
	server.Stop(t, dbtest.StopImmediate)
	w.publish("shop", "query", `{"id":"q1","sql":"SELECT 1 AS n"}`)
	beat := w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "unhealthy" && h.State == "down" })
	require.Contains(t, strings.Join(beat.Reasons, "\n"), "connection: database shop cannot be reached: the connection was refused")
	require.Contains(t, strings.Join(beat.Reasons, "\n"), "jobs: they wait: ")
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.Databases[0].Verdict == "unhealthy" })

	started := time.Now()
	h := w.ask("shop", "h1", "")
	require.Less(t, time.Since(started), 10*time.Second)
	require.Equal(t, "unhealthy", h.Verdict)
	require.Nil(t, h.Checks.Query)
	require.Nil(t, w.stored("shop", "q1"), "work waits")

	server.Start(t)
	require.Equal(t, "succeeded", w.await("shop", "q1").Status)
	w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "healthy" && h.State == "up" })
}

// A server that takes connections and says nothing: the answer comes within the check's own limit, the job's time limit
// may be as long as it likes.
func TestHealthOfADatabaseThatHangs(t *testing.T) {
	t.Parallel()
	server := dbtest.StartPostgres(t)
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", server.Database(t),
		withHealth(func(h *config.Health) { h.Timeout, h.Slow = time.Second, 500*time.Millisecond }))))
	require.Equal(t, "succeeded", w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`).Status)
	server.Pause(t)
	defer server.Resume(t)
	started := time.Now()
	h := w.ask("shop", "h1", `,"timeout":"10m"`)
	require.Less(t, time.Since(started), 10*time.Second)
	require.Equal(t, "unhealthy", h.Verdict)
	require.Contains(t, h.Reasons[0], "no answer within 1s")
	w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "unhealthy" })
}

// A server that takes a second for each login.
func TestHealthOfASlowDatabase(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(dbtest.Postgres(t))
	require.NoError(t, err)
	q := u.Query()
	q.Set("post_auth_delay", "1")
	u.RawQuery = q.Encode()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", u.String(), func(d *config.Database) {
		d.Pool.ConnectTimeout = 10 * time.Second
	}, withHealth(func(h *config.Health) { h.Slow = 500 * time.Millisecond }))))
	w.awaitDatabase("shop", "r1", func(h *health) bool { return h.Verdict == "degraded" })
	var h *health
	asked := 0
	require.Eventually(t, func() bool { // a signal of the server's own may cut its sleep of a second short, to nothing even
		asked++
		h = w.ask("shop", fmt.Sprintf("h%d", asked), `,"checks":["connection","query"]`)
		return h.Verdict == "degraded"
	}, testTimeout, 10*time.Millisecond)
	require.Len(t, h.Reasons, 1)
	require.Regexp(t, `^connection: connecting took (\d\.\d+s|[5-9]\d\dms), more than 500ms$`, h.Reasons[0])
	require.Equal(t, "healthy", h.Checks.Query.Verdict)
}

// All connections are in use and more jobs wait, in all slots: a health job waits behind none of them.
func TestHealthOfAnExhaustedPool(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t), func(cfg *config.Config) {
				d := cfg.Databases["shop"]
				d.Pool.Min, d.Pool.Max, d.Slots = 1, 2, 4
				d.Health.PoolWait = 100 * time.Millisecond
				d.Health.PoolSaturation = 50 // one that writes and one that reads: queries alone use half of SQLite's
				cfg.Worker.DrainTimeout = 100 * time.Millisecond
			}))
			for i := range 4 {
				w.publish("shop", "query", fmt.Sprintf(`{"id":"endless%d","timeout":"10m",%s}`, i, endlessSQL()[name]))
			}
			w.awaitHeld("shop", 4)
			started := time.Now()
			var h *health
			asked := 0
			require.Eventually(t, func() bool {
				asked++
				h = w.ask("shop", fmt.Sprintf("h%d", asked), "")
				return h.Verdict == "degraded" && h.Checks.Pool.Waiting > 0
			}, testTimeout, 10*time.Millisecond)
			require.Less(t, time.Since(started), testTimeout)
			require.Len(t, h.Reasons, 1, "%v", h.Reasons)
			require.Contains(t, h.Reasons[0], "of 2 connections are in use and")
			require.Nil(t, w.stored("shop", "endless0"))
		})
	}
}

func TestHealthOfAReadOnlyDatabase(t *testing.T) {
	t.Parallel()
	u, err := url.Parse(dbtest.Postgres(t))
	require.NoError(t, err)
	q := u.Query()
	q.Set("default_transaction_read_only", "on")
	u.RawQuery = q.Encode()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", u.String()),
		withDatabase("reports", "postgres", u.String(), func(d *config.Database) { d.Ledger.Mode = config.LedgerOff })))
	h := w.ask("shop", "h1", "")
	require.Equal(t, "unhealthy", h.Verdict)
	require.True(t, h.Checks.Replication.ReadOnly)
	require.Equal(t, "primary", h.Checks.Replication.Role)
	require.Contains(t, strings.Join(h.Reasons, "\n"), "replication: transactions are read-only by default here")
	w.awaitDatabase("reports", "r1", func(h *health) bool {
		return h.Verdict == "healthy" && h.Checks.Replication.ReadOnly // no jobs there write
	})
}

// The state of the schema is reported even while a migration runs: a check waits neither for it nor for its lock.
func TestHealthOfASchema(t *testing.T) {
	t.Parallel()
	slow := map[string]string{
		"postgres": "SELECT pg_sleep(600);",
		"sqlite":   "CREATE TABLE slow AS WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r;",
	}
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			dir := folder(t, map[string]string{"V1__create.sql": "CREATE TABLE t (n INTEGER);"})
			w.start(w.config("r1", database(t), func(cfg *config.Config) {
				withFolder(dir)(cfg.Databases["shop"])
				cfg.Worker.DrainTimeout = 100 * time.Millisecond
			}))
			h := w.ask("shop", "h1", `,"checks":["migrations"]`)
			require.Equal(t, "degraded", h.Verdict)
			require.Equal(t, []string{"migrations: not applied yet: 1, up to version 1"}, h.Reasons)
			w.migrate("shop", "m1", `"action":"up"`)
			looks := 0
			require.Eventually(t, func() bool { // the lock ends with the migration's session, moments after its result
				looks++
				h = w.ask("shop", "h2-"+strconv.Itoa(looks), `,"checks":["migrations"]`)
				return h.Verdict == "healthy"
			}, testTimeout, 10*time.Millisecond)
			require.Equal(t, "1", h.Checks.Migrations.Current)
			require.Equal(t, "1", h.Checks.Migrations.Latest)

			write(t, dir, "V2__slow.sql", slow[name])
			w.publish("shop", "migration", `{"id":"m2","action":"up"}`)
			asked := 0
			require.Eventually(t, func() bool {
				asked++
				started := time.Now()
				h = w.ask("shop", fmt.Sprintf("r%d", asked), "")
				require.Less(t, time.Since(started), 10*time.Second)
				return h.Checks.Migrations != nil && h.Checks.Migrations.Running != nil
			}, testTimeout, 50*time.Millisecond, "a running migration is reported")
			require.Equal(t, "degraded", h.Verdict)
			require.Len(t, h.Reasons, 1, "%v", h.Reasons)
			require.Contains(t, h.Reasons[0], "migrations: a migration runs")
			require.Nil(t, w.stored("shop", "m2"))
		})
	}
}

func TestHeartbeatOfARunner(t *testing.T) {
	t.Parallel()
	w := setup(t)
	sub, err := w.nc.SubscribeSync("dbrunner.health.runner.r1")
	require.NoError(t, err)
	r := w.start(w.config("r1", withSQLite(t, "shop"), func(cfg *config.Config) { cfg.Topology.Results.MaxCount = 100 }))
	first, err := sub.NextMsg(testTimeout)
	require.NoError(t, err)
	require.Contains(t, string(first.Data), `"state":"starting"`)
	require.Equal(t, "succeeded", w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`).Status)
	h := w.awaitHeartbeat("r1", func(h *heartbeat) bool {
		d := h.Databases[0]
		return h.State == "running" && d.Lanes[0].Jobs["succeeded"] == 1 && d.Lanes[0].Lag != nil && d.Results != nil
	})
	require.Positive(t, h.Uptime)
	require.NotEmpty(t, h.Process)
	require.False(t, h.Shared)
	d := h.Databases[0]
	slots := map[string]int{}
	for _, lane := range d.Lanes {
		slots[lane.Name] = lane.Slots
	}
	require.Equal(t, map[string]int{"work": 64, "migration": 1, "health": 2}, slots)
	require.LessOrEqual(t, d.Results.Room, 100)
	r.end(t)
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.State == "stopped" })
}

// The lag is the fleet's: what no runner takes shows in the heartbeat of one whose slots are full.
func TestHeartbeatReportsTheLag(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t), func(d *config.Database) {
		d.Pool.Min, d.Pool.Max, d.Slots = 1, 1, 2
	}), func(cfg *config.Config) { cfg.Worker.DrainTimeout = 100 * time.Millisecond }))
	for i := range 7 {
		w.publish("shop", "query", fmt.Sprintf(`{"id":"s%d","sql":"SELECT count(*) AS n FROM pg_sleep(600)","timeout":"10m"}`, i))
	}
	w.awaitHeartbeat("r1", func(h *heartbeat) bool {
		lane := h.Databases[0].Lanes[0]
		return lane.InUse == 2 && lane.Lag != nil && lane.Lag.Held == 2 && lane.Lag.Waiting == 5
	})
}

// Two runners with one name: each reports it, and each is identified by its process. When one stops, the other is alone again.
func TestTwoRunnersWithOneName(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := withSQLite(t, "shop")
	one := w.start(w.config("twin", file))
	alone := w.awaitHeartbeat("twin", func(h *heartbeat) bool { return h.State == "running" })
	require.False(t, alone.Shared)
	two := w.start(w.config("twin", file))
	w.awaitHeartbeat("twin", func(h *heartbeat) bool { return h.Shared && h.Process == alone.Process })
	w.awaitHeartbeat("twin", func(h *heartbeat) bool { return h.Shared && h.Process != alone.Process })
	for _, r := range []*runner{one, two} {
		require.Eventually(t, func() bool {
			return r.logs.FilterMessageSnippet("duplicate instance name").Len() == 1
		}, testTimeout, 10*time.Millisecond, "it is said, once")
	}
	require.Equal(t, "succeeded", w.do("shop", "query", "q1", `"sql":"SELECT 1 AS n"`).Status, "jobs do not mind")
	two.end(t)
	w.awaitHeartbeat("twin", func(h *heartbeat) bool { return h.Process == alone.Process && !h.Shared && h.State == "running" })
}

// A runner that follows one of its name that was killed is no second one.
func TestRestartUnderTheSameName(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := withSQLite(t, "shop")
	w.start(w.config("r1", file)).end(t)
	r := w.start(w.config("r1", file))
	w.awaitHeartbeat("r1", func(h *heartbeat) bool { return h.State == "running" && h.Uptime > 2.5 })
	require.Zero(t, r.logs.FilterMessageSnippet("another runner").Len())
}

// endlessSQL is a query per engine that never finishes.
func endlessSQL() map[string]string {
	return map[string]string{
		"postgres": `"sql":"SELECT count(*) AS n FROM pg_sleep(600)"`,
		"sqlite":   `"sql":"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) AS n FROM r"`,
	}
}

// A pool that is full of work is normal during a backlog and prevents no flow from starting.
func TestFullPoolIsHealthy(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t), func(cfg *config.Config) {
				d := cfg.Databases["shop"]
				d.Pool.Min, d.Pool.Max, d.Slots = 1, 2, 4
				d.Health.PoolSaturation = 50 // queries alone use half of SQLite's
				d.Health.PoolWait = time.Hour
				cfg.Worker.DrainTimeout = 100 * time.Millisecond
			}))
			for i := range 4 {
				w.publish("shop", "query", fmt.Sprintf(`{"id":"endless%d","timeout":"10m",%s}`, i, endlessSQL()[name]))
			}
			w.awaitHeld("shop", 4)
			asked := 0
			require.Eventually(t, func() bool {
				asked++
				h := w.ask("shop", fmt.Sprintf("h%d", asked), "")
				require.Equal(t, "healthy", h.Verdict, "%v", h.Reasons)
				return h.Checks.Pool.Waiting > 0
			}, testTimeout, 10*time.Millisecond)
		})
	}
}
