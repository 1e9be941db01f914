package rowfile

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
)

// The engines whose words for types are known, by their public names.
const (
	postgres  = "postgres"
	sqlserver = "sqlserver"
	sqlite    = "sqlite"
)

// kind is how the values of a type are stored.
type kind struct {
	name string // for people
	node func() parquet.Node
	read func(dst, value []byte) (v parquet.Value, used []byte, fits bool)

	// class is SQLite's word for what is stored so, where a value can come with it: {"type":"blob","value":"…"}. strict: a
	// bare string is then no such value.
	class  string
	strict bool
}

// isJSON reports whether the values of a type are JSON of their own: an object in another column is a value with its type.
func isJSON(engine, of string) bool {
	return (engine == postgres || engine == "") && (of == "json" || of == "jsonb")
}

// kindOf tells by the database's own word for a type how its values are stored. An empty engine is one that is not known:
// then a word means what the first of the engines means by it.
func kindOf(engine, of string) kind {
	if isJSON(engine, of) {
		return kind{name: "JSON", node: func() parquet.Node { return texts(parquet.JSON()) }, read: readJSON}
	}
	tables := map[string]func(of string) (kind, bool){postgres: postgresKind, sqlserver: sqlserverKind, sqlite: sqliteKind}
	for _, e := range []string{postgres, sqlserver, sqlite} {
		if engine != e && engine != "" {
			continue
		}
		if k, known := tables[e](of); known {
			return k
		}
	}
	if of == "" {
		return kind{name: "STRING", node: stringNode, read: readAny}
	}
	return kind{name: "STRING", node: stringNode, read: readText}
}

// postgresKind knows the names as format_type prints them.
func postgresKind(of string) (kind, bool) {
	switch of {
	case "bigint", "integer", "smallint":
		return integers(), true
	case "double precision", "real":
		return floats(), true
	case "boolean":
		return booleans(), true
	case "date":
		return dates(), true
	case "timestamp without time zone":
		return moments("2006-01-02 15:04:05"), true
	case "timestamp with time zone":
		return instants("2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05Z07:00:00"), true
	case "time without time zone":
		return clocks(), true
	case "uuid":
		return uuids(), true
	case "bytea":
		return binaries(), true
	}
	return kind{}, false
}

// sqlserverKind knows the names that the engine shows.
func sqlserverKind(of string) (kind, bool) {
	switch of {
	case "bigint", "int", "smallint", "tinyint":
		return integers(), true
	case "float", "real":
		return floats(), true
	case "bit":
		return booleans(), true
	case "date":
		return dates(), true
	case "datetime", "datetime2", "smalldatetime":
		return moments("2006-01-02T15:04:05"), true
	case "datetimeoffset":
		return instants("2006-01-02T15:04:05-07:00"), true
	case "time":
		return clocks(), true
	case "uniqueidentifier":
		return uuids(), true
	case "varbinary", "binary", "image":
		return binaries(), true
	}
	return kind{}, false
}

// sqliteKind knows the usual words of declarations. What is in a column need not be what was declared: a value is only
// taken for one of the type if it was stored as one. Dates are texts or numbers there, as everybody likes.
func sqliteKind(of string) (k kind, known bool) {
	name, _, _ := strings.Cut(strings.ToLower(of), "(")
	switch strings.TrimSpace(name) {
	case "integer", "int", "bigint", "smallint", "tinyint", "mediumint", "int2", "int8", "unsigned big int":
		k = integers()
	case "real", "double precision", "double", "float":
		k = floats()
	case "boolean", "bool":
		k = booleans()
	case "blob":
		k = binaries()
	default:
		return k, false
	}
	k.strict = true
	return k, true
}

func leafOf(of parquet.Type) func() parquet.Node {
	return func() parquet.Node { return parquet.Leaf(of) }
}

// texts is a node of texts of any length.
func texts(node parquet.Node) parquet.Node { return parquet.Leaf(bounded{node.Type()}) }

func stringNode() parquet.Node { return texts(parquet.String()) }

func integers() kind {
	return kind{name: "INT64", node: func() parquet.Node { return parquet.Int(64) }, read: readInteger, class: "integer"}
}

func floats() kind {
	return kind{name: "DOUBLE", node: leafOf(parquet.DoubleType), read: readDouble, class: "real"}
}

func booleans() kind {
	return kind{name: "BOOLEAN", node: leafOf(parquet.BooleanType), read: readBoolean}
}

func dates() kind { return kind{name: "DATE", node: parquet.Date, read: readDate} }

func moments(layout string) kind {
	return kind{
		name: "TIMESTAMP", node: func() parquet.Node { return parquet.TimestampAdjusted(parquet.Microsecond, false) },
		read: readMoments(layout),
	}
}

func instants(layouts ...string) kind {
	return kind{
		name: "TIMESTAMP in UTC", node: func() parquet.Node { return parquet.Timestamp(parquet.Microsecond) },
		read: readMoments(layouts...),
	}
}

func clocks() kind {
	return kind{name: "TIME", node: func() parquet.Node { return parquet.TimeAdjusted(parquet.Microsecond, false) }, read: readTime}
}

func uuids() kind { return kind{name: "UUID", node: parquet.UUID, read: readUUID} }

func binaries() kind {
	return kind{
		name: "BYTE_ARRAY", node: func() parquet.Node { return texts(parquet.Leaf(parquet.ByteArrayType)) }, read: readBytes, class: "blob",
	}
}

