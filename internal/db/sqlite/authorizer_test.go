package sqlite_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// attempt is something that a job tries against the ledger, or against the job after it.
type attempt struct {
	action  string // the authorizer's, or what is tried where it is not asked
	sql     []string
	allowed bool // the job succeeds: it is harmless
}

const ledgerColumns = "namespace TEXT, database_name TEXT, job_id TEXT, request_hash BLOB, status TEXT, sequence INTEGER, " +
	"message_time INTEGER, runner TEXT, recorded_at INTEGER, answer BLOB"

const toLedger = "FOREIGN KEY (n, d, j) REFERENCES dbrunner_ledger (namespace, database_name, job_id)"

// attempts has at least one of each action that SQLite asks the authorizer about, and what it does not ask about.
var attempts = []attempt{
	{"INSERT", []string{"INSERT INTO dbrunner_ledger SELECT * FROM dbrunner_ledger"}, false},
	{"INSERT or replace", []string{"REPLACE INTO main.[DBRUNNER_ledger] (namespace) VALUES ('x')"}, false},
	{"INSERT upsert", []string{"INSERT INTO `dbrunner_ledger` SELECT * FROM dbrunner_ledger WHERE true ON CONFLICT DO UPDATE SET status = 'x'"}, false},
	{"INSERT of a subquery", []string{"WITH x AS (SELECT * FROM dbrunner_ledger) INSERT INTO \"dbrunner_ledger\" SELECT * FROM x"}, false},
	{"UPDATE", []string{"UPDATE dbrunner_ledger SET status = 'failed'"}, false},
	{"UPDATE from", []string{"UPDATE main.dbrunner_ledger AS l SET recorded_at = 0 FROM effect"}, false},
	{"UPDATE or ignore", []string{"UPDATE OR IGNORE 'dbrunner_ledger' SET job_id = 'x'"}, false},
	{"DELETE", []string{"DELETE FROM dbrunner_ledger"}, false},
	{"DELETE returning", []string{"DELETE FROM main.dbrunner_ledger WHERE job_id = 'kept' RETURNING *"}, false},
	{"DROP_TABLE", []string{"DROP TABLE dbrunner_ledger"}, false},
	{"DROP_TABLE if exists", []string{"DROP TABLE IF EXISTS main.dbrunner_ledger"}, false},
	{"ALTER_TABLE rename", []string{"ALTER TABLE dbrunner_ledger RENAME TO gone"}, false},
	{"ALTER_TABLE add", []string{"ALTER TABLE dbrunner_ledger ADD COLUMN g AS (status) STORED"}, false},
	{"ALTER_TABLE drop", []string{"ALTER TABLE dbrunner_ledger DROP COLUMN answer"}, false},
	{"ALTER_TABLE rename column", []string{"ALTER TABLE main.dbrunner_ledger RENAME COLUMN answer TO reply"}, false},
	{"ALTER_TABLE takes the name", []string{"CREATE TABLE x (a)", "ALTER TABLE x RENAME TO dbrunner_ledger"}, false},
	{"ALTER_TABLE add a key", []string{"CREATE TABLE x (a)", "ALTER TABLE x ADD COLUMN b REFERENCES dbrunner_ledger (job_id)"}, false},
	{"ALTER_TABLE in temp", []string{"CREATE TEMP TABLE x (" + ledgerColumns + ")", "ALTER TABLE x RENAME TO dbrunner_ledger"}, false},
	{"ALTER_TABLE in temp, named", []string{"CREATE TABLE temp.x (a)", "ALTER TABLE temp.x RENAME TO /* */ \"DBRUNNER_LEDGER\""}, false},
	{"CREATE_INDEX", []string{"CREATE UNIQUE INDEX x ON dbrunner_ledger (namespace)"}, false},
	{"CREATE_INDEX on an expression", []string{"CREATE INDEX x ON dbrunner_ledger (abs(-9223372036854775808))"}, false},
	{"DROP_INDEX", []string{"DROP INDEX dbrunner_ledger_recorded"}, false},
	{"REINDEX", []string{"REINDEX dbrunner_ledger"}, true},
	{"ANALYZE", []string{"ANALYZE dbrunner_ledger"}, true},
	{"CREATE_TRIGGER", []string{"CREATE TRIGGER x BEFORE INSERT ON dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END"}, false},
	{"CREATE_TRIGGER elsewhere", []string{"CREATE TRIGGER x AFTER UPDATE ON effect BEGIN DELETE FROM dbrunner_ledger; END"}, false},
	{"CREATE_TRIGGER on a view", []string{"CREATE VIEW v AS SELECT 1 AS a", "CREATE TRIGGER x INSTEAD OF INSERT ON v BEGIN UPDATE dbrunner_ledger SET status = 'x'; END"}, false},
	{"CREATE_TEMP_TRIGGER", []string{"CREATE TEMP TRIGGER x BEFORE INSERT ON main.dbrunner_ledger BEGIN SELECT RAISE(IGNORE); END"}, false},
	{"CREATE_TEMP_TRIGGER elsewhere", []string{"CREATE TEMP TRIGGER x AFTER INSERT ON effect BEGIN DELETE FROM effect; END"}, true},
	{"DROP_TEMP_TRIGGER", []string{"CREATE TEMP TRIGGER x AFTER INSERT ON effect BEGIN DELETE FROM effect; END", "DROP TRIGGER x"}, true},
	{"DROP_TRIGGER", []string{"CREATE TRIGGER x AFTER INSERT ON part BEGIN SELECT 1; END", "DROP TRIGGER x"}, true},
	{"CREATE_TABLE", []string{"CREATE TABLE dbrunner_ledger (a)"}, false},
	{"CREATE_TABLE if not exists", []string{"CREATE TABLE IF NOT EXISTS dbrunner_ledger (a)"}, false},
	{"CREATE_TABLE key", []string{"CREATE TABLE leech (n, d, j, " + toLedger + ")", "INSERT INTO leech SELECT namespace, database_name, job_id FROM dbrunner_ledger"}, false},
	{"CREATE_TABLE key, deferred", []string{"CREATE TABLE leech (n, d, j, " + toLedger + " DEFERRABLE INITIALLY DEFERRED) STRICT"}, false},
	{"CREATE_TABLE key, cascade", []string{"CREATE TABLE leech (id INTEGER PRIMARY KEY AUTOINCREMENT, n REFERENCES [dbrunner_ledger] ON DELETE CASCADE)"}, false},
	{"CREATE_TABLE key, quoted", []string{"CREATE TABLE leech (n REFERENCES 'Dbrunner_Ledger'(job_id))"}, false},
	{"CREATE_TABLE key, generated", []string{"CREATE TABLE leech (a, n AS (a) STORED REFERENCES/**/\"dbrunner_ledger\", d, j) WITHOUT ROWID"}, false},
	{"CREATE_TABLE as", []string{"CREATE TABLE copied AS SELECT * FROM dbrunner_ledger"}, true},
	{"CREATE_TEMP_TABLE", []string{"CREATE TEMP TABLE dbrunner_ledger (a)"}, false},
	{"CREATE_TEMP_TABLE as", []string{"CREATE TEMPORARY TABLE main_ledger AS SELECT * FROM dbrunner_ledger"}, true},
	{"CREATE_TEMP_TABLE before a table", []string{"CREATE TEMP TABLE effect (id)"}, true},
	{"CREATE_TEMP_TABLE with a key", []string{"CREATE TABLE temp.leech (n REFERENCES dbrunner_ledger)"}, false},
	{"DROP_TEMP_TABLE", []string{"CREATE TEMP TABLE x (a)", "DROP TABLE temp.x"}, true},
	{"CREATE_TEMP_INDEX", []string{"CREATE TEMP TABLE x (a)", "CREATE INDEX temp.i ON x (a)"}, true},
	{"DROP_TEMP_INDEX", []string{"CREATE TEMP TABLE x (a)", "CREATE INDEX temp.i ON x (a)", "DROP INDEX temp.i"}, true},
	{"CREATE_VIEW", []string{"CREATE VIEW dbrunner_ledger AS SELECT 1 AS a"}, false},
	{"CREATE_VIEW elsewhere", []string{"CREATE VIEW v AS SELECT * FROM dbrunner_ledger"}, true},
	{"DROP_VIEW", []string{"CREATE VIEW v AS SELECT 1 AS a", "DROP VIEW v"}, true},
	{"CREATE_TEMP_VIEW", []string{"CREATE TEMP VIEW dbrunner_ledger AS SELECT 1 AS x"}, false},
	{"CREATE_TEMP_VIEW before a table", []string{"CREATE TEMP VIEW effect AS SELECT 1 AS id"}, true},
	{"DROP_TEMP_VIEW", []string{"CREATE VIEW temp.v AS SELECT 1 AS a", "DROP VIEW temp.v"}, true},
	{"CREATE_VTABLE", []string{"CREATE VIRTUAL TABLE dbrunner_ledger USING fts5(a)"}, false},
	{"CREATE_VTABLE in temp", []string{"CREATE VIRTUAL TABLE temp.dbrunner_ledger USING fts5(namespace, database_name, job_id, request_hash, status, sequence, message_time, runner, recorded_at, answer)"}, false},
	{"CREATE_VTABLE in temp, vocabulary", []string{"CREATE VIRTUAL TABLE temp.effect USING fts5vocab('main', 'ft', 'row')"}, true},
	{"CREATE_VTABLE in temp, statistics", []string{"CREATE VIRTUAL TABLE temp.part USING dbstat(main)"}, true},
	{"CREATE_VTABLE in temp, rtree", []string{"CREATE VIRTUAL TABLE temp.effect USING rtree(id, a, b)"}, true},
	{"CREATE_VTABLE over the ledger", []string{"CREATE VIRTUAL TABLE x USING fts5(answer, content='dbrunner_ledger')", "INSERT INTO x (x) VALUES ('delete-all')"}, false},
	{"DROP_VTABLE", []string{"CREATE VIRTUAL TABLE temp.x USING fts5(a)", "DROP TABLE temp.x"}, true},
	{"writing pages", []string{"UPDATE sqlite_dbpage SET data = zeroblob(4096)"}, false},
	{"writing the schema", []string{"UPDATE sqlite_schema SET sql = replace(sql, 'PRIMARY KEY', 'CHECK')"}, false},
	{"deleting from the schema", []string{"DELETE FROM main.sqlite_master WHERE name = 'dbrunner_ledger'"}, false},
	{"ATTACH", []string{"ATTACH ':memory:' AS other"}, false},
	{"DETACH", []string{"DETACH main"}, false},
	{"TRANSACTION", []string{"COMMIT"}, false},
	{"SAVEPOINT", []string{"SAVEPOINT a"}, false},
	{"PRAGMA writable_schema", []string{"PRAGMA writable_schema = ON", "DELETE FROM sqlite_schema"}, false},
	{"PRAGMA foreign_keys", []string{"PRAGMA main.foreign_keys(off)"}, false},
	{"PRAGMA ignore_check_constraints", []string{"PRAGMA ignore_check_constraints = 1"}, false},
	{"PRAGMA recursive_triggers", []string{"PRAGMA recursive_triggers = 1"}, false},
	{"PRAGMA legacy_alter_table", []string{"EXPLAIN PRAGMA legacy_alter_table = 1"}, false},
	{"PRAGMA query_only", []string{"PRAGMA query_only = 1"}, false},
	{"PRAGMA locking_mode", []string{"PRAGMA locking_mode = EXCLUSIVE"}, false},
	{"PRAGMA temp_store", []string{"PRAGMA temp_store = 2"}, false},
	{"PRAGMA defer_foreign_keys", []string{"PRAGMA defer_foreign_keys = 1"}, false},
	{"PRAGMA by a function", []string{"SELECT * FROM pragma_wal_checkpoint('truncate')"}, false},
	{"PRAGMA that asks", []string{"PRAGMA table_info(dbrunner_ledger)"}, true},
	{"FUNCTION load_extension", []string{"SELECT load_extension('x')"}, false},
	{"READ", []string{"SELECT count(*) FROM dbrunner_ledger"}, true},
	{"RECURSIVE", []string{"WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) SELECT n FROM r"}, true},
	{"ROLLBACK by a trigger", []string{"CREATE TABLE z (a)", "CREATE TRIGGER x BEFORE INSERT ON z BEGIN SELECT RAISE(ROLLBACK, 'no'); END", "INSERT INTO z VALUES (1)"}, false},
	{"ROLLBACK by a conflict", []string{"INSERT INTO effect VALUES (7)", "INSERT OR ROLLBACK INTO effect VALUES (7)"}, false},
	{"a key without a ledger's name", []string{"CREATE TABLE y (a REFERENCES x)", "CREATE TABLE x (a PRIMARY KEY)", "ALTER TABLE x RENAME TO dbrunner_LEDGER"}, false},
	{"the history of migrations", []string{"CREATE TABLE dbrunner_migrations (a)"}, false},
	{"a trigger on the history", []string{"CREATE TRIGGER x AFTER INSERT ON dbrunner_migrations BEGIN SELECT 1; END"}, false},
}

