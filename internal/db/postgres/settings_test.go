package postgres_test

import (
	"crypto/rand"
	"net/url"
	"os"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

// databaseSettings are settings of a database, or of a login, that decide how texts are read.
var databaseSettings = map[string][]string{
	"as the server is": nil,
	"DMY":              {"DateStyle = 'ISO, DMY'"},
	"German, YMD":      {"DateStyle = 'German, YMD'"},
	"SQL, DMY":         {"DateStyle = 'SQL, DMY'", "TimeZone = 'Asia/Kolkata'"},
	"Berlin":           {"TimeZone = 'Europe/Berlin'", "IntervalStyle = 'postgres_verbose'"},
	"sql_standard":     {"IntervalStyle = 'sql_standard'", "TimeZone = 'America/St_Johns'"},
	"output":           {"extra_float_digits = -10", "bytea_output = 'escape'", "DateStyle = 'Postgres, DMY'"},
	"others": {
		"search_path = other, public", "default_transaction_isolation = 'serializable'", "client_min_messages = 'error'",
		"array_nulls = off", "transform_null_equals = on", "lc_monetary = 'C'", "xmloption = 'document'", "row_security = on",
	},
}

// stores writes what depends on how texts are read, and on what is now.
var stores = []string{
	"INSERT INTO stored (what, d, t, i) VALUES (:who, '03/04/05', '2026-07-01 12:00', '-1 2:03:04')",
	"INSERT INTO stored (what, d, n) SELECT :who, ('2026-07-01 23:30:00Z'::timestamptz)::date, extract(hour from '2026-07-01 23:30:00Z'::timestamptz)",
	"INSERT INTO stored (what, n) SELECT :who, count(*) FROM unnest('{NULL,a}'::text[]) x WHERE x IS NULL",
	"INSERT INTO stored (what, s) SELECT :who, concat_ws('|', current_schemas(false)::text, current_setting('transaction_isolation'), " +
		"current_setting('TimeZone'), substr(current_setting('DateStyle'), strpos(current_setting('DateStyle'), ',')), " +
		"current_setting('client_min_messages'), current_setting('lc_monetary'), current_setting('xmloption'), current_setting('row_security'))",
}

const storedTable = `CREATE SCHEMA other; CREATE TABLE public.stored (what text, d date, t timestamptz, i interval, n numeric, s text)`

// TestDatabaseSettings stores the same texts by psql, by a job, by a statement, through a pooler and by a migration, in
// databases and for logins with settings of their own: all of them store the same.
func TestDatabaseSettings(t *testing.T) {
	t.Parallel()
	psql, err := osexec.LookPath("psql")
	if err != nil {
		require.NotEqual(t, "1", os.Getenv("REQUIRE_SERVICES"), err)
		t.Skipf("SKIPPED, not tested: no psql: %v", err)
	}
	for name, own := range databaseSettings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			conn := connect(t, opts.ConnectionString)
			exec(t, conn, storedTable)
			for _, setting := range own {
				alterDatabase(t, conn, setting)
			}
			texts := strings.Join(stores, ";\n") + ";\n"
			run := osexec.CommandContext(t.Context(), psql, "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", opts.ConnectionString)
			run.Stdin = strings.NewReader(strings.ReplaceAll(texts, ":who", "'psql'"))
			out, err := run.CombinedOutput()
			require.NoError(t, err, "%s", out)

			storeByJobs(t, opts, "job", "statement")
			pooled := opts
			pooled.TransactionPool = true
			storeByJobs(t, pooled, "pooled")
			m := migrator(t, opts, map[string]string{"V1__store.sql": strings.ReplaceAll(texts, ":who", "'migration'")})
			_, err = m.Run(t.Context(), migration.Request{Action: migration.Up})
			require.NoError(t, err)

			fresh := connect(t, opts.ConnectionString)
			for _, who := range []string{"job", "statement", "pooled", "migration"} {
				var n int
				require.NoError(t, fresh.QueryRow(t.Context(), `SELECT count(*) FROM (
					(SELECT d, t, i::text, n, s FROM public.stored WHERE what = $1 EXCEPT ALL SELECT d, t, i::text, n, s FROM public.stored WHERE what = 'psql')
					UNION ALL
					(SELECT d, t, i::text, n, s FROM public.stored WHERE what = 'psql' EXCEPT ALL SELECT d, t, i::text, n, s FROM public.stored WHERE what = $1)) x`,
					who).Scan(&n))
				require.Zero(t, n, "%s stores what psql does not", who)
			}
		})
	}
}

