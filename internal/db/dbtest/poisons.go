package dbtest

// Poison is a way in which a job may harm what its own execution needs, or make its failure look like the server's. SQL
// are the statements of one transaction, or with Query the one statement of a query. Before are committed before.
type Poison struct {
	Name   string
	Before []string
	SQL    []string
	Query  bool
}

func poison(name string, sql ...string) Poison { return Poison{Name: name, SQL: sql} }

// raising is a poison whose statement fails with a code of the server's choice.
func raising(code string) Poison {
	return poison("raise "+code, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '"+code+"'; END $$")
}

// dynamic is SQL that the runner sees only as a string.
func dynamic(sql string) string { return "DO $do$ BEGIN EXECUTE $sql$" + sql + "$sql$; END $do$" }

// trigger puts a trigger before the ledger's inserts, in the job's own transaction.
func trigger(name, body string) Poison {
	return poison(name,
		"CREATE FUNCTION in_the_way() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "+body+" END $$",
		"CREATE TRIGGER in_the_way BEFORE INSERT ON dbrunner.ledger FOR EACH ROW EXECUTE FUNCTION in_the_way()")
}

// rule rewrites the ledger's inserts, in the job's own transaction.
func rule(name, does string) Poison {
	return poison(name, "CREATE RULE r AS ON INSERT TO dbrunner.ledger "+does)
}

// PostgresPoisons are those of PostgreSQL, for a login that may do everything.
func PostgresPoisons() []Poison {
	list := []Poison{
		poison("ledger dropped", "DROP TABLE dbrunner.ledger"),
		poison("ledger dropped, dynamic", dynamic("DROP TABLE dbrunner.ledger")),
		poison("schema dropped", dynamic("DROP SCHEMA dbrunner CASCADE")),
		poison("ledger renamed", "ALTER TABLE dbrunner.ledger RENAME TO gone"),
		poison("schema renamed", "ALTER SCHEMA dbrunner RENAME TO gone"),
		poison("column renamed", "ALTER TABLE dbrunner.ledger RENAME COLUMN status TO gone"),
		poison("column dropped", "ALTER TABLE dbrunner.ledger DROP COLUMN answer"),
		poison("view in its place", "ALTER TABLE dbrunner.ledger RENAME TO real", "CREATE VIEW dbrunner.ledger AS SELECT 1 AS n"),
		poison("table in its place", "ALTER TABLE dbrunner.ledger RENAME TO real", "CREATE TABLE dbrunner.ledger (n integer)"),
		poison("temporary table before it", "CREATE TEMP TABLE ledger (n integer)", "SET LOCAL search_path = pg_temp, dbrunner"),
		poison("check that nothing passes", "ALTER TABLE dbrunner.ledger ADD CHECK (false) NOT VALID"),
		poison("row level security", "ALTER TABLE dbrunner.ledger ENABLE ROW LEVEL SECURITY", "ALTER TABLE dbrunner.ledger FORCE ROW LEVEL SECURITY",
			"SET LOCAL ROLE pg_monitor"),
		rule("rule that does nothing instead", "DO INSTEAD NOTHING"),
		rule("rule that does nothing for some rows", "WHERE NEW.sequence >= 0 DO INSTEAD NOTHING"),
		rule("rule that reads instead", "DO INSTEAD SELECT 1 AS n"),
		rule("rule that does something besides", "DO ALSO SELECT 1 AS n"),
		poison("rule that inserts elsewhere instead", "CREATE TABLE dbrunner.other (LIKE dbrunner.ledger INCLUDING ALL)",
			"CREATE RULE r AS ON INSERT TO dbrunner.ledger DO INSTEAD INSERT INTO dbrunner.other VALUES (NEW.*)"),
		poison("rule that inserts elsewhere and returns it", "CREATE TABLE dbrunner.other (LIKE dbrunner.ledger INCLUDING ALL)",
			"CREATE RULE r AS ON INSERT TO dbrunner.ledger DO INSTEAD INSERT INTO dbrunner.other VALUES (NEW.*) RETURNING *"),
		trigger("trigger that keeps the row out", "RETURN NULL;"),
		trigger("trigger that changes the key", "NEW.job_id = 'another'; RETURN NEW;"),
		trigger("trigger that refuses", "RAISE EXCEPTION 'no';"),
		trigger("trigger that looks like a shutdown", "RAISE EXCEPTION USING ERRCODE = '57P03';"),
		trigger("trigger that looks like a full server", "RAISE EXCEPTION USING ERRCODE = '53300';"),
		trigger("trigger that looks like a standby", "RAISE EXCEPTION USING ERRCODE = '25006';"),
		trigger("trigger that looks like a taken key", "RAISE EXCEPTION USING ERRCODE = '23505';"),
		trigger("trigger that ends the session", "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW;"),
		poison("role without rights", "SET LOCAL ROLE pg_monitor"),
		poison("role of the session", "SET ROLE pg_monitor"),
		poison("another login", "SET SESSION AUTHORIZATION pg_monitor"),
		poison("rights revoked", "SET LOCAL ROLE pg_monitor", "RESET ROLE", "REVOKE ALL ON dbrunner.ledger FROM CURRENT_USER"),
		poison("no search path", "SELECT set_config('search_path', '', false)"),
		poison("read-only from here on", "SET LOCAL transaction_read_only = on"),
		poison("read-only by default", "SET default_transaction_read_only = on", "SET LOCAL transaction_read_only = on"),
		poison("own session ended", "SELECT pg_terminate_backend(pg_backend_pid())"),
		poison("own session cancelled", "SELECT pg_cancel_backend(pg_backend_pid())"),
		poison("idle timeout", "SET LOCAL idle_in_transaction_session_timeout = 1", "SELECT 1 AS n"),
		poison("statement timeout", "SET LOCAL statement_timeout = 1", "SELECT pg_sleep(1)"),
		poison("lock timeout", "SET LOCAL lock_timeout = 1"),
		poison("ledger locked", "LOCK TABLE dbrunner.ledger IN ACCESS EXCLUSIVE MODE", "SELECT pg_sleep(0.2)"),
		poison("out of memory", "SELECT repeat('x', 1000000000) || repeat('x', 1000000000) AS v"),
		{Name: "query that ends its session", Query: true, SQL: []string{"SELECT pg_terminate_backend(pg_backend_pid()) AS v"}},
		{
			Name: "deferred trigger that ends the session at COMMIT",
			SQL: []string{
				"CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NEW; END $$",
				"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
				"INSERT INTO item (id, name) VALUES (4242, 'late')",
			},
		},
		{
			Name: "deferred trigger that refuses COMMIT as a shutdown does",
			SQL: []string{
				"CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P01'; END $$",
				"CREATE CONSTRAINT TRIGGER late AFTER INSERT ON item DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
				"INSERT INTO item (id, name) VALUES (4243, 'late')",
			},
		},
	}
	for _, code := range []string{
		"57P01", "57P02", "57P03", "57P04", "57P05", "53000", "53100", "53200", "53300", "53400", "08000", "08003", "08006", "08007", "08P01",
		"25006", "25P02", "25P03", "26000", "28000", "28P01", "3D000", "40001", "40003", "42501", "42P01", "42P05", "55P03", "57014", "58000",
		"58030", "XX000", "XX001", "0A000",
	} {
		list = append(list, raising(code))
	}
	return list
}

// SQLitePoisons are those of SQLite. Most are refused, which will do.
func SQLitePoisons() []Poison {
	return []Poison{
		poison("temporary table renamed", "CREATE TEMP TABLE x (a)", "ALTER TABLE x RENAME TO dbrunner_ledger"),
		poison("temporary table before it", "CREATE TEMP TABLE dbrunner_ledger (a)"),
		poison("temporary view before it", "CREATE TEMP VIEW dbrunner_ledger AS SELECT 1 AS a"),
		poison("temporary view renamed", "CREATE TEMP VIEW x AS SELECT 1 AS a", "ALTER TABLE x RENAME TO dbrunner_ledger"),
		poison("virtual table before it", "CREATE VIRTUAL TABLE temp.dbrunner_ledger USING fts5(a)"),
		poison("virtual table renamed", "CREATE VIRTUAL TABLE temp.x USING fts5(a)", "ALTER TABLE temp.x RENAME TO dbrunner_ledger"),
		poison("table renamed", "CREATE TABLE x (a)", "ALTER TABLE x RENAME TO dbrunner_ledger"),
		poison("ledger renamed", "ALTER TABLE dbrunner_ledger RENAME TO gone"),
		poison("ledger dropped", "DROP TABLE dbrunner_ledger"),
		poison("column renamed", "ALTER TABLE main.dbrunner_ledger RENAME COLUMN status TO gone"),
		poison("column dropped", "ALTER TABLE dbrunner_ledger DROP COLUMN answer"),
		poison("index", "CREATE UNIQUE INDEX x ON dbrunner_ledger (namespace)"),
		poison("trigger that refuses", "CREATE TRIGGER x BEFORE INSERT ON dbrunner_ledger BEGIN SELECT RAISE(ABORT, 'no'); END"),
		poison("trigger that ignores", "CREATE TEMP TRIGGER x BEFORE INSERT ON main.dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END"),
		poison("reference to it", "CREATE TABLE x (a REFERENCES dbrunner_ledger (job_id))", "INSERT INTO x VALUES ('a')"),
		poison("schema written", "PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema WHERE name = 'dbrunner_ledger'"),
		poison("no more pages", "PRAGMA max_page_count = 1"),
		poison("no more pages by function", "SELECT * FROM pragma_max_page_count(1)"),
		poison("query only", "PRAGMA query_only = ON"),
		poison("temp store", "PRAGMA temp_store = FILE", "CREATE TEMP TABLE big AS SELECT randomblob(1000000) AS b"),
		poison("another file", "ATTACH DATABASE ':memory:' AS other"),
		poison("main detached", "DETACH DATABASE main"),
		poison("transaction ended", "ROLLBACK"),
		poison("transaction ended by a conflict", "INSERT INTO item (id, name) VALUES (1, 'x')", "INSERT OR ROLLBACK INTO item (id, name) VALUES (1, 'x')"),
		poison("transaction ended by a trigger",
			"CREATE TRIGGER ends BEFORE DELETE ON item BEGIN SELECT RAISE(ROLLBACK, 'ended'); END",
			"INSERT INTO item (id, name) VALUES (7, 'y')", "DELETE FROM item WHERE id = 7"),
		poison("foreign key that fails at COMMIT", "PRAGMA defer_foreign_keys = ON", "INSERT INTO part (id, item_id) VALUES (9, 424242)"),
		poison("a value too large", "SELECT zeroblob(1000000000) AS b"),
		poison("text about transactions", "SELECT abs(-9223372036854775808) AS n"),
		poison("error that quotes the ledger", "SELECT json_extract('{', 'no such table: dbrunner_ledger') AS n"),
		poison("recursion", "CREATE TRIGGER again AFTER INSERT ON item BEGIN INSERT INTO item (id, name) VALUES (new.id + 1, 'n' || new.id); END",
			"PRAGMA recursive_triggers = ON", "INSERT INTO item (id, name) VALUES (100000, 'z')"),
		{Name: "query that fails while it runs", Query: true, SQL: []string{"SELECT json_extract('{', '$') AS n"}},
		{Name: "query of a broken view", Before: []string{"CREATE VIEW broken AS SELECT * FROM nosuch"}, Query: true, SQL: []string{"SELECT * FROM broken"}},
	}
}
