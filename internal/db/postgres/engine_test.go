package postgres_test

import (
	"context"
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

// TestDeferred fails at COMMIT, in an answer of the server: nothing is committed, and it is said what failed.
func TestDeferred(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("CREATE TABLE child (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, parent bigint REFERENCES effect DEFERRABLE INITIALLY DEFERRED)")
	_, err := b.transact(sealed("job"), insertOne, "INSERT INTO child VALUES (1, 99)")
	e := requireError(t, err, db.ClassPermanent, contract.CodeForeignKey)
	require.Equal(t, -1, e.Statement)
	require.Contains(t, e.Message, "child_parent_fkey")
	_, err = b.transact(sealed("job"), insertOne, "INSERT INTO child VALUES (1, 1)", "INSERT INTO child VALUES (1, 1)")
	requireError(t, err, db.ClassPermanent, contract.CodeUnique)
	require.Equal(t, 0, b.effects())
	row, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.Nil(t, row)
}

// TestStalePlan changes a table under a prepared statement, in a read and in a transaction.
func TestStalePlan(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	b.sql("CREATE TABLE thing (a int)")
	b.sql("INSERT INTO thing VALUES (1)")
	for i, change := range []string{"SELECT 1", "ALTER TABLE thing ADD b text DEFAULT 'x'", "ALTER TABLE thing ALTER a TYPE bigint"} {
		b.sql(change)
		for range 4 {
			want := []string{`[{"a":1}]`, `[{"a":1,"b":"x"}]`, `[{"a":"1","b":"x"}]`}[i]
			set, err := b.read("SELECT * FROM thing")
			require.NoError(t, err)
			require.JSONEq(t, want, string(set.Rows))
			sets, err := b.transact(nil, "SELECT * FROM thing  ", insertOne, "DELETE FROM effect")
			require.NoError(t, err)
			require.JSONEq(t, want, string(sets[0].Rows))
		}
	}
}

// TestDeallocate lets a job take the session's prepared statements away, the ledger's too, or take their names.
func TestDeallocate(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	for i, body := range []string{"DEALLOCATE ALL", "DEALLOCATE dbr_fence", "PREPARE dbr_fence AS SELECT 1"} {
		for j := range 3 {
			job := string(rune('a'+i)) + string(rune('a'+j))
			_, err := b.transact(sealed("before"+job), "DELETE FROM effect", insertOne)
			require.NoError(t, err)
			_, _ = b.transact(sealed("job"+job), "DO $$ BEGIN EXECUTE '"+body+"'; END $$", "DELETE FROM effect")
			_, err = b.transact(sealed("after"+job), "DELETE FROM effect", insertOne)
			require.NoError(t, err, body)
			_, err = b.read("SELECT 1 AS n")
			require.NoError(t, err)
		}
	}
}

// TestUserTypes names types of the database's own in results and in parameters.
func TestUserTypes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql(`CREATE SCHEMA "My Schema"`)
	b.sql(`CREATE TYPE mood AS ENUM ('sad', 'happy')`)
	b.sql(`CREATE TYPE "My Schema".pair AS (a int, b text)`)
	b.sql(`CREATE DOMAIN positive AS int CHECK (VALUE > 0)`)
	b.sql(`CREATE TYPE floats AS RANGE (subtype = float8)`)
	for range 3 {
		set, err := b.read(`SELECT 'happy'::mood AS a, '{sad,happy}'::mood[] AS b, ROW(1, 'x')::"My Schema".pair AS c,
			5::positive AS d, '[1,2]'::floats AS e`)
		require.NoError(t, err)
		require.JSONEq(t, `[{"a":"happy","b":"{sad,happy}","c":"(1,x)","d":5,"e":"[1,2]"}]`, string(set.Rows))
		types := map[string]string{}
		for _, c := range set.Columns {
			types[c.Name] = c.Type
		}
		require.Equal(t, map[string]string{
			"a": "public.mood", "b": "public.mood[]", "c": `"My Schema".pair`, "d": "integer", "e": "public.floats",
		}, types)
	}
	for typ, c := range map[string]struct {
		value dialect.Value
		want  string
	}{
		"mood":               {dialect.Value{Kind: dialect.String, Text: "happy"}, `[{"v":"happy"}]`},
		"public.mood[]":      {dialect.Value{Kind: dialect.Array, Text: `["sad","happy"]`}, `[{"v":"{sad,happy}"}]`},
		`"My Schema".pair`:   {dialect.Value{Kind: dialect.String, Text: "(1,x)"}, `[{"v":"(1,x)"}]`},
		`"My Schema".pair[]`: {dialect.Value{Kind: dialect.Array, Text: `["(1,x)"]`}, `[{"v":"{\"(1,x)\"}"}]`},
		"positive":           {dialect.Value{Kind: dialect.Number, Text: "5"}, `[{"v":5}]`},
	} {
		c.value.Type = typ
		for range 3 {
			set, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT $1 AS v", Args: []dialect.Value{c.value}}, objects())
			require.NoError(t, err, typ)
			require.JSONEq(t, c.want, string(set.Rows))
		}
	}
	b.sql(`DROP TYPE mood CASCADE`)
	b.sql(`CREATE TYPE mood AS ENUM ('sad', 'happy', 'new')`)
	fresh := dialect.Compiled{SQL: "SELECT $1 AS v", Args: []dialect.Value{{Kind: dialect.String, Type: "mood", Text: "new"}}}
	for range 6 {
		set, err := b.db.Read(t.Context(), call(), &fresh, objects())
		require.NoError(t, err)
		require.JSONEq(t, `[{"v":"new"}]`, string(set.Rows))
		sets, err := b.db.Transact(t.Context(), call(),
			&db.Transaction{Statements: []*dialect.Compiled{&fresh}, Expect: []*db.Range{nil}}, objects(), nil)
		require.NoError(t, err)
		require.JSONEq(t, `[{"v":"new"}]`, string(sets[0].Rows))
	}
	sets, err := b.transact(nil, "CREATE TYPE fresh AS ENUM ('x')", "SELECT 'x'::fresh AS v")
	require.NoError(t, err)
	require.Equal(t, "public.fresh", sets[1].Columns[0].Type)
}

