package rowfile_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/rowfile"
	"dbrunner/internal/jsontext"
)

func TestCSV(t *testing.T) {
	t.Parallel()
	columns := []contract.Column{{Name: "id", Type: "integer"}, {Name: "a,b \"ü\"", Type: "text"}, {Name: "doc", Type: "jsonb"}, {Name: "raw", Type: "BLOB"}}
	got := string(write(t, rowfile.CSV, "none", columns,
		`[1,"plain",{"a": "x"},null]`,
		`[-2,"",[1],{"type":"blob","value":"AAE="}]`,
		`[null,null,null,"AAE="]`,
		`[1.5,"a,b", {"a":1, "b":[2]} ,true]`,
		`[3,"line\r\nbreak \"quoted\" back\\slash \u0001 \u00e4 \ud83e\udd86 / \/","\"s\"",{"type":"integer","value":"9007199254740993"}]`,
		`{"id":4,"a,b \"ü\"":" space ","doc":"\"a\\\"b\"","raw":false}`,
	))
	require.Equal(t, strings.Join([]string{
		`id,"a,b ""ü""",doc,raw`,
		`1,plain,"{""a"": ""x""}",`,
		`-2,"","[1]",AAE=`,
		`,,,AAE=`,
		`1.5,"a,b","{""a"":1, ""b"":[2]}",true`,
		"3,\"line\r\nbreak \"\"quoted\"\" back\\slash \x01 ä 🦆 / /\",\"\"\"s\"\"\",9007199254740993",
		`4, space ,"""a\""b""",false`,
		``,
	}, "\r\n"), got)
}

func TestJSONFiles(t *testing.T) {
	t.Parallel()
	columns := []contract.Column{{Name: "a"}}
	require.Equal(t, "[]\n", string(write(t, rowfile.JSON, "none", columns)))
	list := write(t, rowfile.JSON, "none", columns, `{"a":1}`, `{"a":"x"}`)
	require.True(t, bytes.Equal([]byte("[\n{\"a\":1},\n{\"a\":\"x\"}\n]\n"), list), "a row on each line")
	require.Empty(t, write(t, rowfile.NDJSON, "none", columns))
	require.Equal(t, "[1]\n[null]\n", string(write(t, rowfile.NDJSON, "none", columns, `[1]`, `[null]`)))
	broken := "[{\n  \"a\":\r\n \"\\n\"\n}]" // PostgreSQL's json keeps the blanks that it was given
	require.Equal(t, []string{"[{   \"a\":   \"\\n\" }]", "[2]", ""}, strings.Split(string(write(t, rowfile.NDJSON, "none", columns, broken, `[2]`)), "\n"))
	require.Len(t, strings.Split(string(write(t, rowfile.JSON, "none", columns, broken, `[2]`)), "\n"), 5)
}

func TestUnknownWords(t *testing.T) {
	t.Parallel()
	_, err := rowfile.New(rowfile.Options{Format: "xml", Compression: "none"}, nil, io.Discard)
	require.ErrorContains(t, err, "xml")
	_, err = rowfile.New(rowfile.Options{Format: "csv", Compression: "rar"}, nil, io.Discard)
	require.ErrorContains(t, err, "rar")
	require.Equal(t, ".csv.zst", rowfile.Extension("csv", "zstd"))
	require.Equal(t, ".ndjson.gz", rowfile.Extension("ndjson", "gzip"))
	require.Equal(t, ".parquet", rowfile.Extension("parquet", "zstd"))
}

func TestARowThatIsNone(t *testing.T) {
	t.Parallel()
	for _, format := range []string{rowfile.CSV, rowfile.Parquet} {
		for _, row := range []string{``, `[`, `[]`, `{}`, `[1`, `{"a":1}`, `x`} {
			w, err := rowfile.New(rowfile.Options{Format: format, Compression: "none"}, []contract.Column{{Name: "a"}, {Name: "b"}}, io.Discard)
			require.NoError(t, err)
			require.Error(t, w.Row([]byte(row)), "%s %q", format, row)
		}
	}
}

var errFull = errors.New("no room")

type full struct{ room int }

func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// An error of what is written to comes back, at the latest from Close.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	for _, format := range rowfile.Formats() {
		for _, compression := range rowfile.Compressions() {
			w, err := rowfile.New(rowfile.Options{Format: format, Compression: compression}, []contract.Column{{Name: "a", Type: "text"}}, &full{room: 10})
			if err == nil {
				for i := range 3000 {
					if err = w.Row([]byte(`["` + strings.Repeat(strconv.Itoa(i), 30) + `"]`)); err != nil {
						break
					}
				}
			}
			if err == nil {
				err = w.Close()
			}
			require.ErrorIs(t, err, errFull, "%s %s", format, compression)
		}
	}
}

