package postgres_test

import (
	"crypto/rand"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// TestRoleOfJob: a job that takes a role which may not write the ledger keeps its effect, made in that role to its end, and
// its fence.
func TestRoleOfJob(t *testing.T) {
	t.Parallel()
	for name, pooled := range map[string]bool{"direct": false, "pooled": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *db.Options) { o.Pool.Max, o.TransactionPool = 1, pooled })
			role := "clerk_" + strings.ToLower(rand.Text())
			b.sql("CREATE ROLE " + role)
			t.Cleanup(func() { exec(t, b.admin, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
			b.sql("CREATE TABLE done (who text DEFAULT current_user, late text, of bigint REFERENCES effect DEFERRABLE INITIALLY DEFERRED); GRANT ALL ON done TO " + role)
			b.sql("CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.late IS NULL THEN UPDATE done SET late = current_user; END IF; RETURN NEW; END $$")
			b.sql("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON done DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()")
			for i, set := range []string{"SET LOCAL ROLE " + role, "SET ROLE " + role, "SELECT set_config('role', '" + role + "', true)", "SET SESSION AUTHORIZATION " + role} {
				job := "job" + string(rune('a'+i))
				_, err := b.transact(sealed(job), set, "INSERT INTO done DEFAULT VALUES")
				require.NoError(t, err, set)
				require.Equal(t, 1, b.look("SELECT count(*) FROM done WHERE who = '"+role+"' AND late = '"+role+"'"), set)
				require.Equal(t, "succeeded", b.status(job))
				_, err = b.transact(sealed(job), set, "INSERT INTO done DEFAULT VALUES")
				requireError(t, err, db.ClassAlreadyRecorded, contract.CodeUnique)
				_, err = b.transact(sealed("bad"+job), set, "INSERT INTO done (of) VALUES (99)")
				requireError(t, err, db.ClassPermanent, contract.CodeForeignKey)
				set, err := b.read("SELECT current_user <> '" + role + "' AS own, (SELECT count(*) FROM done) AS n")
				require.NoError(t, err)
				require.JSONEq(t, `[{"own":true,"n":"1"}]`, string(set.Rows))
				b.sql("DELETE FROM done")
			}
		})
	}
}

// TestRoleOfJobWithStaleStatement: such a job has its effect also where the session's statements are stale, which takes an attempt too.
func TestRoleOfJobWithStaleStatement(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
	role := "clerk_" + strings.ToLower(rand.Text())
	b.sql("CREATE ROLE " + role + "; GRANT ALL ON effect TO " + role)
	t.Cleanup(func() { exec(t, b.admin, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	const all = "SELECT * FROM effect"
	for range 2 { // the second time, the session prepares it
		_, err := b.transact(nil, all)
		require.NoError(t, err)
	}
	b.sql("ALTER TABLE effect ADD COLUMN other text")
	_, err := b.transact(sealed("job"), all, "SET LOCAL ROLE "+role, "INSERT INTO effect (id) VALUES (1)")
	require.NoError(t, err)
	require.Equal(t, 1, b.effects())
	require.Equal(t, "succeeded", b.status("job"))
}

// TestRoleAtStart: a login that works in another role from the start is in that role again after a job that has left it, and not
// in its own, which may do more.
func TestRoleAtStart(t *testing.T) {
	t.Parallel()
	role := "clerk_" + strings.ToLower(rand.Text())
	b := setup(t, func(o *db.Options) {
		admin := connect(t, o.ConnectionString)
		exec(t, admin, "CREATE ROLE "+role+" SUPERUSER")
		t.Cleanup(func() {
			exec(t, admin, "REASSIGN OWNED BY "+role+" TO CURRENT_USER; DROP OWNED BY "+role+"; DROP ROLE "+role)
		})
		u, err := url.Parse(o.ConnectionString)
		require.NoError(t, err)
		q := u.Query()
		q.Set("role", role)
		u.RawQuery = q.Encode()
		o.ConnectionString, o.Pool.Max = u.String(), 1
	})
	for _, leave := range []string{"SET ROLE NONE", "RESET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION pg_monitor", "SELECT set_config('role', 'none', false)"} {
		for _, seal := range []db.BeforeCommit{nil, sealed(leave)} {
			_, _ = b.transact(seal, leave)
			_, _ = b.transact(seal, leave, "SELECT 1/0")
			_, _ = b.read(leave)
			set, err := b.read("SELECT current_user AS u")
			require.NoError(t, err)
			require.JSONEq(t, `[{"u":"`+role+`"}]`, string(set.Rows), leave)
		}
	}
}

// TestRaisedMessages shows texts of RAISE under any code, and no others.
func TestRaisedMessages(t *testing.T) {
	t.Parallel()
	for _, shown := range []bool{false, true} {
		b := setup(t, func(o *db.Options) {
			if shown {
				o.Settings = map[string]string{"show_raised_messages": "true"}
			}
		})
		for _, code := range []string{"P0001", "AB123", "ZZ999", "23505", "22023", "08006"} {
			_, err := b.read("SELECT 1") // so that a failure of setup shows
			require.NoError(t, err)
			_, err = b.transact(nil, "DO $$ BEGIN RAISE 'no stock of %', 7 USING ERRCODE = '"+code+"'; END $$")
			var e *db.Error
			require.ErrorAs(t, err, &e)
			require.Equal(t, code, e.EngineCode)
			if shown {
				require.Equal(t, "no stock of 7", e.Message)
			} else {
				require.NotContains(t, e.Message, "stock")
				require.Contains(t, e.Message, "its text is not shown")
			}
		}
		_, err := b.transact(nil, "SELECT 'canary'::int")
		require.NotContains(t, err.Error(), "canary")
	}
}

// TestSlicesOfCalls: the bounds of a slice are no parameters, whatever they are made of.
func TestSlicesOfCalls(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for _, sql := range []string{
		"SELECT (ARRAY[1,2,3])[abs(1):abs(2)] AS v", "SELECT a[abs(1):n] AS v FROM (SELECT ARRAY[1,2,3] AS a, 2 AS n) x",
		"SELECT a[b[1]:n] AS v FROM (SELECT ARRAY[1,2,3] AS a, ARRAY[1] AS b, 2 AS n) x", `SELECT a["n":m] AS v FROM (SELECT ARRAY[1,2,3] AS a, 1 AS n, 2 AS m) x`,
		"SELECT a['1':n] AS v FROM (SELECT ARRAY[1,2,3] AS a, 2 AS n) x", "SELECT a[(1)::int:n] AS v FROM (SELECT ARRAY[1,2,3] AS a, 2 AS n) x",
		"SELECT a[1: n] AS v FROM (SELECT ARRAY[1,2,3] AS a, 2 AS n) x",
	} {
		compiled, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: sql})
		require.Empty(t, faults, sql)
		set, err := b.db.Read(t.Context(), call(), compiled, objects())
		require.NoError(t, err, sql)
		require.JSONEq(t, `[{"v":"{1,2}"}]`, string(set.Rows), sql)
	}
	_, faults := dialect.Compile(b.db.Dialect(), dialect.Statement{SQL: "SELECT a[1 :n] FROM t"})
	require.Len(t, faults, 1)
	require.Contains(t, faults[0].Message, "a[1: n]")
}
