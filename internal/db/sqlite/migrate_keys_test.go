package sqlite_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/sqlite"
)

// migrated runs a folder of files on the database of some options; up to the last one.
func migrated(t *testing.T, opts db.Options, files map[string]string) (*migration.Report, error) {
	t.Helper()
	engine, err := sqlite.Migrations(opts)
	require.NoError(t, err)
	folder := fstest.MapFS{}
	for name, text := range files {
		folder[name] = &fstest.MapFile{Data: []byte(text)}
	}
	m, err := migration.New(migration.Options{Engine: engine, Source: folder, Where: "here", Runner: "runner-1"})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	return m.Run(t.Context(), migration.Request{Action: migration.Up})
}

func number(t *testing.T, raw *sql.DB, query string) (n int) {
	t.Helper()
	require.NoError(t, raw.QueryRowContext(t.Context(), query).Scan(&n), query)
	return n
}

const (
	family = `CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE child (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parent (id) ON DELETE CASCADE);
INSERT INTO parent VALUES (1, 'a'), (2, 'b');
INSERT INTO child VALUES (10, 1), (20, 2), (30, 2);`
	rebuild = `CREATE TABLE parent_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
INSERT INTO parent_new SELECT id, name FROM parent;
DROP TABLE parent;
ALTER TABLE parent_new RENAME TO parent;`
)

// keysOff are ways to write that foreign keys are to be off.
var keysOff = []string{
	"PRAGMA foreign_keys = OFF;", "PRAGMA foreign_keys=off;", "pragma Foreign_Keys(OFF);", "PRAGMA foreign_keys = no;",
	"PRAGMA foreign_keys = 'off';", `PRAGMA foreign_keys = "OFF";`, "PRAGMA foreign_keys = [off];", "PRAGMA foreign_keys = `off`;",
	"PRAGMA foreign_keys = 0;", "PRAGMA foreign_keys = 00;", "PRAGMA foreign_keys = 0x0;", "PRAGMA foreign_keys = 0.9;",
	"PRAGMA foreign_keys = -0;", "PRAGMA foreign_keys = -1;", "PRAGMA foreign_keys = false;", "PRAGMA foreign_keys = banana;",
	"PRAGMA foreign_keys('no');", "PRAGMA foreign_keys /* ; */ ( /* x */ FALSE );", "PRAGMA main.foreign_keys = OFF;",
	"PRAGMA temp . foreign_keys = OFF;", "PRAGMA/**/foreign_keys/* = ON */=/**/OFF;", "PRAGMA -- note\nforeign_keys -- = ON\n= OFF;",
	`PRAGMA "foreign_keys" = OFF;`, "PRAGMA [foreign_keys] = OFF;", "PRAGMA `FOREIGN_KEYS` = OFF;", "PRAGMA 'foreign_keys' = OFF;",
	"PRAGMA 'main'.\"foreign_keys\"(off);", "EXPLAIN PRAGMA foreign_keys = OFF;", "EXPLAIN QUERY PLAN PRAGMA foreign_keys = OFF;",
	"; ; PRAGMA foreign_keys = OFF;", "\ufeffPRAGMA foreign_keys = OFF;", "PRAGMA foreign_keys = ON;\nPRAGMA foreign_keys = OFF;",
	"PRAGMA foreign_keys;\nPRAGMA foreign_keys = OFF;", "CREATE TABLE other (a);\nPRAGMA foreign_keys = OFF;",
	"BEGIN;\nPRAGMA foreign_keys = OFF;", "PRAGMA foreign_keys\n=\nOFF;\nPRAGMA legacy_alter_table = ON;",
	"PRAGMA\fforeign_keys\t=\r\nOFF;",
}

// TestKeysOffInEverySpelling: a file that turns foreign keys off and recreates a table leaves the rows that refer to it, or
// is refused with nothing changed; the next file has its keys.
func TestKeysOffInEverySpelling(t *testing.T) {
	t.Parallel()
	for i, off := range keysOff {
		for _, on := range []string{"", "\nPRAGMA foreign_keys = ON;"} {
			t.Run(fmt.Sprintf("%d %q%q", i, off, on), func(t *testing.T) {
				t.Parallel()
				opts := options(t)
				text := off + "\n" + rebuild + on
				if off[:2] == "BE" {
					text += "\nCOMMIT;"
				}
				files := map[string]string{"V1__family.sql": family, "V2__rebuild.sql": text, "V3__orphan.sql": "INSERT INTO child VALUES (40, 999);"}
				report, err := migrated(t, opts, files)
				require.Error(t, err, "V3 has its keys")
				require.Equal(t, contract.CodeForeignKey, err.(*db.Error).Code, err.Error()) //nolint:errorlint // Run's own
				require.Equal(t, "2", report.After.Label)
				raw := openRaw(t, opts.ConnectionString)
				require.Equal(t, 3, number(t, raw, "SELECT count(*) FROM child"))
				require.Equal(t, 1, number(t, raw, `SELECT "notnull" FROM pragma_table_info('parent') WHERE name = 'name'`))
			})
		}
	}
}