// stored takes what a value of SQLite says of itself off it. false: it says that it is something else.
func (k *kind) stored(value []byte) (bare []byte, fits bool) {
	switch {
	case k.class == "":
		return value, true
	case value[0] == '{':
		class, inner, err := typedValue(value)
		return inner, err == nil && class == k.class
	default:
		return value, !k.strict || value[0] != '"'
	}
}

// readJSON takes the JSON text that a string holds, and any other JSON as it stands.
func readJSON(dst, value []byte) (parquet.Value, []byte, bool) {
	if value[0] != '"' {
		return readRaw(dst, value)
	}
	return readText(dst, value)
}

// readRaw keeps JSON as it stands.
func readRaw(dst, value []byte) (parquet.Value, []byte, bool) {
	from := len(dst)
	dst = append(dst, value...)
	return parquet.ByteArrayValue(dst[from:]), dst, true
}

// readText takes a string's text, and of everything else its JSON.
func readText(dst, value []byte) (parquet.Value, []byte, bool) {
	if value[0] == '{' {
		class, inner, err := typedValue(value)
		if err == nil && class == "text_base64" {
			inner, err = textOf(inner)
		} else if class != "integer" && class != "real" {
			return parquet.Value{}, dst, false // bytes, which are no text
		}
		if err != nil {
			return parquet.Value{}, dst, false
		}
		value = inner
	}
	if value[0] != '"' {
		return readRaw(dst, value)
	}
	from := len(dst)
	dst = appendUnescaped(dst, value[1:len(value)-1], 0)
	return parquet.ByteArrayValue(dst[from:]), dst, true
}

// readAny is for columns of no type, where bytes are base64.
func readAny(dst, value []byte) (parquet.Value, []byte, bool) {
	if value[0] == '{' {
		if class, inner, err := typedValue(value); err == nil && class == "blob" {
			value = inner
		}
	}
	return readText(dst, value)
}

// inQuotes is the text of a string without escapes.
func inQuotes(value []byte) (text []byte, fits bool) {
	if value[0] != '"' {
		return nil, false
	}
	return value[1 : len(value)-1], true
}

func readInteger(dst, value []byte) (parquet.Value, []byte, bool) {
	if text, quoted := inQuotes(value); quoted {
		value = text
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	return parquet.Int64Value(n), dst, err == nil
}

// readDouble takes JSON's numbers, and the words for what is none.
func readDouble(dst, value []byte) (parquet.Value, []byte, bool) {
	if text, quoted := inQuotes(value); quoted {
		switch value = text; string(text) {
		case "NaN", "Infinity", "-Infinity":
		default:
			return parquet.Value{}, dst, false
		}
	}
	f, err := strconv.ParseFloat(string(value), 64)
	return parquet.DoubleValue(f), dst, err == nil
}

// readBoolean takes SQLite's numbers too.
func readBoolean(dst, value []byte) (parquet.Value, []byte, bool) {
	switch string(value) {
	case "true", "1":
		return parquet.BooleanValue(true), dst, true
	case "false", "0":
		return parquet.BooleanValue(false), dst, true
	}
	return parquet.Value{}, dst, false
}

// parseTime reads a time in one of the layouts, which take fractions of seconds too. Digits beyond microseconds would be lost.
func parseTime(value []byte, layouts ...string) (t time.Time, fits bool) {
	text, fits := inQuotes(value)
	if !fits {
		return t, false
	}
	for _, layout := range layouts {
		if t, err := time.Parse(layout, string(text)); err == nil {
			return t, t.Nanosecond()%1000 == 0
		}
	}
	return t, false
}

func readDate(dst, value []byte) (parquet.Value, []byte, bool) {
	t, fits := parseTime(value, time.DateOnly)
	const day = 24 * 60 * 60
	return parquet.Int32Value(int32(t.Unix() / day)), dst, fits //nolint:gosec // years have four digits
}

// readMoments reads microseconds since 1970.
func readMoments(layouts ...string) func(dst, value []byte) (parquet.Value, []byte, bool) {
	return func(dst, value []byte) (parquet.Value, []byte, bool) {
		t, fits := parseTime(value, layouts...)
		return parquet.Int64Value(t.UnixMicro()), dst, fits
	}
}

func readTime(dst, value []byte) (parquet.Value, []byte, bool) {
	t, fits := parseTime(value, time.TimeOnly)
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	return parquet.Int64Value(t.Sub(midnight).Microseconds()), dst, fits
}

func readUUID(dst, value []byte) (parquet.Value, []byte, bool) {
	text, fits := inQuotes(value)
	const size, digits = 16, 36
	if !fits || len(text) != digits {
		return parquet.Value{}, dst, false
	}
	from := len(dst)
	for i, c := range text {
		switch i {
		case 8, 13, 18, 23:
			fits = fits && c == '-'
		default:
			dst = append(dst, c)
		}
	}
	n, err := hex.Decode(dst[from:], dst[from:])
	dst = dst[:from+size]
	return parquet.FixedLenByteArrayValue(dst[from:]), dst, fits && err == nil && n == size
}

func readBytes(dst, value []byte) (parquet.Value, []byte, bool) {
	text, fits := inQuotes(value)
	if !fits {
		return parquet.Value{}, dst, false
	}
	from := len(dst)
	dst, err := base64.StdEncoding.AppendDecode(dst, text)
	return parquet.ByteArrayValue(dst[from:]), dst, err == nil
}