// TestReadOnlyServer distinguishes a server that accepts no writes from a job that gave up its own privilege.
func TestReadOnlyServer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.transact(sealed("job"), "SET transaction_read_only = on", insertOne)
	requireError(t, err, db.ClassPermanent, contract.CodeReadOnly)
	_, err = b.transact(sealed("job"), "SET transaction_read_only = on")
	requireError(t, err, db.ClassPermanent, contract.CodeReadOnly)

	b.sql("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$")
	d := b.open(b.opts)
	_, err = d.Transact(t.Context(), call(), transaction(insertOne), objects(), sealed("job"))
	requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
	_, _, err = d.Record(t.Context(), entry("job"))
	requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
	e := requireError(t, d.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, e.Message, "exactly_once")
	off := b.opts
	off.Ledger = db.LedgerOff
	require.NoError(t, b.open(off).Probe(t.Context()))
}

// TestLedgerRights goes through what can be wrong with a ledger that a DBA made.
func TestLedgerRights(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Ledger = db.LedgerOff })
	role := "role_" + b.admin.Config().Database
	b.sql("CREATE ROLE " + role + " LOGIN")
	t.Cleanup(func() {
		_, _ = b.admin.Exec(context.Background(), "DROP OWNED BY "+role)
		_, _ = b.admin.Exec(context.Background(), "DROP ROLE "+role)
	})
	u, err := url.Parse(b.opts.ConnectionString)
	require.NoError(t, err)
	u.User = url.User(role)
	probe := func(mode db.LedgerMode) error {
		o := b.opts
		o.ConnectionString, o.Ledger = u.String(), mode
		d, err := postgres.Open(o)
		require.NoError(t, err)
		defer func() { require.NoError(t, d.Close()) }()
		return d.Probe(t.Context())
	}
	says := func(err error, text string) {
		t.Helper()
		e := requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
		require.Contains(t, e.Message, text)
	}
	says(probe(db.LedgerVerify), "dbrunner.ledger is missing")
	says(probe(db.LedgerManage), "may not create")
	b.sql(postgres.DDL())
	says(probe(db.LedgerManage), "grant it USAGE on the schema")
	b.sql("GRANT USAGE ON SCHEMA dbrunner TO " + role)
	says(probe(db.LedgerManage), "lacks the permission to SELECT, INSERT, UPDATE, DELETE")
	b.sql("GRANT SELECT, INSERT, UPDATE, DELETE ON dbrunner.ledger TO " + role)
	require.NoError(t, probe(db.LedgerManage), "no right to create is needed for what is there")
	require.NoError(t, probe(db.LedgerVerify))
	b.sql("ALTER TABLE dbrunner.ledger DROP CONSTRAINT ledger_pkey")
	says(probe(db.LedgerVerify), "no primary key")
	b.sql("CREATE UNIQUE INDEX ON dbrunner.ledger (job_id, namespace, database_name)")
	require.NoError(t, probe(db.LedgerVerify))
	b.sql("ALTER TABLE dbrunner.ledger ALTER answer TYPE text USING ''")
	says(probe(db.LedgerManage), "no column answer of type bytea")
}

