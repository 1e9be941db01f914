package sqlite_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
)

func TestOpenChecksOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*db.Options)
		says   string
	}{
		"memory":        {func(o *db.Options) { o.ConnectionString = ":memory:" }, "memory"},
		"memory uri":    {func(o *db.Options) { o.ConnectionString = "file::memory:" }, "memory"},
		"parameters":    {func(o *db.Options) { o.ConnectionString = "file:/x.db?mode=memory" }, "parameters"},
		"host":          {func(o *db.Options) { o.ConnectionString = "file://server/x.db" }, "host"},
		"empty uri":     {func(o *db.Options) { o.ConnectionString = "file:" }, "missing"},
		"small pool":    {func(o *db.Options) { o.Pool.Max = 1 }, "at least 2"},
		"ledger":        {func(o *db.Options) { o.Ledger = 0 }, "ledger"},
		"create":        {func(o *db.Options) { o.Settings = map[string]string{"create": "perhaps"} }, "create"},
		"synchronous":   {func(o *db.Options) { o.Settings = map[string]string{"synchronous": "off"} }, "synchronous"},
		"pooler":        {func(o *db.Options) { o.TransactionPool = true }, "pooler"},
		"without names": {func(o *db.Options) { o.Name = "" }, "name"},
	} {
		opts := options(t)
		c.change(&opts)
		_, err := sqlite.Open(opts)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), "x.db", name)
	}
	opts := options(t)
	opts.ConnectionString, opts.Pool.Max, opts.Ledger = "", 1, 0
	_, err := sqlite.Open(opts)
	require.ErrorContains(t, err, "missing")
	require.ErrorContains(t, err, "at least 2", "all faults in one answer")
	require.ErrorContains(t, err, "ledger")
}

// TestConnectionStrings opens the same file by all its names.
func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	folder := filepath.Join(t.TempDir(), "a folder?#%41") // all that a URI must escape
	require.NoError(t, os.Mkdir(folder, 0o700))
	opts := options(t)
	opts.ConnectionString = filepath.Join(folder, "x.db")
	setup(t, opts, "CREATE TABLE item (id)")
	escaped := strings.NewReplacer("%", "%25", " ", "%20", "?", "%3F", "#", "%23").Replace(opts.ConnectionString)
	for _, connection := range []string{"file:" + escaped, "file://" + escaped, "file://localhost" + escaped} {
		opts.ConnectionString = connection
		require.Equal(t, "[[0]]", rows(t, setup(t, opts), "SELECT count(*) FROM item"), connection)
	}
}

func TestProbeNamesTheRemedy(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	other := filepath.Join(folder, "other.db")
	require.NoError(t, os.WriteFile(other, []byte(strings.Repeat("no database at all ", 100)), 0o600))
	for name, c := range map[string]struct {
		path     string
		settings map[string]string
		says     string
	}{
		"no folder":    {filepath.Join(folder, "none", "x.db"), nil, "create the folder"},
		"not a folder": {filepath.Join(other, "x.db"), nil, "folder exists"},
		"a folder":     {folder, nil, "folder exists"},
		"other file":   {other, nil, "not an SQLite database"},
		"missing":      {filepath.Join(folder, "x.db"), map[string]string{"create": "false"}, "create"},
	} {
		opts := options(t)
		opts.ConnectionString, opts.Settings = c.path, c.settings
		d, err := sqlite.Open(opts)
		require.NoError(t, err, name)
		err = d.Probe(t.Context())
		require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%s: %v", name, err)
		require.ErrorContains(t, err, c.says, name)
		require.NotContains(t, err.Error(), folder, name)
		require.NoError(t, d.Close())
	}
	_, err := os.Stat(filepath.Join(folder, "x.db"))
	require.ErrorIs(t, err, os.ErrNotExist, "create=false creates nothing")
}

// TestLedgerLost takes the ledger away behind a running database.
func TestLedgerLost(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE item (id)")
	without := opts
	without.Ledger = db.LedgerOff
	elsewhere := openRaw(t, opts.ConnectionString)
	_, err := elsewhere.ExecContext(t.Context(), "DROP TABLE dbrunner_ledger")
	require.NoError(t, err)

	_, err = transact(t.Context(), d, sealed("job"), "INSERT INTO item VALUES (1)")
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
	require.ErrorContains(t, err, "ledger")
	require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM item"))
	_, err = d.Lookup(t.Context(), "job")
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)

	require.NoError(t, d.Probe(t.Context()), "Probe creates it again")
	_, err = transact(t.Context(), d, sealed("job"), "INSERT INTO item VALUES (1)")
	require.NoError(t, err)
}

