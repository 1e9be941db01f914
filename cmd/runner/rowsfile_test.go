package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
)

const countTo = `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < %d) SELECT n, 'row ' || n AS name FROM r`

func TestRowsInFiles(t *testing.T) {
	t.Parallel()
	w := setup(t)
	dir := t.TempDir()
	const many = 60_000
	for name, n := range map[string]int{"few.csv": 3, "few.json": 3, "many.csv": many, "many.ndjson.gz": many, "many.csv.zst": many} {
		file := filepath.Join(dir, name)
		id := "submit-" + string(bytes.ReplaceAll([]byte(name), []byte("."), []byte("-")))
		got := w.run("", "submit", "-d", "shop", "--id", id, "--sql", fmt.Sprintf(countTo, n), "-o", file)
		require.Equal(t, exitOK, got.code, got.err)
		require.Contains(t, got.err, fmt.Sprintf("%d rows", n))
		first, err := os.ReadFile(file)
		require.NoError(t, err)

		require.NoError(t, os.Remove(file))
		got = w.run("", "result", "get", "shop", id, "-o", file)
		require.Equal(t, exitOK, got.code, got.err)
		again, err := os.ReadFile(file)
		require.NoError(t, err)
		require.True(t, bytes.Equal(first, again), name)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 5, "nothing is left beside the files")

	packed, err := os.ReadFile(filepath.Join(dir, "many.csv.zst"))
	require.NoError(t, err)
	unpack, err := zstd.NewReader(bytes.NewReader(packed))
	require.NoError(t, err)
	defer unpack.Close()
	records, err := csv.NewReader(unpack).ReadAll()
	require.NoError(t, err)
	require.Len(t, records, many+1)
	require.Equal(t, []string{"60000", "row 60000"}, records[many])

	out := w.run("", "result", "get", "shop", "submit-few-csv", "-o", "-", "--format", "csv")
	require.Equal(t, "n,name\r\n1,row 1\r\n2,row 2\r\n3,row 3\r\n", out.out)
	shown := w.run("", "result", "get", "shop", "submit-many-csv")
	require.Equal(t, exitOK, shown.code, shown.err)
	require.Contains(t, shown.out, "60000 rows")
	require.Contains(t, shown.out, "runner result get shop submit-many-csv --output")
}

func TestRowsThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := setup(t)
	file := filepath.Join(t.TempDir(), "rows.csv")
	got := w.run("", "submit", "-d", "shop", "--id", "gone", "--sql", fmt.Sprintf(countTo, 60_000), "-o", file)
	require.Equal(t, exitOK, got.code, got.err)
	got = w.run("", "result", "get", "shop", "gone", "-o", filepath.Join(t.TempDir(), "rows.json"))
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "the rows are stored as csv")

	stream, err := w.js.Stream(t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	before, err := os.ReadFile(file)
	require.NoError(t, err)
	got = w.run("", "result", "get", "shop", "gone", "-o", file)
	require.Equal(t, exitFailure, got.code)
	require.Contains(t, got.err, "rows_expired")
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, bytes.Equal(before, after), "what was there stays")

	require.Equal(t, exitFailure, w.run("", "result", "get", "shop", "never").code)
	require.Equal(t, exitFailure, w.run("", "result", "get", "shop", "gone", "-o", filepath.Join(file, "below")).code)
	for _, args := range [][]string{
		{"result", "get", "a.b", "x"},
		{"result", "get", "shop", "x", "--format", "csv"},
		{"result", "get", "shop", "x", "-o", "f", "--format", "xml"},
		{"result", "get", "shop", "x", "-o", "f", "--compression", "rar"},
		{"result", "get", "shop", "x", "-o", "f", "--statement", "-1"},
		{"submit", "-d", "shop", "--sql", "SELECT 1", "-o", "f", "--no-wait"},
	} {
		require.Equal(t, exitUsage, w.run("", args...).code, "%v", args)
	}
	failed := w.run("", "submit", "-d", "shop", "--sql", "SELECT * FROM nosuch", "-o", file)
	require.Equal(t, exitJob, failed.code)
	require.Contains(t, failed.out, "nosuch")
}
