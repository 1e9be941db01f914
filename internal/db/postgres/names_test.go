package postgres_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// namesFunctions are functions: replaceAll puts other statements under the names of all prepared ones of its session, with the same
// parameters, and under those of the engine that are not prepared then. They leave a trace if anything runs them. dropAll
// deallocates them, prepareOne prepares another one.
const namesFunctions = `
CREATE TABLE IF NOT EXISTS stolen (id int);
CREATE FUNCTION replace_all() RETURNS int LANGUAGE plpgsql AS $$ DECLARE p record; BEGIN
	FOR p IN SELECT name, array_to_string(parameter_types, ',') AS types, true AS there FROM pg_prepared_statements
		UNION ALL SELECT n, '', false FROM unnest(ARRAY['dbrunner_own', 'dbr_next']) n
			WHERE n NOT IN (SELECT name FROM pg_prepared_statements)
	LOOP
		IF p.there THEN EXECUTE format('DEALLOCATE %I', p.name); END IF;
		EXECUTE format('PREPARE %I %s AS INSERT INTO stolen VALUES (1) RETURNING 77 AS id', p.name, '(' || nullif(p.types, '') || ')');
	END LOOP; RETURN 1; END $$;
CREATE FUNCTION drop_all() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 1; END $$;
CREATE FUNCTION drop_one() RETURNS int LANGUAGE plpgsql AS $$ DECLARE n text; BEGIN
	SELECT name INTO n FROM pg_prepared_statements WHERE name <> 'dbrunner_own' LIMIT 1; EXECUTE 'DEALLOCATE ' || n; RETURN 1; END $$;
CREATE FUNCTION prepare_one() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'PREPARE own AS SELECT 1'; RETURN 1; END $$;
CREATE FUNCTION prepare_two() RETURNS int LANGUAGE sql AS $$ PREPARE own2 AS SELECT 1; SELECT 1 $$;
`

// TestNamesOfOthers has jobs change the prepared statements of their session, in every way in which a job can run SQL: the
// session ends, and the jobs that follow run what they say.
func TestNamesOfOthers(t *testing.T) {
	t.Parallel()
	const victim, look = "UPDATE acc SET v = v + 1 WHERE id = 1", "SELECT v FROM acc WHERE id = 1"
	for _, what := range []string{"replace_all", "drop_all", "drop_one", "prepare_one", "prepare_two"} {
		for way, poison := range map[string]func(b *bench, what string) error{
			"block": func(b *bench, what string) error {
				_, err := b.transact(sealed("poison"), "DO $$ BEGIN PERFORM "+what+"(); END $$")
				return err
			},
			"rolled back": func(b *bench, what string) error {
				_, _ = b.transact(sealed("poison"), "SELECT "+what+"()", "SELECT 1/0")
				return nil
			},
			"without a ledger row": func(b *bench, what string) error {
				_, err := b.transact(nil, "SELECT "+what+"()")
				return err
			},
			"read": func(b *bench, what string) error { _, err := b.read("SELECT " + what + "()"); return err },
			"trigger": func(b *bench, _ string) error {
				_, err := b.transact(sealed("poison"), "INSERT INTO touched VALUES (1)")
				return err
			},
			"at commit": func(b *bench, _ string) error {
				_, err := b.transact(sealed("poison"), "INSERT INTO late VALUES (1)")
				return err
			},
			"held cursor": func(b *bench, what string) error {
				_, err := b.transact(sealed("poison"), "DECLARE c CURSOR WITH HOLD FOR SELECT "+what+"()")
				return err
			},
			"statement once": func(b *bench, what string) error {
				_, err := (&outside{b: b}).run(b.t.Context(), "poison", testTimeout, "SELECT "+what+"()")
				return err
			},
		} {
			t.Run(what+" "+way, func(t *testing.T) {
				t.Parallel()
				b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
				b.sql("CREATE TABLE acc (id int, v int); INSERT INTO acc VALUES (1, 0)")
				b.sql(namesFunctions)
				b.sql("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM " + what + "(); RETURN NULL; END $$")
				b.sql("CREATE TABLE touched (id int); CREATE TRIGGER t AFTER INSERT ON touched EXECUTE FUNCTION fire()")
				b.sql("CREATE TABLE late (id int); CREATE CONSTRAINT TRIGGER t AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire()")
				for i := range 3 {
					_, err := b.transact(sealed(fmt.Sprint("before", i)), victim)
					require.NoError(t, err)
					_, err = b.read(look)
					require.NoError(t, err)
				}
				before := b.pid()
				require.NoError(t, poison(b, what))
				eventually(t, func() bool { return b.sessions("state <> 'idle'") == 0 }, "the cleanup is over")
				require.Zero(t, b.look("SELECT count(*) FROM stolen"), "a command of the engine's was another one")
				for i := range 3 {
					job := fmt.Sprint("after", i)
					_, err := b.transact(sealed(job), victim)
					require.NoError(t, err)
					require.Equal(t, 4+i, b.look(look))
					require.Equal(t, 1, b.look("SELECT count(*) FROM dbrunner.ledger WHERE job_id = $1", job))
					set, err := b.read(look)
					require.NoError(t, err)
					require.JSONEq(t, fmt.Sprintf(`[{"v":%d}]`, 4+i), string(set.Rows))
				}
				require.NotEqual(t, before, b.pid(), "the session goes on")
			})
		}
	}
}

