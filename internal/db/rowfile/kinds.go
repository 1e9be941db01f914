package rowfile

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"

	"dbrunner/internal/db/dialect"
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

// kindOf returns how the values of a type are stored. of is the database's own word for the type; empty: it has none.
func kindOf(t dialect.ColumnType, of string) kind {
	k := kind{name: "STRING", node: stringNode, read: readText}
	switch t.Kind {
	case dialect.KindJSON:
		k = kind{name: "JSON", node: func() parquet.Node { return texts(parquet.JSON()) }, read: readJSON}
	case dialect.KindInteger:
		k = kind{name: "INT64", node: func() parquet.Node { return parquet.Int(64) }, read: readInteger, class: "integer"}
	case dialect.KindFloat:
		k = kind{name: "DOUBLE", node: leafOf(parquet.DoubleType), read: readDouble, class: "real"}
	case dialect.KindBoolean:
		k = kind{name: "BOOLEAN", node: leafOf(parquet.BooleanType), read: readBoolean}
	case dialect.KindDate:
		k = kind{name: "DATE", node: parquet.Date, read: readDate}
	case dialect.KindTimestamp:
		k = moments(t.Layouts...)
	case dialect.KindInstant:
		k = instants(t.Layouts...)
	case dialect.KindTime:
		k = kind{name: "TIME", node: func() parquet.Node { return parquet.TimeAdjusted(parquet.Microsecond, false) }, read: readTime}
	case dialect.KindUUID:
		k = kind{name: "UUID", node: parquet.UUID, read: readUUID}
	case dialect.KindBinary:
		k = kind{
			name: "BYTE_ARRAY", node: func() parquet.Node { return texts(parquet.Leaf(parquet.ByteArrayType)) }, read: readBytes, class: "blob",
		}
	default:
		if of == "" {
			k.read = readAny
		}
	}
	k.strict = t.Dynamic
	return k
}

func leafOf(of parquet.Type) func() parquet.Node {
	return func() parquet.Node { return parquet.Leaf(of) }
}

// texts is a node of texts of any length.
func texts(node parquet.Node) parquet.Node { return parquet.Leaf(bounded{node.Type()}) }

func stringNode() parquet.Node { return texts(parquet.String()) }

func moments(layouts ...string) kind {
	return kind{
		name: "TIMESTAMP", node: func() parquet.Node { return parquet.TimestampAdjusted(parquet.Microsecond, false) },
		read: readMoments(layouts...),
	}
}

func instants(layouts ...string) kind {
	return kind{
		name: "TIMESTAMP in UTC", node: func() parquet.Node { return parquet.Timestamp(parquet.Microsecond) },
		read: readMoments(layouts...),
	}
}

// stored takes what a value of SQLite says of itself off it. false: it reports that it is something else.
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
