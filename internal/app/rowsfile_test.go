package app_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db/rowfile"
)

// lookalikes are rows of columns whose types have words, or whose values have looks, that mean another thing on another engine.
func lookalikes() map[string][]string {
	return map[string][]string{
		"postgres": {
			"CREATE TABLE alike (a bit, b json, c jsonb, d integer, e date, f text, g bytea, h uuid, i bigint, j timestamptz)",
			`INSERT INTO alike VALUES
			(B'1', E'{"type":"blob",\n"value":"AA=="}', '"text"', 1, '2026-11-25', '{"a":1}', '\x0001', '123e4567-e89b-12d3-a456-426614174000', 7, now()),
			(B'0', '[1, 2]', 'null', -1, '1969-12-31', '', '', '123e4567-e89b-12d3-a456-426614174001', 9007199254740993, '2026-11-25 12:30:00+02'),
			(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
		},
		"sqlite": {
			"CREATE TABLE alike (a bit, b json, c jsonb, d INTEGER, e date, f text, g BLOB, h uuid, i bigint, j datetime, k timestamp, l bytea)",
			`INSERT INTO alike VALUES
			(1, '{"type":"blob",' || char(10) || '"value":"AA=="}', '"text"', 1, 'tomorrow', '{"a":1}', x'0001', 'none', 7, 'yesterday', 1764074000, 'text'),
			(2, '[1, 2]', 'null', 9007199254740993, '2026-11-25', '', x'', '', -9007199254740993, '2026-11-25 12:30:00', '', ''),
			(NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`,
		},
	}
}

// What a client makes of rows in a result is the file that the runner would have written, also where the words for the types
// mean another thing on another engine.
func TestFilesOfRowsThatHadRoom(t *testing.T) {
	t.Parallel()
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t)))
			made := lookalikes()[name]
			body := `"statements":[{"sql":` + strconv.Quote(made[0]) + `},{"sql":` + strconv.Quote(made[1]) + `}]`
			require.Equal(t, "succeeded", w.do("shop", "transaction", "make", body).Status)
			const sql = `{"sql":"SELECT * FROM alike"}`
			for kind, body := range map[string]string{"query": strings.Trim(sql, "{}"), "transaction": `"statements":[{"sql":"DELETE FROM alike WHERE f = 'x'"},` + sql + `]`} {
				for _, rowFormat := range []string{"objects", "arrays"} {
					shared := body + `,"row_format":"` + rowFormat + `"`
					w.do("shop", kind, kind+"-"+rowFormat, shared)
					r, err := contract.ReadResult(w.stored("shop", kind+"-"+rowFormat))
					require.NoError(t, err)
					require.Len(t, r.RowSets(), 1)
					set := rowfile.Set{RowSet: r.RowSets()[0], Engine: r.Engine}
					require.Equal(t, name, set.Engine)
					require.EqualValues(t, 3, set.RowCount)
					for _, format := range rowfile.Formats() {
						id := kind + "-" + rowFormat + "-" + format
						a := w.rows("shop", id, kind, shared+`,"output":"object","format":"`+format+`"`)
						require.Equal(t, "succeeded", a.Status, "%s: %+v", id, a.Error)
						object := a.Object
						if kind == "transaction" {
							object = a.Statements[1].Object
						}
						var here bytes.Buffer
						require.NoError(t, set.Write(format, "none", &here), id)
						requireSameFile(t, format, w.fetch(object), here.Bytes())
					}
				}
			}
		})
	}
}

func requireSameFile(t *testing.T, format string, want, got []byte) {
	t.Helper()
	if format == "parquet" {
		want, got = parquetText(t, want), parquetText(t, got)
	}
	require.Equal(t, string(want), string(got))
}

// parquetText is a file's types and values as another library reads them.
func parquetText(t *testing.T, data []byte) []byte {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	rows, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	require.NoError(t, err)
	table, err := rows.ReadTable(t.Context())
	require.NoError(t, err)
	defer table.Release()
	require.EqualValues(t, 3, table.NumRows())
	text := []byte(table.Schema().String())
	for i := range int(table.NumCols()) {
		for _, chunk := range table.Column(i).Data().Chunks() {
			for k := range chunk.Len() {
				text = append(append(text, '\n'), chunk.ValueStr(k)...)
			}
		}
	}
	return text
}