// TestNameOfTheEngine has jobs take the name of the engine's own commands away, or give it to a statement of theirs, in the
// middle of a transaction or at its COMMIT: the engine's commands stay its own.
func TestNameOfTheEngine(t *testing.T) {
	t.Parallel()
	for name, does := range map[string]string{
		"taken away": "DEALLOCATE dbrunner_own",
		"replaced":   "DEALLOCATE dbrunner_own; PREPARE dbrunner_own AS INSERT INTO stolen VALUES (1)",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
			b.sql(namesFunctions)
			b.sql("CREATE FUNCTION take() RETURNS int LANGUAGE plpgsql AS $$ BEGIN " + does + "; RETURN 1; END $$")
			b.sql("CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM take(); RETURN NULL; END $$")
			b.sql("CREATE TABLE late (id int); CREATE CONSTRAINT TRIGGER t AFTER INSERT ON late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fire()")
			before := 0
			for i := range 4 {
				_, err := b.transact(sealed(fmt.Sprint("now", i)), addOne, "SELECT take()")
				require.NoError(t, err)
				_, err = b.transact(sealed(fmt.Sprint("late", i)), addOne, "INSERT INTO late VALUES (1)")
				require.NoError(t, err)
				_, err = b.transact(sealed("failed"), addOne, "SELECT take()", "SELECT 1/0")
				require.Error(t, err)
				_, err = b.read("SELECT take()")
				require.NoError(t, err)
				require.Equal(t, 2*i+2, b.effects())
				if i == 0 {
					before = b.pid()
				}
			}
			require.Zero(t, b.look("SELECT count(*) FROM stolen"))
			require.Equal(t, 8, b.look("SELECT count(*) FROM dbrunner.ledger"))
			require.Equal(t, before, b.pid())
		})
	}
}

// pid is the engine's only session.
func (b *bench) pid() int {
	b.t.Helper()
	return b.look("SELECT max(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'dbrunner/%'")
}

// TestNamesWithinAReadBatch: a read that replaces statements changes nothing in the answers of those beside it.
func TestNamesWithinAReadBatch(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"PERFORM replace_all()", "PERFORM drop_all()", "PERFORM prepare_one()"} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t)
			c.sql(namesFunctions)
			c.sql(`CREATE OR REPLACE FUNCTION do_this(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DO $x$ BEGIN ' || what || '; END $x$'; RETURN 1; END $$`)
			c.warm()
			before := c.pid()
			answers := c.together(plain(stmt(anyRead, what))...)
			c.requireOthers(answers)
			require.Equal(t, answer{rows: `[{"done":1}]`}, answers[strangerAt])
			require.NoError(t, c.ask(t.Context(), stmt(plainRead, "1"), nil).err)
			require.NotEqual(t, before, c.pid(), "the session goes on")
		})
	}
}

