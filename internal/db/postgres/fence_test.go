package postgres_test

import (
	"bytes"
	"fmt"
	"net/url"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
)

// parsed keeps what sessions parse through a proxy: the unnamed statements, and the names of the others.
type parsed struct {
	mu      sync.Mutex
	unnamed []string
	names   map[string]bool
}

// recordParsed lets the engine's sessions pass a proxy that keeps what they parse.
func recordParsed(t *testing.T) (*parsed, func(*db.Options)) {
	t.Helper()
	p := &parsed{names: map[string]bool{}}
	return p, func(o *db.Options) {
		u, err := url.Parse(o.ConnectionString)
		require.NoError(t, err)
		proxy := cutproxy.New(t, u.Host)
		o.ConnectionString = proxy.URL(o.ConnectionString)
		proxy.CutBefore(func(m cutproxy.Message) bool {
			if m.Kind == 'P' || m.Kind == 'Q' {
				p.keep(m)
			}
			return false
		})
	}
}

func (p *parsed) keep(m cutproxy.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Kind == 'Q' {
		p.unnamed = append(p.unnamed, string(m.Body))
		return
	}
	name, sql, _ := bytes.Cut(m.Body, []byte{0})
	if len(name) == 0 {
		p.unnamed = append(p.unnamed, string(sql))
		return
	}
	p.names[string(name)] = true
}

// since returns what was parsed since the last time.
func (p *parsed) since() (unnamed []string, names map[string]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unnamed, names = p.unnamed, p.names
	p.unnamed, p.names = nil, map[string]bool{}
	return unnamed, names
}

const addOne, readOne = "INSERT INTO effect (id) SELECT count(*) FROM effect", "SELECT count(*) AS n FROM effect"

// TestFenceIsKept has a session parse the fence once and then go on with it, until a job's statement takes its place.
func TestFenceIsKept(t *testing.T) {
	t.Parallel()
	parsed, through := recordParsed(t)
	b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 }, through)
	b.sql("CREATE FUNCTION discard_plans() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DISCARD PLANS'; RETURN 1; END $$")
	jobs := 0
	run := func(t *testing.T, seal bool, sql ...string) {
		jobs++
		var once db.BeforeCommit
		if seal {
			once = sealed(fmt.Sprint("job", jobs))
		}
		_, err := b.transact(once, sql...)
		require.NoError(t, err)
	}
	for range 3 {
		run(t, true, addOne)
		run(t, true, "SELECT discard_plans()")
		_, err := b.read(readOne)
		require.NoError(t, err)
		_, _ = b.transact(sealed("never"), "SELECT 1/0")
	}
	parsed.since()
	before := b.pid()
	for range 5 {
		run(t, true, addOne)
		run(t, false, addOne)
		run(t, true, "SELECT discard_plans()")
		_, err := b.read(readOne)
		require.NoError(t, err)
		_, err = b.transact(sealed("never"), "SELECT 1/0")
		require.Error(t, err)
		_, err = b.transact(sealed("job1"), addOne)
		require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	}
	unnamed, names := parsed.since()
	require.Empty(t, unnamed, "the fence is still there")
	require.Equal(t, map[string]bool{"dbrunner_own": true}, names)

	run(t, true, addOne, "SELECT 'a text that comes once' AS v")
	unnamed, _ = parsed.since()
	require.Len(t, unnamed, 2, "it is parsed again behind another statement")
	run(t, true, addOne)
	unnamed, _ = parsed.since()
	require.Empty(t, unnamed)
	require.Equal(t, before, b.pid())
	require.Equal(t, jobs-5, b.look("SELECT count(*) FROM dbrunner.ledger"))
}

// TestFenceBehindAPooler is parsed with each job, and nothing has a name: the next job has another session of the pooler's.
func TestFenceBehindAPooler(t *testing.T) {
	t.Parallel()
	parsed, through := recordParsed(t)
	b := pooled(t, through, "default_pool_size = 1")
	for i := range 3 {
		_, err := b.transact(sealed(fmt.Sprint("job", i)), addOne)
		require.NoError(t, err)
	}
	parsed.since()
	for i := range 3 {
		_, err := b.transact(sealed(fmt.Sprint("again", i)), addOne)
		require.NoError(t, err)
		unnamed, names := parsed.since()
		require.Empty(t, names)
		fences := 0
		for _, sql := range unnamed {
			if bytes.HasPrefix([]byte(sql), []byte("WITH fence")) {
				fences++
			}
		}
		require.Equal(t, 1, fences)
	}
}