// TestDDL creates the ledger as a DBA does.
func TestDDL(t *testing.T) {
	t.Parallel()
	opts := options(t)
	_, err := openRaw(t, opts.ConnectionString).ExecContext(t.Context(), sqlite.DDL()+sqlite.DDL())
	require.NoError(t, err, "twice is harmless")
	opts.Ledger = db.LedgerVerify
	d := setup(t, opts)
	_, inserted, err := d.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	require.True(t, inserted)
}

// TestDeclaredTypes stores values that the declared types would not suggest; each comes back as it is.
func TestDeclaredTypes(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t),
		`CREATE TABLE item (at DATETIME, day date, seen TIMESTAMP, flag BOOLEAN, price DECIMAL(10, 2), name VARCHAR(20), x)`,
		`INSERT INTO item VALUES ('2024-01-02 03:04:05.10', '2024-01-02T00:00:00Z', 1700000000, 2, '1.10', 7, x'00')`,
		`INSERT INTO item VALUES ('not a time', 20240102, 1.5, 'yes', 'free', x'41', NULL)`,
	)
	set := read(t, d, "SELECT *, at AS again, flag + 0 AS number FROM item")
	require.Equal(t, `[["2024-01-02 03:04:05.10","2024-01-02T00:00:00Z",1700000000,2,1.1,"7",{"type":"blob","value":"AA=="},`+
		`"2024-01-02 03:04:05.10",2],`+
		`["not a time",20240102,1.5,"yes","free",{"type":"blob","value":"QQ=="},null,"not a time",0]]`, string(set.Rows))
	types := make([]string, 0, len(set.Columns))
	for _, c := range set.Columns {
		types = append(types, c.Type)
	}
	require.Equal(t, []string{"DATETIME", "date", "TIMESTAMP", "BOOLEAN", "DECIMAL(10, 2)", "VARCHAR(20)", "", "DATETIME", ""}, types)
}

// TestRowsAffected counts what a statement changed itself, and nothing that an earlier one did.
func TestRowsAffected(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t), "CREATE TABLE item (id INTEGER PRIMARY KEY, n)", "CREATE TABLE log (id)",
		"CREATE TRIGGER logs AFTER UPDATE ON item BEGIN INSERT INTO log VALUES (NEW.id), (NEW.id); END")
	for _, c := range []struct {
		sql  string
		want int64
	}{
		{"INSERT INTO item VALUES (1, 1), (2, 2), (3, 3)", 3},
		{"CREATE TABLE other (id)", 0},
		{"CREATE INDEX item_n ON item (n)", 0},
		{"ALTER TABLE other RENAME TO another", 0},
		{"ALTER TABLE another ADD COLUMN x", 0},
		{"UPDATE item SET n = n + 1 WHERE id > 1", 2},
		{"UPDATE item SET n = 0 WHERE id > 99", 0},
		{"INSERT INTO item VALUES (1, 9) ON CONFLICT DO NOTHING", 0},
		{"REPLACE INTO item VALUES (1, 9)", 1},
		{"ANALYZE", 0},
		{"REINDEX item_n", 0},
		{"DELETE FROM item WHERE id = 1", 1},
		{"DELETE FROM item", 2},
		{"DROP TABLE another", 0},
		{"SELECT * FROM log", 4},
		{"EXPLAIN QUERY PLAN SELECT 1", 1},
	} {
		sets, err := transact(t.Context(), d, nil, c.sql)
		require.NoError(t, err, c.sql)
		require.Equal(t, c.want, sets[0].RowsAffected, c.sql)
	}
}

// TestAllowed are statements near the ones that are refused.
func TestAllowed(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t), "CREATE TABLE item (id INTEGER PRIMARY KEY, n)")
	for _, sql := range []string{
		"CREATE TEMP TABLE scratch AS SELECT 1 AS id", "CREATE TEMP TRIGGER x AFTER INSERT ON item BEGIN SELECT 1; END",
		"SELECT * FROM pragma_table_info('item')", "SELECT count(*) FROM dbrunner_ledger",
		"CREATE VIRTUAL TABLE words USING fts5(text)", "CREATE VIRTUAL TABLE boxes USING rtree(id, x1, x2)",
		"SELECT 1;", " ; SELECT 1 -- the end", "EXPLAIN DELETE FROM item", "DROP TABLE words",
	} {
		_, err := transact(t.Context(), d, nil, sql)
		require.NoError(t, err, sql)
	}
	require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM item"))
}

// TestTypo fails loudly where SQLite by itself would take a name in double quotes for a text.
func TestTypo(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t), "CREATE TABLE item (id INTEGER PRIMARY KEY)")
	_, err := transact(t.Context(), d, nil, `INSERT INTO item (id) SELECT 1 WHERE "idd" <> 'x'`)
	require.Error(t, err)
	failure := &db.Error{}
	require.ErrorAs(t, err, &failure)
	require.Equal(t, contract.CodeUndefined, failure.Code)
}

