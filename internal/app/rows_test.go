package app_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// rowsAnswer is what tests of rows outside of results look at.
type rowsAnswer struct {
	Status  string          `json:"status"`
	Rows    json.RawMessage `json:"rows"`
	Count   int64           `json:"row_count"`
	Object  *rowsObject     `json:"rows_object"`
	Expired bool            `json:"rows_expired"`
	Error   *struct {
		Code      string `json:"code"`
		Message   string `json:"message"`
		Retryable bool   `json:"retryable"`
	} `json:"error"`
	Statements []struct {
		Affected int64           `json:"rows_affected"`
		Rows     json.RawMessage `json:"rows"`
		Object   *rowsObject     `json:"rows_object"`
	} `json:"statements"`
}

type rowsObject struct {
	Bucket, Name, Digest, Format, Compression string

	Size  int64 `json:"size"`
	Count int64 `json:"row_count"`
}

// count is a query of n rows of three columns, one of them NULL in some rows and empty in others.
func count(engine string, n int) string {
	if engine == "sqlite" {
		return fmt.Sprintf(`WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < %d) `+
			`SELECT n, 'name "' || n || '", ä' AS name, CASE n %% 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'x' END AS note FROM r`, n)
	}
	return fmt.Sprintf(`SELECT n, 'name "' || n || '", ä' AS name, CASE n %% 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE 'x' END AS note `+
		`FROM generate_series(1, %d) AS n`, n)
}

func (w *world) rows(database, id, kind, rest string) *rowsAnswer {
	w.t.Helper()
	w.do(database, kind, id, rest)
	var a rowsAnswer
	require.NoError(w.t, json.Unmarshal(w.stored(database, id), &a))
	return &a
}

// fetch reads an object as any client does, which verifies its digest.
func (w *world) fetch(o *rowsObject) []byte {
	w.t.Helper()
	bucket, err := w.js.ObjectStore(w.t.Context(), o.Bucket)
	require.NoError(w.t, err)
	info, err := bucket.GetInfo(w.t.Context(), o.Name)
	require.NoError(w.t, err)
	require.Equal(w.t, o.Digest, info.Digest)
	data, err := bucket.GetBytes(w.t.Context(), o.Name)
	require.NoError(w.t, err)
	require.Len(w.t, data, int(o.Size))
	return data
}

func (w *world) objects() []string {
	w.t.Helper()
	bucket, err := w.js.ObjectStore(w.t.Context(), "DBRUNNER_ROWS")
	require.NoError(w.t, err)
	list, err := bucket.List(w.t.Context())
	if errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil
	}
	require.NoError(w.t, err)
	var names []string
	for _, o := range list {
		names = append(names, o.Name)
	}
	return names
}

// chunks is the number of messages in the store of rows.
func (w *world) chunks() uint64 {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(w.t, err)
	return stream.CachedInfo().State.Msgs
}