// TestPastTheAuthorizer: nothing that a job does reaches the ledger or the next job, whether it runs in a transaction, by
// itself, or as a query.
func TestPastTheAuthorizer(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(attempts), 60)
	for _, a := range attempts {
		t.Run(a.action, func(t *testing.T) {
			t.Parallel()
			w := newVictim(t)
			w.inTransaction(a)
			w.aftermath()
			for _, sql := range a.sql {
				_, err := w.d.Execute(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Arrays}, nil)
				w.jobsOwn(err)
				w.aftermath()
				_, err = w.d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Arrays})
				w.jobsOwn(err)
				require.Equal(t, "[[0]]", rows(t, w.d, "SELECT count(*) FROM sqlite_temp_schema"))
			}
			w.aftermath()
			w.swept()
		})
	}
}

// victim is a database with a ledger, and a job after others.
type victim struct {
	t    *testing.T
	opts db.Options
	d    db.Database
	jobs int
}

func newVictim(t *testing.T) *victim {
	t.Helper()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE effect (id INTEGER PRIMARY KEY)", "CREATE TABLE part (id INTEGER, effect INTEGER REFERENCES effect)",
		"CREATE VIRTUAL TABLE ft USING fts5(body)", "INSERT INTO effect VALUES (1)")
	_, err := transact(t.Context(), d, sealed("kept"), "INSERT INTO effect VALUES (2)")
	require.NoError(t, err)
	return &victim{t: t, opts: opts, d: d}
}