// TestHonestJobsKeepTheirSession: what does not touch prepared statements on purpose does not cost the session: errors in
// statements that the session knows, tables that change, more texts than the session keeps.
func TestHonestJobsKeepTheirSession(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
	b.sql("CREATE TABLE thing (a int); INSERT INTO thing VALUES (1)")
	_, err := b.read("SELECT 1 AS n")
	require.NoError(t, err)
	before := b.pid()
	for i := range 4 {
		for range 3 {
			_, _ = b.read("SELECT * FROM nowhere")
			_, _ = b.transact(sealed("never"), "SELECT * FROM thing", "SELECT * FROM nowhere", "SELECT 2 AS n")
			_, _ = b.transact(sealed("never"), "SELECT 1/0", "SELECT 2 AS n")
			_, err := b.read("SELECT * FROM thing")
			require.NoError(t, err)
		}
		b.sql(fmt.Sprintf("ALTER TABLE thing ADD COLUMN c%d int", i))
	}
	b.sql("DROP TABLE thing")
	for range 3 {
		_, err := b.read("SELECT * FROM thing")
		require.Error(t, err)
	}
	for i := range 300 {
		for range 2 {
			_, err := b.transact(nil, fmt.Sprintf("SELECT %d AS n", i), fmt.Sprintf("SELECT %d AS n, 2 AS m", i))
			require.NoError(t, err)
		}
	}
	require.Equal(t, before, b.pid())
}

// TestRowKeptOut: a ledger whose rows are kept out, or are not those of the job, lets no job commit.
func TestRowKeptOut(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"trigger": `CREATE FUNCTION keep_out() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
			CREATE TRIGGER t BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION keep_out()`,
		"rule":      `CREATE RULE r AS ON INSERT TO dbrunner.ledger DO INSTEAD NOTHING`,
		"condition": `CREATE RULE r AS ON INSERT TO dbrunner.ledger WHERE true DO INSTEAD NOTHING`,
		"another key": `CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.job_id = NEW.job_id || 'x'; RETURN NEW; END $$;
			CREATE TRIGGER t BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION rename()`,
		"another namespace": `CREATE FUNCTION rename() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.namespace = 'x'; RETURN NEW; END $$;
			CREATE TRIGGER t BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION rename()`,
		"another table": `CREATE TABLE dbrunner.other (LIKE dbrunner.ledger INCLUDING ALL);
			CREATE RULE r AS ON INSERT TO dbrunner.ledger DO INSTEAD INSERT INTO dbrunner.other VALUES (NEW.*) RETURNING *`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			for i := range 3 {
				_, err := b.transact(sealed(fmt.Sprint("before", i)), "SELECT 1 AS n")
				require.NoError(t, err)
			}
			_, err := b.transact(nil, "DO $x$ BEGIN "+ddl+"; END $x$")
			require.NoError(t, err)
			for i := range 3 {
				_, err = b.transact(sealed(fmt.Sprint("after", i)), insertOne)
				require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
				require.ErrorContains(t, err, "the ledger row could not be written")
				failed, _ := errors.AsType[*db.Error](err)
				require.NotEqual(t, contract.CodeData, failed.Code, "how the fence fails is the engine's affair: %v", err)
				_, err = (&outside{b: b}).run(t.Context(), fmt.Sprint("once", i), testTimeout, insertOne)
				require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
			}
			require.Zero(t, b.effects())
		})
	}
}

// TestTypeNamesOfOthers: a job's search path does not decide how types are named in the results of later jobs.
func TestTypeNamesOfOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
	b.sql(`CREATE TYPE mood AS ENUM ('happy'); CREATE SCHEMA evil;
		CREATE FUNCTION evil.quote_ident(text) RETURNS text LANGUAGE sql AS $$ SELECT 'evil' $$;
		CREATE FUNCTION evil.same(oid, oid) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$;
		CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.same)`)
	for _, path := range []string{"evil, pg_catalog, public", "public"} {
		sets, err := b.transact(nil, "SET search_path = "+path, "SELECT 'happy'::mood AS m")
		require.NoError(t, err)
		require.Equal(t, "public.mood", sets[1].Columns[0].Type, path)
	}
}