// TestLargeValues bounds memory before a result is there.
func TestLargeValues(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t))
	for sql, want := range map[string]contract.Code{
		"SELECT zeroblob(1000000000)":                              contract.CodeData,
		"SELECT hex(zeroblob(60000000))":                           contract.CodeData,
		"SELECT zeroblob(2000), zeroblob(2000), zeroblob(1000000)": contract.CodeResultTooLarge,
	} {
		_, err := d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: sql},
			db.RowOptions{Format: db.Arrays, MaxBytes: 1000})
		failure := &db.Error{}
		require.ErrorAs(t, err, &failure, sql)
		require.Equal(t, want, failure.Code, sql)
	}
}

// TestFileReplaced puts another file in the place of the one that is open.
func TestFileReplaced(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts, "CREATE TABLE item (id)", "INSERT INTO item VALUES (1)")
	require.Equal(t, "[[1]]", rows(t, d, "SELECT count(*) FROM item"))
	for _, end := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.Rename(opts.ConnectionString+end, opts.ConnectionString+".old"+end))
	}
	other := setup(t, opts, "CREATE TABLE item (id)")
	_, err := transact(t.Context(), d, sealed("job"), "INSERT INTO item VALUES (2)")
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
	_, err = d.Read(t.Context(), db.Call{}, &dialect.Compiled{SQL: "SELECT 1"}, db.RowOptions{})
	require.Equal(t, db.ClassUnavailable, db.ClassOf(err), "%v", err)
	require.NoError(t, d.Probe(t.Context()), "new connections are to the new file")
	_, err = transact(t.Context(), d, sealed("job"), "INSERT INTO item VALUES (2)")
	require.NoError(t, err)
	require.Equal(t, "[[1]]", rows(t, other, "SELECT count(*) FROM item"))
}

// TestFileReplacedIsFoundOutOnce: one failure is enough for all connections of the pool.
func TestFileReplacedIsFoundOutOnce(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d := setup(t, opts)
	read := func(sql string) error {
		_, err := d.Read(t.Context(), db.Call{}, &dialect.Compiled{SQL: sql}, db.RowOptions{})
		return err
	}
	require.Eventually(t, func() bool { // several connections are idle
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				_ = read("WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 200000) SELECT max(n) FROM r")
			})
		}
		wg.Wait()
		return d.Stats().Idle >= 3
	}, time.Minute, time.Millisecond)
	for _, end := range []string{"", "-wal", "-shm"} {
		require.NoError(t, os.Rename(opts.ConnectionString+end, opts.ConnectionString+".old"+end))
	}
	setup(t, opts)
	require.Equal(t, db.ClassUnavailable, db.ClassOf(read("SELECT 1")))
	for range 4 {
		require.NoError(t, read("SELECT 1"))
	}
}

// TestNulInText must not end a statement early.
func TestNulInText(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t), "CREATE TABLE item (id)")
	for _, sql := range []string{"DELETE FROM item\x00 WHERE id = 1", "SELECT 1;\x00", "\x00"} {
		_, err := transact(t.Context(), d, nil, sql)
		failure := &db.Error{}
		require.ErrorAs(t, err, &failure)
		require.Equal(t, contract.CodeSyntax, failure.Code)
	}
}

// TestMissingArgument passes fewer values than placeholders: SQLite alone would read NULL.
func TestMissingArgument(t *testing.T) {
	t.Parallel()
	d := setup(t, options(t), "CREATE TABLE item (id INTEGER PRIMARY KEY)")
	_, err := transact(t.Context(), d, nil, "INSERT INTO item (id) VALUES (?1)")
	failure := &db.Error{}
	require.ErrorAs(t, err, &failure)
	require.Equal(t, contract.CodeParameter, failure.Code)
	require.Equal(t, "[[0]]", rows(t, d, "SELECT count(*) FROM item"))
}

// TestForeignSettings changes the file by another program: a different encoding, page size and a table with
// a deferred check keep their meaning.
func TestForeignSettings(t *testing.T) {
	t.Parallel()
	opts := options(t)
	raw := openRaw(t, opts.ConnectionString)
	for _, sql := range []string{
		"PRAGMA encoding = 'UTF-16le'", "PRAGMA page_size = 1024", "CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT)",
		"INSERT INTO item VALUES (1, 'ü 🦆 漢字')",
	} {
		_, err := raw.ExecContext(t.Context(), sql)
		require.NoError(t, err)
	}
	d := setup(t, opts)
	require.Equal(t, `[[1,"ü 🦆 漢字"]]`, rows(t, d, "SELECT * FROM item WHERE name = 'ü 🦆 漢字'"))
	_, err := transact(t.Context(), d, sealed("job"), "UPDATE item SET name = '漢字 🦆'")
	require.NoError(t, err)
	require.Equal(t, `[[1,"漢字 🦆"]]`, rows(t, d, "SELECT * FROM item"))
	row, err := d.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.NotNil(t, row)
}