func TestRowsThatHaveNoRoomInTheirResult(t *testing.T) {
	t.Parallel()
	const many = 50_000
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t)))
			sql := func(n int) string { return `"sql":` + strconv.Quote(count(name, n)) }

			a := w.rows("shop", "small", "query", sql(100))
			require.Nil(t, a.Object, "what has room stays")
			require.NotNil(t, a.Rows)
			a = w.rows("shop", "small-out", "query", sql(3)+`,"output":"object"`)
			require.NotNil(t, a.Object)
			require.Nil(t, a.Rows)
			require.EqualValues(t, 3, a.Count)
			a = w.rows("shop", "none", "query", sql(3)+`,"output":"object","format":"csv"`)
			require.True(t, bytes.HasPrefix(w.fetch(a.Object), []byte("n,name,note\r\n1,\"name \"\"1\"\", ä\",\"\"\r\n2,")))
			a = w.rows("shop", "inline", "query", sql(many)+`,"output":"inline"`)
			require.Equal(t, "result_too_large", a.Error.Code)

			for _, format := range []string{"ndjson", "json", "csv"} {
				for _, compression := range []string{"none", "zstd", "gzip"} {
					id := format + "-" + compression
					a := w.rows("shop", id, "query", sql(many)+`,"format":"`+format+`","compression":"`+compression+`"`)
					require.Equal(t, "succeeded", a.Status)
					require.NotNil(t, a.Object, id)
					require.EqualValues(t, many, a.Count)
					require.EqualValues(t, many, a.Object.Count)
					require.Equal(t, []string{"DBRUNNER_ROWS", format, compression}, []string{a.Object.Bucket, a.Object.Format, a.Object.Compression})
					require.True(t, strings.HasPrefix(a.Object.Name, "shop."+id+"."), a.Object.Name)
					checkRows(t, format, plain(t, compression, w.fetch(a.Object)), many)
				}
			}
			for _, compression := range []string{"none", "zstd", "gzip"} {
				id := "parquet-" + compression
				a := w.rows("shop", id, "query", sql(many)+`,"format":"parquet","compression":"`+compression+`"`)
				require.NotNil(t, a.Object, id)
				require.EqualValues(t, many, a.Object.Count)
				data := w.fetch(a.Object)
				require.Equal(t, "PAR1", string(data[len(data)-4:]))
			}
			require.Len(t, w.objects(), 14, "no object that no result names")
		})
	}
}

func plain(t *testing.T, compression string, data []byte) []byte {
	t.Helper()
	var from io.Reader = bytes.NewReader(data)
	var err error
	switch compression {
	case "zstd":
		from, err = zstd.NewReader(from)
	case "gzip":
		from, err = gzip.NewReader(from)
	default:
	}
	require.NoError(t, err)
	out, err := io.ReadAll(from)
	require.NoError(t, err)
	return out
}

// checkRows reads a file of rows with the standard library.
func checkRows(t *testing.T, format string, data []byte, n int) {
	t.Helper()
	type row struct {
		N    int
		Name string
		Note *string
	}
	var rows []row
	switch format {
	case "json":
		require.NoError(t, json.Unmarshal(data, &rows))
	case "ndjson":
		for dec := json.NewDecoder(bytes.NewReader(data)); dec.More(); {
			var r row
			require.NoError(t, dec.Decode(&r))
			rows = append(rows, r)
		}
	default:
		records, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
		require.NoError(t, err)
		require.Equal(t, []string{"n", "name", "note"}, records[0])
		for _, record := range records[1:] {
			k, err := strconv.Atoi(record[0])
			require.NoError(t, err)
			r := row{N: k, Name: record[1]}
			if k%3 != 0 { // the reader does not distinguish NULL from the empty string
				r.Note = &record[2]
			}
			rows = append(rows, r)
		}
	}
	require.Len(t, rows, n)
	empty, x := "", "x"
	for i, r := range rows {
		k := i + 1
		want := row{k, fmt.Sprintf(`name "%d", ä`, k), map[int]*string{1: &empty, 2: &x}[k%3]}
		require.Equal(t, want, r)
	}
}

func TestRowsOfTransactionsOutsideOfTheirResult(t *testing.T) {
	t.Parallel()
	const many = 40_000
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t)))
			w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE copies (n INTEGER PRIMARY KEY, name TEXT, note TEXT)"}]`)
			insert := strconv.Quote("INSERT INTO copies " + count(name, many) + " RETURNING n, name, note")
			if name == "sqlite" { // WITH stands before INSERT there
				insert = strconv.Quote(strings.Replace(count(name, many), "SELECT n, 'name", "INSERT INTO copies SELECT n, 'name", 1) + " RETURNING n, name, note")
			}
			body := `"statements":[{"sql":"SELECT 1 AS one"},{"sql":` + insert + `},{"sql":"SELECT count(*) AS n FROM copies"}]`
			a := w.rows("shop", "copy", "transaction", body)
			require.Equal(t, "succeeded", a.Status)
			require.Nil(t, a.Statements[0].Object)
			require.Nil(t, a.Statements[2].Object)
			require.NotNil(t, a.Statements[1].Object)
			require.EqualValues(t, many, a.Statements[1].Affected)
			checkRows(t, "ndjson", w.fetch(a.Statements[1].Object), many)

			failing := `"statements":[{"sql":` + strconv.Quote(count(name, many)) + `},{"sql":"INSERT INTO copies (n) VALUES (1)"}]`
			a = w.rows("shop", "fails", "transaction", failing)
			require.Equal(t, "unique_violation", a.Error.Code)
			require.Len(t, w.objects(), 1, "the rows of what was rolled back are gone")
		})
	}
}

