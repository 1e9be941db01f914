package rowfile_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/rowfile"
)

// readParquet reads a file by Apache's own library, which is not the one that writes.
func readParquet(t *testing.T, data []byte) arrow.Table {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	rows, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{}, memory.DefaultAllocator)
	require.NoError(t, err)
	table, err := rows.ReadTable(context.Background())
	require.NoError(t, err)
	t.Cleanup(table.Release)
	return table
}

// column is a column's values as texts, over all of its chunks.
func column(table arrow.Table, i int) (values []string) {
	for _, chunk := range table.Column(i).Data().Chunks() {
		for k := range chunk.Len() {
			values = append(values, chunk.ValueStr(k))
		}
	}
	return values
}

func write(t *testing.T, format, compression string, columns []db.Column, rows ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := rowfile.New(rowfile.Options{Format: format, Compression: compression}, columns, &out)
	require.NoError(t, err)
	for _, row := range rows {
		require.NoError(t, w.Row([]byte(row)))
	}
	require.NoError(t, w.Close())
	return out.Bytes()
}

func TestParquetTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of     string // the database's word
		arrow  string
		values string // JSON, separated by blanks
		want   []string
	}{
		{"bigint", "int64", `"9223372036854775807" "-1"`, []string{"9223372036854775807", "-1"}},
		{"integer", "int64", `1 -2147483648`, []string{"1", "-2147483648"}},
		{"smallint", "int64", `0 null`, []string{"0", "(null)"}},
		{"INTEGER", "int64", `{"type":"integer","value":"9007199254740993"}`, []string{"9007199254740993"}},
		{"double precision", "float64", `1.5 "NaN" "-Infinity" -0 1e300`, []string{"1.5", "NaN", "-Inf", "-0", "1e+300"}},
		{"real", "float64", `0.1`, []string{"0.1"}},
		{"REAL", "float64", `{"type":"real","value":"Infinity"}`, []string{"+Inf"}},
		{"boolean", "bool", `true false null`, []string{"true", "false", "(null)"}},
		{"BOOLEAN", "bool", `1 0`, []string{"true", "false"}},
		{"date", "date32", `"2026-11-25" "1969-12-31" "0001-01-01" "9999-12-31"`, []string{"2026-11-25", "1969-12-31", "0001-01-01", "9999-12-31"}},
		{"timestamp without time zone", "timestamp[us]", `"2026-11-25|12:30:00.123456" "1969-12-31|23:59:59.5"`, []string{"2026-11-25T12:30:00.123456", "1969-12-31T23:59:59.5"}},
		{"datetime2", "timestamp[us]", `"2026-11-25T12:30:00.12"`, []string{"2026-11-25T12:30:00.12"}},
		{"timestamp with time zone", "timestamp[us, tz=UTC]", `"2026-11-25|12:30:00+00" "2026-11-25|12:30:00.5-05:30"`, []string{"2026-11-25T12:30:00Z", "2026-11-25T18:00:00.5Z"}},
		{"datetimeoffset", "timestamp[us, tz=UTC]", `"2026-11-25T12:30:00+02:00"`, []string{"2026-11-25T10:30:00Z"}},
		{"time without time zone", "time64[us]", `"00:00:00" "23:59:59.999999"`, []string{"00:00:00.000000", "23:59:59.999999"}},
		{"uuid", "extension<arrow.uuid>", `"123e4567-e89b-12d3-a456-426614174000"`, []string{"123e4567-e89b-12d3-a456-426614174000"}},
		{"bytea", "binary", `"AAEC/w==" ""`, []string{"AAEC/w==", ""}},
		{"BLOB", "binary", `{"type":"blob","value":"AAEC/w=="}`, []string{"AAEC/w=="}},
		{"jsonb", "binary", `{"a":[1,"x"]} "x" 1`, []string{"eyJhIjpbMSwieCJdfQ==", "Ingi", "MQ=="}}, // that reader shows JSON as bytes
		{"numeric", "utf8", `"12345678901234567890.123456789" "NaN"`, []string{"12345678901234567890.123456789", "NaN"}},
		{"text", "utf8", `"a\"b\\\n\u0001ü\ud83e\udd86" "" null`, []string{"a\"b\\\n\x01ü🦆", "", "(null)"}},
		{"", "utf8", `1 "x" 1.5 {"type":"blob","value":"AA=="}`, []string{"1", "x", "1.5", "AA=="}},
	} {
		t.Run(c.of, func(t *testing.T) {
			t.Parallel()
			var rows []string
			for _, value := range strings.Split(c.values, " ") {
				rows = append(rows, "["+strings.ReplaceAll(value, "|", " ")+"]")
			}
			for _, compression := range rowfile.Compressions() {
				table := readParquet(t, write(t, rowfile.Parquet, compression, []db.Column{{Name: "v", Type: c.of}}, rows...))
				require.Equal(t, c.arrow, table.Schema().Field(0).Type.String())
				require.Equal(t, c.want, column(table, 0), compression)
			}
		})
	}
}

func TestParquetFiles(t *testing.T) {
	t.Parallel()
	columns := []db.Column{{Name: "z", Type: "integer"}, {Name: "a ü", Type: "text"}, {Name: "m", Type: "boolean"}}
	empty := readParquet(t, write(t, rowfile.Parquet, "none", columns))
	require.Zero(t, empty.NumRows())
	require.Equal(t, []string{"z", "a ü", "m"}, []string{empty.Schema().Field(0).Name, empty.Schema().Field(1).Name, empty.Schema().Field(2).Name},
		"the query's order")

	const many = 300_000
	rows := make([]string, many)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"z":%d,"a ü":"%s","m":null}`, i, strings.Repeat("x", i%200))
	}
	data := write(t, rowfile.Parquet, "zstd", columns, rows...)
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	require.Greater(t, r.NumRowGroups(), 1, "a group is bounded")
	table := readParquet(t, data)
	require.EqualValues(t, many, table.NumRows())
	numbers, texts := column(table, 0), column(table, 1)
	for i := range many {
		require.Equal(t, fmt.Sprint(i), numbers[i])
		require.Len(t, texts[i], i%200)
	}
}

func TestParquetRefuses(t *testing.T) {
	t.Parallel()
	_, err := rowfile.New(rowfile.Options{Format: rowfile.Parquet, Compression: "none"}, []db.Column{{Name: "a"}, {Name: "a"}}, &bytes.Buffer{})
	require.ErrorContains(t, err, "duplicate_column")
	for of, value := range map[string]string{
		"integer": `"x"`, "bigint": `"9223372036854775808"`, "date": `"infinity"`, "timestamp with time zone": `"10000-01-01 00:00:00+00"`,
		"datetime2": `"2026-11-25T12:30:00.1234567"`, "uuid": `"x"`, "blob": `"?"`, "boolean": `"maybe"`, "real": `"1,5"`, "time": `"24:00:00"`,
	} {
		w, err := rowfile.New(rowfile.Options{Format: rowfile.Parquet, Compression: "none"}, []db.Column{{Name: "n", Type: "text"}, {Name: "secret", Type: of}}, &bytes.Buffer{})
		require.NoError(t, err)
		require.NoError(t, w.Row([]byte(`["a",null]`)))
		err = w.Row([]byte(`["b",` + value + `]`))
		require.Equal(t, db.ClassPermanent, db.ClassOf(err), of)
		require.ErrorContains(t, err, `row 2: a value of column "secret" is none of the Parquet type`)
		require.ErrorContains(t, err, "CAST the column to text")
		require.NotContains(t, err.Error(), value)
	}
}
