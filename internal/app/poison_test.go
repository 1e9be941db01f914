package app_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
)

// TestPoisonsCostOnlyTheirOwnSlots: jobs that make their own executions fail, in every way that is known, among jobs that
// do no harm. Each comes to an end, and the gate of the database never closes.
func TestPoisonsCostOnlyTheirOwnSlots(t *testing.T) {
	t.Parallel()
	for engine, poisons := range map[string][]dbtest.Poison{
		"postgres": dbtest.PostgresPoisons(), "sqlite": dbtest.SQLitePoisons(), "sqlserver": dbtest.SQLServerPoisons(),
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			var database func(*config.Config)
			switch engine {
			case "postgres":
				database = withDatabase("shop", engine, dbtest.Postgres(t))
			case "sqlite":
				database = withSQLite(t, "shop")
			case "sqlserver":
				database = withDatabase("shop", engine, dbtest.SQLServer(t), onTestServer)
			}
			w := setup(t)
			r := w.start(w.config("r1", database, func(cfg *config.Config) { cfg.Worker.UnreachableGrace = 0 }))
			for i, sql := range []string{
				"CREATE TABLE item (id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(100) NOT NULL)",
				"CREATE TABLE part (id INTEGER NOT NULL PRIMARY KEY, item_id INTEGER NOT NULL REFERENCES item (id))",
				"CREATE TABLE well (n INTEGER NOT NULL PRIMARY KEY)",
			} {
				require.Equal(t, "succeeded", w.do("shop", "transaction", fmt.Sprintf("create-%d", i), `"statements":[{"sql":"`+sql+`"}]`).Status)
			}
			const each = 3
			for i, p := range poisons {
				for k, sql := range p.Before {
					w.do("shop", "transaction", fmt.Sprintf("before-%d-%d", i, k), `"statements":[{"sql":`+quoted(t, sql)+`}]`)
				}
				w.publishPoison(i, p)
				for k := range each {
					w.publish("shop", "transaction", fmt.Sprintf(`{"id":"well-%d-%d","statements":[{"sql":"INSERT INTO well VALUES (:n)","params":{"n":%d}}]}`,
						i, k, each*i+k))
				}
			}
			for i, p := range poisons {
				got := w.await("shop", fmt.Sprintf("poison-%d", i))
				t.Logf("%s: %s %+v", p.Name, got.Status, got.Error)
				require.Contains(t, []string{"succeeded", "failed", "rejected"}, got.Status, p.Name)
				require.Equal(t, 1, got.Deliveries, p.Name)
				for k := range each {
					well := w.await("shop", fmt.Sprintf("well-%d-%d", i, k))
					require.Equal(t, "succeeded", well.Status, "%+v", well.Error)
					require.Equal(t, 1, well.Deliveries)
				}
			}
			require.Empty(t, r.logs.FilterMessageSnippet("database does not answer").All())
		})
	}
}

func quoted(t *testing.T, text string) string {
	t.Helper()
	raw, err := json.Marshal(text)
	require.NoError(t, err)
	return string(raw)
}

func (w *world) publishPoison(i int, p dbtest.Poison) {
	w.t.Helper()
	kind, body := "transaction", map[string]any{"id": fmt.Sprintf("poison-%d", i), "timeout": "2s"}
	if p.Query {
		kind, body["sql"] = "query", p.SQL[0]
	} else {
		var statements []map[string]string
		for _, sql := range p.SQL {
			statements = append(statements, map[string]string{"sql": sql})
		}
		body["statements"] = statements
	}
	raw, err := json.Marshal(body)
	require.NoError(w.t, err)
	w.publish("shop", kind, string(raw))
}