// cell is a value of a row: what it is, and the JSON that the encoder writes.
type cell struct {
	null bool
	text string // as CSV has it
	json string
}

func cells() *rapid.Generator[cell] {
	return rapid.Custom(func(t *rapid.T) cell {
		switch rapid.IntRange(0, 4).Draw(t, "kind") {
		case 0:
			return cell{null: true, json: "null"}
		case 1:
			n := strconv.Itoa(rapid.IntRange(math.MinInt32, math.MaxInt32).Draw(t, "n"))
			return cell{text: n, json: n}
		case 2:
			return cell{text: "true", json: "true"}
		default:
			s := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", `"`, `""`, ",", "\r\n", "\n", `\`, `\"`, "\u2028", "🦆", "null", "\x00"})).Draw(t, "s")
			return cell{text: s, json: string(jsontext.AppendString(nil, s))}
		}
	})
}

// Every row comes back as it was, in every text format and compression, given as array or as object.
func TestRowsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		width := rapid.IntRange(1, 4).Draw(rt, "columns")
		rows := rapid.SliceOfN(rapid.SliceOfN(cells(), width, width), 0, 20).Draw(rt, "rows")
		compression := rapid.SampledFrom(rowfile.Compressions()).Draw(rt, "compression")
		objects := rapid.Bool().Draw(rt, "objects")
		columns := make([]contract.Column, width)
		for i := range columns {
			columns[i] = contract.Column{Name: `c"` + strconv.Itoa(i), Type: "text"}
		}
		var texts []string
		for _, row := range rows {
			texts = append(texts, encode(columns, row, objects))
		}
		lines := unpack(t, compression, write(t, rowfile.NDJSON, compression, columns, texts...))
		require.Equal(t, strings.Join(append(texts, ""), "\n"), string(lines))
		list := unpack(t, compression, write(t, rowfile.JSON, compression, columns, texts...))
		var decoded []json.RawMessage
		require.NoError(t, json.Unmarshal(list, &decoded))
		require.Len(t, decoded, len(rows))
		for i := range decoded {
			require.Equal(t, texts[i], string(decoded[i]))
		}
		checkCSV(t, rows, unpack(t, compression, write(t, rowfile.CSV, compression, columns, texts...)))
		checkParquet(t, rows, write(t, rowfile.Parquet, compression, columns, texts...))
	})
}

func encode(columns []contract.Column, row []cell, objects bool) string {
	var b strings.Builder
	for i, c := range row {
		b.WriteString(map[bool]string{true: "", false: ","}[i == 0])
		if objects {
			b.Write(append(jsontext.AppendString(nil, columns[i].Name), ':'))
		}
		b.WriteString(c.json)
	}
	if objects {
		return "{" + b.String() + "}"
	}
	return "[" + b.String() + "]"
}

func unpack(t require.TestingT, compression string, data []byte) []byte {
	var from io.Reader = bytes.NewReader(data)
	var err error
	switch compression {
	case rowfile.Zstd:
		var z *zstd.Decoder
		z, err = zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(1<<20))
		defer z.Close()
		from = z
	case rowfile.Gzip:
		from, err = gzip.NewReader(from)
	}
	require.NoError(t, err)
	out, err := io.ReadAll(from)
	require.NoError(t, err)
	return out
}

// checkCSV reads with a reader that distinguishes NULL from the empty string, and with the standard library, which does not and
// makes one line break of CR LF in a field.
func checkCSV(t require.TestingT, rows [][]cell, data []byte) {
	records := strict(data)
	require.Len(t, records, len(rows)+1)
	library, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
	require.NoError(t, err)
	for i, row := range rows {
		for k, c := range row {
			require.Equal(t, c.null, !records[i+1][k].quoted && records[i+1][k].text == "")
			require.Equal(t, c.text, records[i+1][k].text)
			if len(row) > 1 { // a row of one column that is NULL is an empty line, which the library leaves out
				require.Equal(t, strings.ReplaceAll(c.text, "\r\n", "\n"), library[i+1][k])
			}
		}
	}
}

func checkParquet(t *testing.T, rows [][]cell, data []byte) {
	table := readParquet(t, data)
	require.EqualValues(t, len(rows), table.NumRows())
	for k := range int(table.NumCols()) {
		i := 0
		for _, chunk := range table.Column(k).Data().Chunks() {
			texts, ok := chunk.(*array.String)
			require.True(t, ok)
			for n := range texts.Len() {
				require.Equal(t, rows[i][k].null, texts.IsNull(n))
				require.Equal(t, rows[i][k].text, texts.Value(n))
				i++
			}
		}
	}
}