// TestLedgerChangesUnderTheFence changes the ledger while a session keeps the fence, from elsewhere or in the job's own
// transaction: the fence holds for the ledger as it is then.
func TestLedgerChangesUnderTheFence(t *testing.T) {
	t.Parallel()
	const moved = "ALTER TABLE dbrunner.ledger RENAME TO moved; "
	const back = "ALTER TABLE dbrunner.moved RENAME TO ledger"
	for name, k := range map[string]struct {
		change string
		undo   string // empty: jobs go on with the change
	}{
		"a column more":       {change: "ALTER TABLE dbrunner.ledger ADD COLUMN more text DEFAULT 'x'"},
		"a wider column":      {change: "ALTER TABLE dbrunner.ledger ALTER COLUMN sequence TYPE numeric"},
		"an equal table":      {change: moved + "CREATE TABLE dbrunner.ledger (LIKE dbrunner.moved INCLUDING ALL)"},
		"indexes built again": {change: "REINDEX TABLE dbrunner.ledger"},
		"emptied":             {change: "TRUNCATE dbrunner.ledger"},
		"a check":             {"ALTER TABLE dbrunner.ledger ADD CONSTRAINT c CHECK (false) NOT VALID", "ALTER TABLE dbrunner.ledger DROP CONSTRAINT c"},
		"a column less":       {"ALTER TABLE dbrunner.ledger RENAME COLUMN answer TO gone", "ALTER TABLE dbrunner.ledger RENAME COLUMN gone TO answer"},
		"no table":            {"ALTER TABLE dbrunner.ledger RENAME TO moved", back},
		"a view":              {moved + "CREATE VIEW dbrunner.ledger AS SELECT * FROM dbrunner.moved", "DROP VIEW dbrunner.ledger; " + back},
		"another table":       {moved + "CREATE TABLE dbrunner.ledger (n int)", "DROP TABLE dbrunner.ledger; " + back},
		"a rule":              {"CREATE RULE r AS ON INSERT TO dbrunner.ledger DO INSTEAD NOTHING", "DROP RULE r ON dbrunner.ledger"},
		"a rule for some rows": {
			"CREATE RULE r AS ON INSERT TO dbrunner.ledger WHERE NEW.sequence > 0 DO INSTEAD NOTHING", "DROP RULE r ON dbrunner.ledger",
		},
		"a trigger":   {"CREATE TRIGGER t BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION keep_out()", "DROP TRIGGER t ON dbrunner.ledger"},
		"another key": {"CREATE TRIGGER t BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION rename()", "DROP TRIGGER t ON dbrunner.ledger"},
	} {
		for _, inside := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s inside %v", name, inside), func(t *testing.T) {
				t.Parallel()
				parsed, through := recordParsed(t)
				b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 }, through)
				b.sql(`CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
					CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.job_id = NEW.job_id || 'x'; RETURN NEW; END $$`)
				change := func(to string) {
					b.sql("CREATE OR REPLACE FUNCTION change() RETURNS int LANGUAGE plpgsql AS $f$ BEGIN " + to + "; RETURN 1; END $f$")
				}
				run := func(job string) error { _, err := b.transact(sealed(job), "SELECT change()", addOne); return err }
				rows := func(of string) int {
					return b.look("SELECT count(*) FROM dbrunner.ledger WHERE job_id LIKE $1", of+"%")
				}
				change("NULL")
				for i := range 8 { // so often that the server has a plan of the fence for all rows
					require.NoError(t, run(fmt.Sprint("before", i)))
				}
				before := b.pid()
				parsed.since()
				if inside {
					change(k.change)
				} else {
					b.sql(k.change)
				}
				for i := range 3 {
					err := run(fmt.Sprint("after", i))
					if k.undo == "" {
						require.NoError(t, err)
						require.Equal(t, 1, rows(fmt.Sprint("after", i)))
						change("NULL")
						continue
					}
					require.ErrorContains(t, err, "the ledger row could not be written")
					require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
					require.Equal(t, 8, b.effects())
				}
				if k.undo != "" && inside {
					change("NULL")
				} else if k.undo != "" {
					b.sql(k.undo)
				}
				require.NoError(t, run("last"))
				require.Equal(t, 1, rows("last"))
				unnamed, _ := parsed.since()
				require.Empty(t, unnamed, "the fence is the one of before")
				require.Equal(t, before, b.pid())
			})
		}
	}
}