// TestKeysOffChecked: what a file without foreign keys leaves behind must not break them.
func TestKeysOffChecked(t *testing.T) {
	t.Parallel()
	for _, off := range keysOff {
		opts := options(t)
		text := off + "\nDELETE FROM parent WHERE id = 2;"
		if off[:2] == "BE" {
			text += "\nCOMMIT;"
		}
		report, err := migrated(t, opts, map[string]string{"V1__family.sql": family, "V2__orphans.sql": text})
		require.ErrorContains(t, err, `rows of the table "child" would refer to missing rows`, off)
		require.Equal(t, "1", report.After.Label)
		raw := openRaw(t, opts.ConnectionString)
		require.Equal(t, 2, number(t, raw, "SELECT count(*) FROM parent"), "nothing of the file is applied")
	}
}

// TestPragmasOfOneFile: whatever a file sets in its session, the next file finds the session as it was, and so does the
// history.
func TestPragmasOfOneFile(t *testing.T) {
	t.Parallel()
	const stepwise = "-- dbrunner: no-transaction\n"
	look := map[string]string{ // what is set, and what the next file finds
		"foreign_keys = OFF": "1", "recursive_triggers = ON": "0", "legacy_alter_table = ON": "0", "ignore_check_constraints = ON": "0",
		"defer_foreign_keys = ON": "0", "writable_schema = ON": "0", "reverse_unordered_selects = ON": "0",
		"cache_size = 7": "-2000", "busy_timeout = 1": "10000", "cell_size_check = ON": "0", "checkpoint_fullfsync = ON": "0",
		"fullfsync = ON": "0", "full_column_names = ON": "0", "short_column_names = OFF": "1", "count_changes = ON": "0",
		"read_uncommitted = ON": "0", "trusted_schema = OFF": "1", "automatic_index = OFF": "1", "temp_store = MEMORY": "0",
		"empty_result_callbacks = ON": "0", "secure_delete = ON": "0", "threads = 3": "0",
	}
	heads := map[string][]string{}
	for set := range look {
		heads[set] = []string{"", stepwise}
	}
	// Refused in a transaction, in the way of the mark in it, and in the way of the marks of others.
	look["synchronous = OFF"], look["query_only = ON"], look["locking_mode = EXCLUSIVE"] = "2", "0", "normal"
	heads["synchronous = OFF"], heads["query_only = ON"], heads["locking_mode = EXCLUSIVE"] = []string{stepwise}, []string{stepwise}, []string{""}
	for set, want := range look {
		for _, head := range heads[set] {
			t.Run(set+head, func(t *testing.T) {
				t.Parallel()
				name, _, _ := strings.Cut(set, " ")
				report, err := migrated(t, options(t), map[string]string{
					"V1__set.sql": head + "CREATE TABLE seen (v);\nPRAGMA " + set + ";",
					"V2__look.sql": "INSERT INTO seen SELECT * FROM pragma_" + name + ";\nCREATE TABLE good (v CHECK (v = '" + want +
						"'));\nINSERT INTO good SELECT CAST(v AS TEXT) FROM seen;",
				})
				require.NoError(t, err)
				require.Equal(t, "2", report.After.Label)
			})
		}
	}
	t.Run("case_sensitive_like = ON", func(t *testing.T) { // nothing returns it
		t.Parallel()
		_, err := migrated(t, options(t), map[string]string{
			"V1__set.sql":  "PRAGMA case_sensitive_like = ON;",
			"V2__look.sql": "CREATE TABLE good (v CHECK (v));\nINSERT INTO good SELECT 'A' LIKE 'a';",
		})
		require.NoError(t, err)
	})
}

// TestObjectsOfOneFile: temporary objects and attached databases end with their file, and none stands before the history.
func TestObjectsOfOneFile(t *testing.T) {
	t.Parallel()
	opts := options(t)
	report, err := migrated(t, opts, map[string]string{
		"V1__real.sql": "CREATE TABLE item (id INTEGER PRIMARY KEY);\nCREATE TABLE pragma_foreign_key_check (a);\nCREATE TABLE pragma_database_list (name);",
		"V2__temp.sql": "CREATE TEMP TABLE item (other);\nCREATE TEMP TABLE x (a);\nCREATE TEMP TABLE dbrunner_migrations AS SELECT * FROM main.dbrunner_migrations;\n" +
			"CREATE TEMP VIEW schema_migrations AS SELECT 7 AS version, 1 AS dirty;\nCREATE TEMP TRIGGER t AFTER INSERT ON main.item BEGIN DELETE FROM item; END;",
		"V3__step.sql":  "-- dbrunner: no-transaction\nATTACH ':memory:' AS other;\nCREATE TABLE other.item (b);",
		"V4__last.sql":  "INSERT INTO item VALUES (5);\nCREATE TABLE x (b);\nCREATE TABLE kept AS SELECT count(*) AS n FROM item;",
		"V5__other.sql": "PRAGMA foreign_keys = OFF;\nCREATE TABLE y (b);",
	})
	require.NoError(t, err)
	require.Equal(t, "5", report.After.Label)
	raw := openRaw(t, opts.ConnectionString)
	require.Equal(t, 1, number(t, raw, "SELECT n FROM kept"))
	require.Equal(t, 5, number(t, raw, "SELECT count(*) FROM dbrunner_migrations WHERE state = 'done'"))
}

