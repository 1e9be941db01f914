package rowfile_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
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

func write(t *testing.T, format, compression string, columns []contract.Column, rows ...string) []byte {
	t.Helper()
	return writeAs(t, rowfile.Options{Format: format, Compression: compression, Kind: dialect.TypeOf("postgres")}, columns, rows...)
}

func writeAs(t *testing.T, o rowfile.Options, columns []contract.Column, rows ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := rowfile.New(o, columns, &out)
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
		engine string
		of     string // the engine's word
		arrow  string
		values string // JSON, separated by blanks; | is a blank
		want   []string
	}{
		{"postgres", "bigint", "int64", `"9223372036854775807" "-1"`, []string{"9223372036854775807", "-1"}},
		{"postgres", "integer", "int64", `1 -2147483648`, []string{"1", "-2147483648"}},
		{"postgres", "smallint", "int64", `0 null`, []string{"0", "(null)"}},
		{"postgres", "integer[]", "utf8", `"{1,2}"`, []string{"{1,2}"}},
		{"postgres", "double precision", "float64", `1.5 "NaN" "-Infinity" -0 1e+300`, []string{"1.5", "NaN", "-Inf", "-0", "1e+300"}},
		{"postgres", "real", "float64", `0.1`, []string{"0.1"}},
		{"postgres", "boolean", "bool", `true false null`, []string{"true", "false", "(null)"}},
		{"postgres", "bit", "utf8", `"1" "0101"`, []string{"1", "0101"}}, // a string of bits
		{"postgres", "date", "date32", `"2026-11-25" "1969-12-31" "0001-01-01" "9999-12-31"`, []string{"2026-11-25", "1969-12-31", "0001-01-01", "9999-12-31"}},
		{"postgres", "timestamp without time zone", "timestamp[us]", `"2026-11-25|12:30:00.123456" "1969-12-31|23:59:59.5"`, []string{"2026-11-25T12:30:00.123456", "1969-12-31T23:59:59.5"}},
		{"postgres", "timestamp with time zone", "timestamp[us, tz=UTC]", `"2026-11-25|12:30:00+00" "2026-11-25|12:30:00.5-05:30" "1900-01-01|00:00:00+00:19:32"`, []string{"2026-11-25T12:30:00Z", "2026-11-25T18:00:00.5Z", "1899-12-31T23:40:28Z"}},
		{"postgres", "time without time zone", "time64[us]", `"00:00:00" "23:59:59.999999"`, []string{"00:00:00.000000", "23:59:59.999999"}},
		{"postgres", "time with time zone", "utf8", `"00:00:00+01"`, []string{"00:00:00+01"}},
		{"postgres", "uuid", "extension<arrow.uuid>", `"123e4567-e89b-12d3-a456-426614174000"`, []string{"123e4567-e89b-12d3-a456-426614174000"}},
		{"postgres", "bytea", "binary", `"AAEC/w==" ""`, []string{"AAEC/w==", ""}},
		{"postgres", "jsonb", "binary", `{"a":[1,"x"]} "\"x\"" 1 "null"`, []string{"eyJhIjpbMSwieCJdfQ==", "Ingi", "MQ==", "bnVsbA=="}}, // that reader shows JSON as bytes
		{"postgres", "json", "binary", `{"type":"blob","value":"AA=="}`, []string{"eyJ0eXBlIjoiYmxvYiIsInZhbHVlIjoiQUE9PSJ9"}},
		{"postgres", "numeric", "utf8", `"12345678901234567890.123456789" "NaN"`, []string{"12345678901234567890.123456789", "NaN"}},
		{"postgres", "text", "utf8", `"a\"b\\\n\u0001ü\ud83e\udd86" "" null`, []string{"a\"b\\\n\x01ü🦆", "", "(null)"}},
		{"postgres", "image", "utf8", `"AAEC"`, []string{"AAEC"}}, // a type of the database's own, with another engine's name

		{"sqlserver", "tinyint", "int64", `255`, []string{"255"}},
		{"sqlserver", "int", "int64", `-7`, []string{"-7"}},
		{"sqlserver", "bigint", "int64", `"-9223372036854775808"`, []string{"-9223372036854775808"}},
		{"sqlserver", "float", "float64", `1e-7`, []string{"1e-07"}},
		{"sqlserver", "real", "float64", `0.1`, []string{"0.1"}},
		{"sqlserver", "bit", "bool", `true false`, []string{"true", "false"}},
		{"sqlserver", "decimal", "utf8", `"1.10"`, []string{"1.10"}},
		{"sqlserver", "date", "date32", `"2026-11-25"`, []string{"2026-11-25"}},
		{"sqlserver", "datetime", "timestamp[us]", `"2026-11-25T12:30:00.003"`, []string{"2026-11-25T12:30:00.003"}},
		{"sqlserver", "datetime2", "timestamp[us]", `"2026-11-25T12:30:00.1200000"`, []string{"2026-11-25T12:30:00.12"}},
		{"sqlserver", "smalldatetime", "timestamp[us]", `"2026-11-25T12:30:00"`, []string{"2026-11-25T12:30:00"}},
		{"sqlserver", "datetimeoffset", "timestamp[us, tz=UTC]", `"2026-11-25T12:30:00+02:00"`, []string{"2026-11-25T10:30:00Z"}},
		{"sqlserver", "time", "time64[us]", `"12:30:00.1234560"`, []string{"12:30:00.123456"}},
		{"sqlserver", "uniqueidentifier", "extension<arrow.uuid>", `"6f9619ff-8b86-d011-b42d-00c04fc964ff"`, []string{"6f9619ff-8b86-d011-b42d-00c04fc964ff"}},
		{"sqlserver", "varbinary", "binary", `"AAEC/w=="`, []string{"AAEC/w=="}},
		{"sqlserver", "nvarchar", "utf8", `"x"`, []string{"x"}},

		{"sqlite", "INTEGER", "int64", `1 {"type":"integer","value":"9007199254740993"}`, []string{"1", "9007199254740993"}},
		{"sqlite", "Int8", "int64", `1`, []string{"1"}},
		{"sqlite", "REAL", "float64", `1.0 {"type":"real","value":"Infinity"}`, []string{"1", "+Inf"}},
		{"sqlite", "BOOLEAN", "bool", `1 0`, []string{"true", "false"}},
		{"sqlite", "BLOB", "binary", `{"type":"blob","value":"AAEC/w=="}`, []string{"AAEC/w=="}},
		{"sqlite", "VARCHAR(20)", "utf8", `"x" 1`, []string{"x", "1"}},
		{"sqlite", "DATETIME", "utf8", `"2026-11-25T12:30:00Z" 1764074000`, []string{"2026-11-25T12:30:00Z", "1764074000"}},
		{"sqlite", "json", "utf8", `"{\"a\":1}"`, []string{`{"a":1}`}}, // a text as any other there
		{"sqlite", "", "utf8", `1 "x" 1.5 {"type":"blob","value":"AA=="} {"type":"integer","value":"9007199254740993"}`, []string{"1", "x", "1.5", "AA==", "9007199254740993"}},

		{"", "integer", "int64", `1 {"type":"integer","value":"9007199254740993"}`, []string{"1", "9007199254740993"}},
		{"", "datetime2", "timestamp[us]", `"2026-11-25T12:30:00.1200000"`, []string{"2026-11-25T12:30:00.12"}},
		{"", "BLOB", "binary", `{"type":"blob","value":"AAEC/w=="}`, []string{"AAEC/w=="}},
		{"", "json", "binary", `1`, []string{"MQ=="}},
	} {
		t.Run(c.engine+" "+c.of, func(t *testing.T) {
			t.Parallel()
			var rows []string
			for _, value := range strings.Split(c.values, " ") {
				rows = append(rows, "["+strings.ReplaceAll(value, "|", " ")+"]")
			}
			for _, compression := range rowfile.Compressions() {
				o := rowfile.Options{Format: rowfile.Parquet, Compression: compression, Kind: dialect.TypeOf(c.engine)}
				table := readParquet(t, writeAs(t, o, []contract.Column{{Name: "v", Type: c.of}}, rows...))
				require.Equal(t, c.arrow, table.Schema().Field(0).Type.String())
				require.True(t, table.Schema().Field(0).Nullable)
				require.Equal(t, c.want, column(table, 0), compression)
			}
		})
	}
}