// storeByJobs runs the statements in transactions, twice on one session, and alone.
func storeByJobs(t *testing.T, opts db.Options, who string, alone ...string) {
	t.Helper()
	opts.Pool.Max = 1
	b := &bench{t: t, opts: opts}
	b.db = b.open(opts)
	require.NoError(t, b.db.Probe(t.Context()))
	_, err := b.transact(sealed("warm"+who), "SET DateStyle = 'ISO, MDY'", "SET TimeZone = 'Asia/Tokyo'", "SET IntervalStyle = 'postgres'")
	require.NoError(t, err)
	tx := &db.Transaction{Expect: make([]*db.Range, len(stores))}
	for _, s := range stores {
		tx.Statements = append(tx.Statements, &dialect.Compiled{SQL: strings.ReplaceAll(s, ":who", "'"+who+"'")})
	}
	_, err = b.db.Transact(t.Context(), call(), tx, objects(), sealed("store"+who))
	require.NoError(t, err)
	for _, who := range alone {
		for _, s := range stores {
			_, err := b.db.Execute(t.Context(), call(), &dialect.Compiled{SQL: strings.ReplaceAll(s, ":who", "'"+who+"'")}, objects(), nil)
			require.NoError(t, err)
		}
	}
	row, err := b.db.Lookup(t.Context(), "store"+who)
	require.NoError(t, err)
	require.Equal(t, entry("").Answer[:7], row.Answer[:7])
	require.False(t, row.RecordedAt.IsZero())
	now, err := b.db.Now(t.Context())
	require.NoError(t, err)
	require.InDelta(t, now.Unix(), row.RecordedAt.Unix(), 60)
}

// TestPrintedValues prints the same whatever a database, a login or the job's own session has set.
func TestPrintedValues(t *testing.T) {
	t.Parallel()
	const sql = `SELECT '2026-07-01 23:30:00.5Z'::timestamptz AS a, '{"2026-07-01 23:30:00Z",infinity}'::timestamptz[] AS b,
		'["2026-01-01 00:00:00Z",)'::tstzrange AS c, '1850-01-01 00:00:00Z'::timestamptz AS d, '0044-03-15 00:00:00Z BC'::timestamptz AS e,
		'2026-03-04'::date AS f, '2026-03-04 01:02:03'::timestamp AS g, '0.1'::float8 + 0.2 AS h, '\x00ff'::bytea AS i,
		'294276-12-31 23:00:00Z'::timestamptz AS j, '{"\\x00ff"}'::bytea[] AS k, '0001-01-01 00:00:00Z'::timestamptz AS l,
		'0001-01-01 00:30:00+01:00'::timestamptz AS m`
	const want = `[{"a":"2026-07-01 23:30:00.5+00","b":"{\"2026-07-01 23:30:00+00\",infinity}","c":"[\"2026-01-01 00:00:00+00\",)",
		"d":"1850-01-01 00:00:00+00","e":"0044-03-15 00:00:00+00 BC","f":"2026-03-04","g":"2026-03-04 01:02:03","h":0.30000000000000004,
		"i":"AP8=","j":"294276-12-31 23:00:00+00","k":"{\"\\\\x00ff\"}","l":"0001-01-01 00:00:00+00","m":"0001-12-31 23:30:00+00 BC"}]`
	for name, own := range databaseSettings {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			opts := options(t)
			conn := connect(t, opts.ConnectionString)
			exec(t, conn, "CREATE SCHEMA other")
			for _, setting := range own {
				alterDatabase(t, conn, setting)
			}
			for _, pooled := range []bool{false, true} {
				opts.TransactionPool = pooled
				b := &bench{t: t, opts: opts}
				b.db = b.open(opts)
				require.NoError(t, b.db.Probe(t.Context()))
				for range 2 {
					set, err := b.read(sql)
					require.NoError(t, err)
					require.JSONEq(t, want, string(set.Rows))
					sets, err := b.transact(nil, sql, "SET TimeZone = 'Asia/Tokyo'", sql)
					require.NoError(t, err)
					require.JSONEq(t, want, string(sets[0].Rows))
					require.JSONEq(t, want, string(sets[2].Rows))
				}
				set, err := b.read("SELECT interval '1 day 2 hours' AS v")
				require.NoError(t, err)
				if name == "sql_standard" {
					require.JSONEq(t, `[{"v":"1 2:00:00"}]`, string(set.Rows))
				} else {
					require.JSONEq(t, `[{"v":"P1DT2H"}]`, string(set.Rows))
				}
			}
		})
	}
}