// TestLockOutlivesFiles: a file cannot let the lock of migrations go.
func TestLockOutlivesFiles(t *testing.T) {
	t.Parallel()
	opts := options(t)
	engine, err := sqlite.Migrations(opts)
	require.NoError(t, err)
	folder := fstest.MapFS{
		"V1__a.sql": &fstest.MapFile{Data: []byte("-- dbrunner: no-transaction\nCREATE TABLE a (a);\nPRAGMA locking_mode = NORMAL;\nSELECT 1;")},
		"V2__b.sql": &fstest.MapFile{Data: []byte("CREATE TABLE b (a);")},
	}
	m, err := migration.New(migration.Options{Engine: engine, Source: folder, Where: "here", Runner: "runner-1"})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	sessions, err := engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	asked := 0
	_, err = m.Run(t.Context(), migration.Request{Action: migration.Up, Progress: func(migration.Progress) {
		other, err := sessions.Conn(context.WithoutCancel(t.Context()))
		require.NoError(t, err)
		defer func() { _ = other.Close() }()
		ok, err := engine.TryLock(t.Context(), other)
		require.NoError(t, err)
		require.False(t, ok)
		asked++
	}})
	require.NoError(t, err)
	require.Equal(t, 4, asked)
	folder["V3__detach.sql"] = &fstest.MapFile{Data: []byte("-- dbrunner: no-transaction\nDETACH dbrunner_lock;")}
	_, err = m.Run(t.Context(), migration.Request{Action: migration.Up})
	require.ErrorContains(t, err, "no such database: dbrunner_lock")
}

// TestDropWithKeysOn: a file that drops a table while foreign keys are in force takes no rows of other tables along
// without a word, whether it does not mention the keys, turns them on, or asks.
func TestDropWithKeysOn(t *testing.T) {
	t.Parallel()
	for _, head := range []string{"", "PRAGMA foreign_keys = ON;\n", "PRAGMA foreign_keys;\n", "PRAGMA foreign_keys = 2;\n", "PRAGMA table_info(foreign_keys);\n"} {
		for _, action := range []string{"CASCADE", "SET NULL", "SET DEFAULT"} {
			for _, drop := range []string{"DROP TABLE parent;", "DROP TABLE IF EXISTS main.\"PARENT\";", "drop/**/table [parent];"} {
				t.Run(head+action+drop, func(t *testing.T) {
					t.Parallel()
					opts := options(t)
					schema := strings.Replace(family, "CASCADE", action, 1)
					text := head + strings.Replace(rebuild, "DROP TABLE parent;", drop, 1)
					report, err := migrated(t, opts, map[string]string{"V1__family.sql": schema, "V2__rebuild.sql": text})
					require.ErrorContains(t, err, `took rows of the table "child" along`)
					require.Equal(t, "1", report.After.Label)
					raw := openRaw(t, opts.ConnectionString)
					require.Equal(t, 3, number(t, raw, "SELECT count(parent_id) FROM child"))
				})
			}
		}
	}
}

// TestDropThatIsMeant: dropping both tables, or one that nothing is lost with, is not in the way of foreign keys.
func TestDropThatIsMeant(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"DROP TABLE parent;\nDROP TABLE child;",
		"DROP TABLE child;\nDROP TABLE parent;",
		"CREATE TABLE other (a);\nDROP TABLE other;",
		"PRAGMA foreign_keys = ON;\nDROP TABLE child;",
		"CREATE TABLE child_new (id INTEGER PRIMARY KEY, parent_id INTEGER REFERENCES parent (id) ON DELETE CASCADE);\n" +
			"INSERT INTO child_new SELECT * FROM child;\nDROP TABLE child;\nALTER TABLE child_new RENAME TO child;",
	} {
		report, err := migrated(t, options(t), map[string]string{"V1__family.sql": family, "V2__drop.sql": text})
		require.NoError(t, err, text)
		require.Equal(t, "2", report.After.Label)
	}
	report, err := migrated(t, options(t), map[string]string{
		"V1__family.sql": family, "V2__delete.sql": "DELETE FROM child;", "V3__drop.sql": "DROP TABLE parent;\nDROP TABLE child;",
	})
	require.NoError(t, err)
	require.Equal(t, "3", report.After.Label)
}