// A field may be as large as a row.
func TestLargeFields(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a \"quoted\", text\r\nü\u2028\x01\\", 100_000)
	row := cell{text: text, json: string(jsontext.AppendString(nil, text))}
	columns := []contract.Column{{Name: "a", Type: "text"}, {Name: "b", Type: "text"}}
	rows := [][]cell{{row, row}, {row, {null: true, json: "null"}}, {{json: `""`}, row}}
	var texts []string
	for i := range rows {
		texts = append(texts, encode(columns, rows[i], i%2 == 0))
	}
	for _, compression := range rowfile.Compressions() {
		library, err := csv.NewReader(bytes.NewReader(unpack(t, compression, write(t, rowfile.CSV, compression, columns, texts...)))).ReadAll()
		require.NoError(t, err)
		for i := range rows {
			for k := range rows[i] {
				require.Equal(t, strings.ReplaceAll(rows[i][k].text, "\r\n", "\n"), library[i+1][k])
			}
		}
		checkParquet(t, rows, write(t, rowfile.Parquet, compression, columns, texts...))
	}
}

// A string in a column of JSON is JSON text on every engine: in SQLite a text as any other.
func TestCSVOfDeclaredJSON(t *testing.T) {
	t.Parallel()
	for _, engine := range []string{"sqlite", "postgres"} {
		o := rowfile.Options{Format: rowfile.CSV, Compression: "none", Kind: dialect.TypeOf(engine)}
		got := writeAs(t, o, []contract.Column{{Name: "v", Type: "json"}}, `["{\"a\":1}"]`, `["null"]`, `[null]`, `["\"x\""]`)
		want := "v\r\n\"{\"\"a\"\":1}\"\r\nnull\r\n\r\n\"\"\"x\"\"\"\r\n"
		require.Equal(t, want, strings.ReplaceAll(string(got), "\"null\"", "null"))
	}
}

// A text that holds NUL comes as base64, and is a text all the same.
func TestCSVOfTextWithNUL(t *testing.T) {
	t.Parallel()
	o := rowfile.Options{Format: rowfile.CSV, Compression: "none", Kind: dialect.TypeOf("sqlite")}
	got := writeAs(t, o, []contract.Column{{Name: "v", Type: "TEXT"}}, `[{"type":"text_base64","value":"YQBi"}]`, `[{"type":"text_base64","value":"/0E="}]`)
	require.Equal(t, "v\r\n\"a\x00b\"\r\n/0E=\r\n", string(got))
}

type field struct {
	text   string
	quoted bool
}

func strict(data []byte) (records [][]field) {
	for len(data) > 0 {
		var record []field
		for {
			var f field
			if f.quoted = data[0] == '"'; f.quoted {
				data = data[1:]
				for data[0] != '"' || len(data) > 1 && data[1] == '"' {
					if data[0] == '"' {
						data = data[1:]
					}
					f.text, data = f.text+string(data[:1]), data[1:]
				}
				data = data[1:]
			} else {
				n := bytes.IndexAny(data, ",\r")
				f.text, data = string(data[:n]), data[n:]
			}
			record = append(record, f)
			if data[0] == '\r' {
				data = data[2:]
				break
			}
			data = data[1:]
		}
		records = append(records, record)
	}
	return records
}

func FuzzRow(f *testing.F) {
	for _, seed := range []string{`[1,"a"]`, `{"a":1,"b":"\ud83e\udd86\""}`, `["\\\\",null]`, `[{"type":"x","value":1},[]]`, `["\u00`, `{"`, `[`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(_ *testing.T, row []byte) {
		for _, format := range []string{rowfile.CSV, rowfile.Parquet} {
			w, err := rowfile.New(rowfile.Options{Format: format, Compression: "none", Kind: dialect.TypeOf("")}, []contract.Column{{Name: "a", Type: "text"}, {Name: "b", Type: "json"}}, io.Discard)
			if err == nil && w.Row(row) == nil { // whatever it makes of what is no row: it ends
				_ = w.Close()
			}
		}
	})
}

func BenchmarkWriter(b *testing.B) {
	columns := []contract.Column{
		{Name: "id", Type: "integer"},
		{Name: "name", Type: "text"},
		{Name: "amount", Type: "double precision"},
		{Name: "at", Type: "timestamp with time zone"},
		{Name: "ok", Type: "boolean"},
	}
	row := []byte(`[4711,"customer 4711",1177.75,"2026-01-01 01:18:31+00",true]`)
	for _, format := range rowfile.Formats() {
		for _, compression := range rowfile.Compressions() {
			b.Run(format+"-"+compression, func(b *testing.B) {
				w, err := rowfile.New(rowfile.Options{Format: format, Compression: compression, Kind: dialect.TypeOf("postgres")}, columns, io.Discard)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.SetBytes(int64(len(row)))
				for b.Loop() {
					if err := w.Row(row); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