// TestSchemaGiven lets a login create the table in a schema that was made for it.
func TestSchemaGiven(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Ledger = db.LedgerOff })
	role := "role_" + b.admin.Config().Database
	b.sql("CREATE ROLE " + role + " LOGIN")
	b.sql("CREATE SCHEMA dbrunner AUTHORIZATION " + role)
	t.Cleanup(func() {
		_, _ = b.admin.Exec(context.Background(), "DROP OWNED BY "+role+" CASCADE")
		_, _ = b.admin.Exec(context.Background(), "DROP ROLE "+role)
	})
	u, err := url.Parse(b.opts.ConnectionString)
	require.NoError(t, err)
	u.User = url.User(role)
	o := b.opts
	o.ConnectionString, o.Ledger = u.String(), db.LedgerManage
	d := b.open(o)
	require.NoError(t, d.Probe(t.Context()))
	require.NoError(t, d.Close())
}

// TestRaised shows the text of RAISE EXCEPTION only where that is allowed.
func TestRaised(t *testing.T) {
	t.Parallel()
	const raise = "DO $$ BEGIN RAISE EXCEPTION 'account % is empty', 'canary'; END $$"
	b := setup(t)
	_, err := b.transact(nil, raise)
	e := requireError(t, err, db.ClassPermanent, contract.CodeDatabase)
	require.NotContains(t, e.Error(), "canary")
	b = setup(t, func(o *db.Options) { o.Settings = map[string]string{"show_raised_messages": "true"} })
	_, err = b.transact(nil, raise)
	e = requireError(t, err, db.ClassPermanent, contract.CodeDatabase)
	require.Contains(t, e.Error(), "account canary is empty")
}

// TestMessages looks at what publishers are shown.
func TestMessages(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql("INSERT INTO effect VALUES (4711, 'canary')")
	for sql, want := range map[string]string{
		"SELEC 1":                                           `syntax_error (42601): syntax error at or near "SELEC" (character 1 of the statement): check the statement's syntax`,
		"SELECT * FROM accuonts":                            `undefined_object (42P01): undefined table at or near "accuonts" (character 15 of the statement)`,
		"SELECT 'ü', nope FROM effect":                      `undefined_object (42703): undefined column at or near "nope" (character 13 of the statement)`,
		"SELECT nope('canary')":                             `undefined_object (42883): undefined function at or near "nope" (character 8 of the statement): check the name and the types of its arguments`,
		"SELECT 'canary'::int AS n":                         `data_error (22P02): invalid text representation at character 8 of the statement`,
		"SELECT 1 'canary' 2":                               `syntax_error (42601): syntax error at character 10 of the statement: check the statement's syntax`,
		"INSERT INTO effect VALUES (4711, 'x')":             `unique_violation (23505): unique violation, constraint "effect_pkey", table "public.effect"`,
		"INSERT INTO effect VALUES (NULL, 'x')":             `not_null_violation (23502): not null violation, table "public.effect", column "id"`,
		"VACUUM":                                            `forbidden_statement (25001): active sql transaction: this statement cannot run inside a transaction`,
		"COPY effect TO STDOUT":                             `not_supported: COPY from STDIN or to STDOUT cannot be used in a job`,
		"SELECT 1; SELECT 2":                                `syntax_error (42601): syntax error: check the statement's syntax`,
		"SELECT 1/(SELECT count(*) - count(*) FROM effect)": `data_error (22012): division by zero`,
	} {
		_, err := b.transact(sealed("job"), sql)
		require.EqualError(t, err, want, sql)
		require.NotContains(t, err.Error(), "canary")
	}
	_, err := b.read("SELECT $1 AS n")
	requireError(t, err, db.ClassPermanent, contract.CodeParameter)
}