// TestLoginSettings: settings of a login count as those of its database do.
func TestLoginSettings(t *testing.T) {
	t.Parallel()
	opts := options(t)
	login := "daily_" + strings.ToLower(rand.Text())
	conn := connect(t, opts.ConnectionString)
	exec(t, conn, `CREATE ROLE `+login+` LOGIN PASSWORD 'x'`)
	t.Cleanup(func() { exec(t, conn, `DROP OWNED BY `+login+`; DROP ROLE `+login) })
	exec(t, conn, `ALTER ROLE `+login+` SET DateStyle = 'ISO, DMY'; ALTER ROLE `+login+` SET TimeZone = 'Asia/Kolkata'; CREATE TABLE day (d date, t timestamptz);
		GRANT ALL ON day TO `+login)
	u, err := url.Parse(opts.ConnectionString)
	require.NoError(t, err)
	u.User = url.UserPassword(login, "x")
	opts.ConnectionString, opts.Ledger = u.String(), db.LedgerOff
	b := &bench{t: t, opts: opts}
	b.db = b.open(opts)
	for range 2 {
		_, err = b.transact(nil, "INSERT INTO day VALUES ('03/04/2026', '2026-01-01 05:30')")
		require.NoError(t, err)
	}
	set, err := b.read("SELECT DISTINCT d, t FROM day")
	require.NoError(t, err)
	require.JSONEq(t, `[{"d":"2026-04-03","t":"2026-01-01 00:00:00+00"}]`, string(set.Rows))
}

// TestClientEncoding: a job that sets another encoding is refused as a whole, and the next one is none the wiser.
func TestClientEncoding(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	for _, set := range []string{"SET client_encoding = 'LATIN1'", "SET LOCAL client_encoding = 'LATIN1'", "SELECT set_config('client_encoding', 'WIN1252', true)"} {
		_, err := b.transact(sealed("job"), set, "SELECT 'ü' AS v", "INSERT INTO effect VALUES (1, 'ü')")
		e := requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
		require.Contains(t, e.Message, "client_encoding")
		require.Equal(t, 0, b.effects())
		read, err := b.read("SELECT 'ü' AS v")
		require.NoError(t, err)
		require.JSONEq(t, `[{"v":"ü"}]`, string(read.Rows))
	}
	_, err := b.read("SELECT set_config('client_encoding', 'LATIN1', true) AS v")
	requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
	_, err = b.transact(sealed("same"), "SET client_encoding = 'UTF8'", "INSERT INTO effect VALUES (1, 'ü')")
	require.NoError(t, err)
}