// jobsOwn holds that an error is the job's, not the database's.
func (w *victim) jobsOwn(err error) {
	w.t.Helper()
	if e, ok := errors.AsType[*db.Error](err); ok {
		require.Contains(w.t, []db.Class{db.ClassPermanent, db.ClassTookEffect}, e.Class, e.Error())
	}
}

// inTransaction runs the attempt with a row of its own in the ledger: what succeeded is on record, and runs once.
func (w *victim) inTransaction(a attempt) {
	w.t.Helper()
	_, err := transact(w.t.Context(), w.d, sealed("tried"), append(a.sql, "INSERT INTO main.part VALUES (3, 1)")...)
	if a.allowed {
		require.NoError(w.t, err)
	} else {
		require.Error(w.t, err)
		w.jobsOwn(err)
	}
	row, lookup := w.d.Lookup(w.t.Context(), "tried")
	require.NoError(w.t, lookup)
	require.Equal(w.t, a.allowed, row != nil)
	if a.allowed {
		_, err = transact(w.t.Context(), w.d, sealed("tried"), "INSERT INTO main.part VALUES (4, 1)")
		require.Equal(w.t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	}
}

// aftermath holds that the next job finds what it should: its tables, its keys, its row in the ledger, no temporary object.
func (w *victim) aftermath() {
	w.t.Helper()
	w.jobs++
	id := "next-" + string(rune('a'+w.jobs))
	_, err := transact(w.t.Context(), w.d, sealed(id), "INSERT INTO effect VALUES (100)", "INSERT INTO part VALUES (100, 100)",
		"DELETE FROM part WHERE id = 100", "DELETE FROM effect WHERE id = 100")
	require.NoError(w.t, err)
	sets, err := transact(w.t.Context(), w.d, nil, "SELECT count(*) FROM sqlite_temp_schema", "SELECT id FROM effect WHERE id < 3")
	require.NoError(w.t, err)
	require.Equal(w.t, "[[0]]", string(sets[0].Rows), "temporary objects")
	require.Equal(w.t, "[[1],[2]]", string(sets[1].Rows))
	_, err = transact(w.t.Context(), w.d, nil, "INSERT INTO part VALUES (5, 424242)")
	require.Equal(w.t, contract.CodeForeignKey, err.(*db.Error).Code) //nolint:errorlint // of this engine
	for _, id := range []string{"kept", id} {
		row, err := w.d.Lookup(w.t.Context(), id)
		require.NoError(w.t, err)
		require.NotNil(w.t, row, id)
		require.Equal(w.t, "succeeded", row.Status)
	}
	require.NoError(w.t, w.d.Probe(w.t.Context()))
}

// swept holds that statements without an authorizer, as migrations run them, leave the ledger alone, and that its
// cleanup deletes all of its rows and none of others.
func (w *victim) swept() {
	w.t.Helper()
	raw := openRaw(w.t, w.opts.ConnectionString)
	_, err := raw.ExecContext(w.t.Context(), "UPDATE effect SET id = id; DELETE FROM effect WHERE id = 424242")
	require.NoError(w.t, err)
	w.aftermath()
	var ledger, others int
	count := func(query string) (n int) {
		require.NoError(w.t, raw.QueryRowContext(w.t.Context(), query).Scan(&n))
		return n
	}
	ledger, others = count("SELECT count(*) FROM dbrunner_ledger"), count("SELECT count(*) FROM effect")+count("SELECT count(*) FROM part")
	n, err := w.d.Sweep(w.t.Context(), time.Now().Add(time.Hour), ledger+1)
	require.NoError(w.t, err)
	require.Equal(w.t, ledger, n)
	require.Equal(w.t, others, count("SELECT count(*) FROM effect")+count("SELECT count(*) FROM part"))
	require.Zero(w.t, count("SELECT count(*) FROM dbrunner_ledger"))
}