// TestConnectErrors: each error has a remedy and never shows a part of the connection string.
func TestConnectErrors(t *testing.T) {
	t.Parallel()
	base := options(t)
	u, err := url.Parse(base.ConnectionString)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*url.URL)
		want   string
	}{
		"refused":     {func(u *url.URL) { u.Host = "127.0.0.1:1" }, "connection was refused"},
		"no host":     {func(u *url.URL) { u.Host = "secret-host.invalid:5432" }, "host name"},
		"no database": {func(u *url.URL) { u.Path = "/secret-database" }, "no database of the name in the connection string"},
		"no login":    {func(u *url.URL) { u.User = url.UserPassword("secret-user", secret) }, "refused the login"},
		"no TLS":      {func(u *url.URL) { u.RawQuery = "sslmode=require" }, "does not offer TLS"},
		"parameter":   {func(u *url.URL) { u.RawQuery = "sslmode=disable&no.such=1&nosuch=2" }, "start-up parameter"},
		"misspelled":  {func(u *url.URL) { u.RawQuery = "sslmod=disable" }, "check the keys of the connection string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			own := *u
			own.User = url.UserPassword("postgres", secret)
			c.change(&own)
			o := base
			o.ConnectionString = own.String()
			o.Pool.ConnectTimeout = 5 * time.Second
			d, err := postgres.Open(o)
			require.NoError(t, err)
			defer func() { require.NoError(t, d.Close()) }()
			err = d.Probe(t.Context())
			e := requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
			require.Contains(t, e.Message, c.want)
			require.NotContains(t, e.Error(), "secret")
			require.NotContains(t, e.Error(), secret)
		})
	}
	base.ConnectionString = "postgres://user:" + secret + "@host:port/x"
	_, err = postgres.Open(base)
	require.Error(t, err)
	require.NotContains(t, err.Error(), secret)
}

// TestSecondAttempt: the attempt that follows a statement which the session had lost is bounded by the job's own limit and
// context, and by nothing else.
func TestSecondAttempt(t *testing.T) {
	t.Parallel()
	const slow = "SELECT pg_sleep(1.5)::text AS s"
	lose := map[string]func(b *bench){
		"stale": func(b *bench) { b.sql(fmt.Sprintf("ALTER TABLE thing ADD COLUMN c%d text", time.Now().UnixNano())) },
		"dropped": func(b *bench) {
			_, _ = b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT drop_statements()"}, objects())
		},
	}
	for name, change := range lose {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
			b.sql("CREATE TABLE thing (a int); INSERT INTO thing VALUES (1)")
			b.sql("CREATE FUNCTION drop_statements() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$")
			run := func(ctx context.Context, timeout time.Duration) error {
				for range 3 {
					_, err := b.transact(nil, "SELECT * FROM thing")
					require.NoError(t, err)
				}
				change(b)
				_, err := b.db.Transact(ctx, db.Call{Timeout: timeout}, transaction("SELECT * FROM thing", slow, insertOne), objects(), sealed("late"))
				return err
			}
			require.NoError(t, run(t.Context(), testTimeout), "longer than what the end of the first attempt may take")
			started := time.Now()
			requireError(t, run(t.Context(), 500*time.Millisecond), db.ClassTimeout, contract.CodeTimeout)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			requireError(t, run(ctx, testTimeout), db.ClassCanceled, db.CodeCanceled)
			require.Less(t, time.Since(started), 15*time.Second)
			require.Equal(t, 1, b.effects())
		})
	}
}