func TestParquetFiles(t *testing.T) {
	t.Parallel()
	columns := []contract.Column{{Name: "z", Type: "integer"}, {Name: "a ü", Type: "text"}, {Name: "m", Type: "boolean"}}
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

// A column's buffers are small where there are many of them, and its bounds are short however long its texts are.
func TestParquetIsBounded(t *testing.T) {
	t.Parallel()
	const many = 1_200_000
	r, err := file.NewParquetReader(bytes.NewReader(write(t, rowfile.Parquet, "none", []contract.Column{{Name: "n", Type: "integer"}}, slices.Repeat([]string{"[1]"}, many)...)))
	require.NoError(t, err)
	require.Equal(t, 2, r.NumRowGroups(), "small rows take memory too")
	require.EqualValues(t, many, r.NumRows())

	const wide = 1600
	columns, values := make([]contract.Column, wide), make([]string, wide)
	for i := range columns {
		columns[i], values[i] = contract.Column{Name: fmt.Sprint("c", i), Type: "integer"}, fmt.Sprint(i)
	}
	table := readParquet(t, write(t, rowfile.Parquet, "zstd", columns, slices.Repeat([]string{"[" + strings.Join(values, ",") + "]"}, 1000)...))
	require.EqualValues(t, 1000, table.NumRows())
	for i := range columns {
		require.Equal(t, slices.Repeat(values[i:i+1], 1000), column(table, i))
	}

	const large = 1 << 20
	var rows, want []string
	for i := range 40 {
		text := []byte(strings.Repeat(string(rune('a'+i%20)), large))
		if i == 39 {
			text = bytes.Repeat([]byte{0xff}, 40) // nothing short is above it
		}
		want = append(want, base64.StdEncoding.EncodeToString(text))
		rows = append(rows, `["`+want[i]+`","`+want[i]+`"]`)
	}
	data := write(t, rowfile.Parquet, "none", []contract.Column{{Name: "text", Type: "text"}, {Name: "bytes", Type: "bytea"}}, rows...)
	table = readParquet(t, data)
	require.Equal(t, want, column(table, 0))
	require.Equal(t, want, column(table, 1))
	require.Less(t, binary.LittleEndian.Uint32(data[len(data)-8:]), uint32(16<<10), "the metadata of the row groups")
	requireBounds(t, data, table)
}

// requireBounds checks that all texts of each row group are between its bounds.
func requireBounds(t *testing.T, data []byte, table arrow.Table) {
	t.Helper()
	r, err := file.NewParquetReader(bytes.NewReader(data))
	require.NoError(t, err)
	require.Greater(t, r.NumRowGroups(), 1)
	from := int64(0)
	for g := range r.NumRowGroups() {
		rows := r.MetaData().RowGroup(g).NumRows()
		chunk, err := r.MetaData().RowGroup(g).ColumnChunk(1)
		require.NoError(t, err)
		stats, err := chunk.Statistics()
		require.NoError(t, err)
		low, high := stats.EncodeMin(), stats.EncodeMax()
		require.LessOrEqual(t, len(low), 32)
		require.LessOrEqual(t, len(high), 40)
		for _, text := range column(table, 1)[from : from+rows] {
			value, err := base64.StdEncoding.DecodeString(text)
			require.NoError(t, err)
			require.LessOrEqual(t, bytes.Compare(low, value), 0)
			require.GreaterOrEqual(t, bytes.Compare(high, value), 0)
		}
		from += rows
	}
}

func TestParquetNames(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{{""}, {"a.b", "a"}, {"a", "A"}, {"b", "a", "ü \"\n", strings.Repeat("long", 100)}} {
		var columns []contract.Column
		for _, name := range names {
			columns = append(columns, contract.Column{Name: name, Type: "text"})
		}
		table := readParquet(t, write(t, rowfile.Parquet, "none", columns, "["+strings.Join(slices.Repeat([]string{`"x"`}, len(names)), ",")+"]"))
		for i, name := range names {
			require.Equal(t, name, table.Schema().Field(i).Name)
			require.Equal(t, []string{"x"}, column(table, i))
		}
	}
}

func TestParquetRefuses(t *testing.T) {
	t.Parallel()
	_, err := rowfile.New(rowfile.Options{Format: rowfile.Parquet, Compression: "none"}, []contract.Column{{Name: "a"}, {Name: "a"}}, &bytes.Buffer{})
	require.ErrorContains(t, err, "duplicate_column")
	for _, columns := range [][]contract.Column{nil, {}} {
		var out bytes.Buffer
		_, err = rowfile.New(rowfile.Options{Format: rowfile.Parquet, Compression: "zstd"}, columns, &out)
		var e *db.Error
		require.ErrorAs(t, err, &e, "its rows could not be counted")
		require.Equal(t, db.ClassPermanent, e.Class)
		require.Equal(t, contract.CodeNotSupported, e.Code)
		require.Contains(t, e.Message, "choose another format")
		require.Empty(t, out.Bytes())
	}
	for _, c := range []struct{ engine, of, value string }{
		{"postgres", "integer", `"x"`},
		{"postgres", "bigint", `"9223372036854775808"`},
		{"postgres", "date", `"infinity"`},
		{"postgres", "date", `"10000-01-01"`},
		{"postgres", "date", `"0044-03-15 BC"`},
		{"postgres", "timestamp without time zone", `"-infinity"`},
		{"postgres", "timestamp with time zone", `"infinity"`},
		{"postgres", "timestamp with time zone", `"10000-01-01 00:00:00+00"`},
		{"postgres", "time without time zone", `"24:00:00"`},
		{"postgres", "uuid", `"123e4567-e89b-12d3-a456-42661417400x"`},
		{"postgres", "uuid", `"123e4567e89b12d3a456426614174000"`},
		{"postgres", "bytea", `"?"`},
		{"postgres", "boolean", `"maybe"`},
		{"sqlserver", "datetime2", `"2026-11-25T12:30:00.1234567"`},
		{"sqlserver", "time", `"12:30:00.1234567"`},
		{"sqlite", "INTEGER", `"1"`}, // a text
		{"sqlite", "INTEGER", `1.5`},
		{"sqlite", "INTEGER", `{"type":"blob","value":"1234"}`},
		{"sqlite", "INTEGER", `{"type":"text_base64","value":"1234"}`},
		{"sqlite", "REAL", `"1,5"`},
		{"sqlite", "REAL", `"NaN"`},
		{"sqlite", "REAL", `{"type":"integer","value":"9007199254740993"}`},
		{"sqlite", "BOOLEAN", `2`},
		{"sqlite", "BLOB", `"AAEC"`}, // a text
		{"sqlite", "BLOB", `1234`},
		{"sqlite", "TEXT", `{"type":"blob","value":"1234"}`},
		{"sqlite", "TEXT", `{"type":"text_base64","value":"/w=="}`},
		{"sqlite", "", `{"type":"text_base64","value":"/w=="}`},
		{"", "bit", `"1"`},
	} {
		o := rowfile.Options{Format: rowfile.Parquet, Compression: "none", Kind: dialect.TypeOf(c.engine)}
		w, err := rowfile.New(o, []contract.Column{{Name: "n", Type: "text"}, {Name: "secret", Type: c.of}}, &bytes.Buffer{})
		require.NoError(t, err)
		require.NoError(t, w.Row([]byte(`["a",null]`)))
		err = w.Row([]byte(`["b",` + c.value + `]`))
		var e *db.Error
		require.ErrorAs(t, err, &e, "%s %s", c.of, c.value)
		require.Equal(t, db.ClassPermanent, e.Class)
		require.Equal(t, contract.CodeData, e.Code)
		require.Contains(t, e.Message, `row 2: a value of column "secret" does not fit the Parquet type`)
		require.Contains(t, e.Message, "CAST the column to text, or choose another format")
		require.NotContains(t, e.Message, strings.Trim(c.value, `"`)+" ")
		require.NoError(t, e.Err, "a cause would quote the value")
	}
}