// What comes again after its rows have gone says so; what comes again before names the same rows.
func TestRowsThatAreGone(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t)))
			body := `"statements":[{"sql":` + strconv.Quote(count(name, 30_000)) + `}]`
			first := w.rows("shop", "once", "transaction", body)
			require.NotNil(t, first.Statements[0].Object)
			results, err := w.js.Stream(t.Context(), "DBRUNNER_RESULTS_shop")
			require.NoError(t, err)
			again := func() *rowsAnswer {
				require.NoError(t, results.Purge(t.Context()))
				a := w.rows("shop", "once", "transaction", body)
				require.Equal(t, first.Statements[0].Object, a.Statements[0].Object)
				return a
			}
			require.False(t, again().Expired)
			require.NoError(t, w.objectStore().Delete(t.Context(), first.Statements[0].Object.Name))
			a := again()
			require.True(t, a.Expired)
			require.Equal(t, "succeeded", a.Status)
		})
	}
}

// PostgreSQL has rows without columns. Parquet keeps the number of rows in their columns only.
func TestRowsWithoutColumns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.start(w.config("r1", engines()["postgres"](t)))
	const sql = `"sql":"SELECT FROM generate_series(1, 3)","output":"object"`
	for format, want := range map[string]string{"ndjson": "{}\n{}\n{}\n", "json": "[\n{},\n{},\n{}\n]\n", "csv": "\r\n\r\n\r\n\r\n"} {
		a := w.rows("shop", format, "query", sql+`,"format":"`+format+`"`)
		require.Equal(t, "succeeded", a.Status, "%+v", a.Error)
		require.EqualValues(t, 3, a.Object.Count)
		require.Equal(t, want, string(w.fetch(a.Object)))
	}
	a := w.rows("shop", "parquet", "query", sql+`,"format":"parquet"`)
	require.Equal(t, "failed", a.Status)
	require.Equal(t, "not_supported", a.Error.Code)
	require.Contains(t, a.Error.Message, "choose another format")
	require.Len(t, w.objects(), 3)
}

func TestStoreOfRowsIsFull(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t), func(cfg *config.Config) {
				cfg.Topology.Rows.MaxBytes = 2 << 20
				cfg.Databases["shop"].Output.MaxBytes = 2 << 20
				cfg.Databases["shop"].Retry.Attempts = 2
			}))
			sql := func(n int) string { return `"sql":` + strconv.Quote(count(name, n)) }
			require.NotNil(t, w.rows("shop", "first", "query", sql(30_000)).Object) // about 1.5 MB
			a := w.rows("shop", "full", "query", sql(30_000))
			require.Equal(t, "failed", a.Status)
			require.Equal(t, "rows_store_full", a.Error.Code)
			require.True(t, a.Error.Retryable)
			require.Len(t, w.objects(), 1)
			a = w.rows("shop", "capped", "query", sql(60_000))
			require.Equal(t, "result_too_large", a.Error.Code)
			require.Contains(t, a.Error.Message, "2097152 bytes")
			a = w.rows("shop", "counted", "query", sql(60_000)+`,"max_rows":25000`)
			require.Equal(t, "result_too_large", a.Error.Code)
			require.Contains(t, a.Error.Message, "25000 rows")
			require.Eventually(t, func() bool { return w.chunks() < 20 }, testTimeout, 50*time.Millisecond, "nothing is left of the others")
		})
	}
}
