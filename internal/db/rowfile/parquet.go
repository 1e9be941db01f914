package rowfile

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"

	"dbrunner/internal/db"
)

// groupSize is how much of the rows, as JSON, becomes one row group, bytes: so much is held in memory.
const groupSize = 16 << 20

// columnar is Parquet: typed columns, all of them optional, in groups of rows.
type columnar struct {
	columns  []leaf
	out      *parquet.GenericWriter[any]
	one      parquet.Row
	scratch  []byte
	gathered int
	rows     int64
}

// leaf is a column and how its values are read.
type leaf struct {
	name string
	kind
}

// kind is how the values of a type are stored.
type kind struct {
	name string // for people
	node func() parquet.Node
	read func(dst []byte, value []byte) (v parquet.Value, used []byte, err error)
}

// errUnfit is a value that is none of its column's type.
var errUnfit = errors.New("the value does not fit")

func newColumnar(columns []db.Column, compression string, out io.Writer) (*columnar, error) {
	c := &columnar{columns: make([]leaf, len(columns)), one: make(parquet.Row, len(columns))}
	seen := make(map[string]bool, len(columns))
	root := &ordered{Group: make(parquet.Group, len(columns))}
	for i := range columns {
		name := columns[i].Name
		if seen[name] {
			return nil, db.Errorf(db.ClassPermanent, db.CodeDuplicateColumn,
				"two columns are named %s: give one of them another name with AS, or choose another format", strconv.Quote(name))
		}
		seen[name] = true
		c.columns[i] = leaf{name: name, kind: kindOf(&columns[i])}
		root.Group[name] = parquet.Optional(c.columns[i].node())
		root.names = append(root.names, name)
	}
	c.out = parquet.NewGenericWriter[any](out, parquet.NewSchema("rows", root), parquet.Compression(codec(compression)),
		parquet.CreatedBy("dbrunner", "1", ""))
	return c, nil
}

func codec(compression string) compress.Codec {
	switch compression {
	case Zstd:
		return &parquet.Zstd
	case Gzip:
		return &parquet.Gzip
	default:
		return &parquet.Uncompressed
	}
}

// ordered is a group whose fields stand in the order of the query: the library's own are sorted by name.
type ordered struct {
	parquet.Group

	names []string
}

// Fields returns the columns in their order.
func (o *ordered) Fields() []parquet.Field {
	byName := make(map[string]parquet.Field, len(o.names))
	for _, f := range o.Group.Fields() {
		byName[f.Name()] = f
	}
	fields := make([]parquet.Field, len(o.names))
	for i, name := range o.names {
		fields[i] = byName[name]
	}
	return fields
}

// GoType is of no use: rows are written as values.
func (o *ordered) GoType() reflect.Type { return reflect.TypeFor[struct{}]() }

func (*columnar) asArrays() bool          { return true }
func (*columnar) begin(dst []byte) []byte { return dst }

// write writes one row.
func (c *columnar) write(text []byte) error {
	values := valuesOf(text)
	c.rows++
	c.scratch = c.scratch[:0]
	for i := range c.columns {
		value := values.next()
		if value == nil {
			return errRow
		}
		v, err := c.value(&c.columns[i], value)
		if err != nil {
			return err
		}
		if v.IsNull() {
			c.one[i] = v.Level(0, 0, i)
		} else {
			c.one[i] = v.Level(0, 1, i)
		}
	}
	_, err := c.out.WriteRows([]parquet.Row{c.one})
	return err
}

func (c *columnar) value(l *leaf, text []byte) (parquet.Value, error) {
	if string(text) == "null" {
		return parquet.NullValue(), nil
	}
	v, scratch, err := l.read(c.scratch, text)
	if err != nil {
		return v, db.Errorf(db.ClassPermanent, db.CodeData,
			"row %d: a value of column %s is none of the Parquet type %s: CAST the column to text, or choose another format",
			c.rows, strconv.Quote(l.name), l.kind.name).Because(err)
	}
	c.scratch = scratch
	return v, nil
}

func (c *columnar) row(dst, text []byte) ([]byte, error) {
	if err := c.write(text); err != nil {
		return dst, err
	}
	if c.gathered += len(text); c.gathered < groupSize {
		return dst, nil
	}
	c.gathered = 0
	return dst, c.out.Flush()
}

func (c *columnar) end(dst []byte) ([]byte, error) { return dst, c.out.Close() }

// kindOf tells by the database's own word for a type how its values are stored.
func kindOf(column *db.Column) kind {
	if isJSON(column) {
		return kind{"JSON", parquet.JSON, readRaw}
	}
	name, _, _ := strings.Cut(strings.ToLower(column.Type), "(")
	switch strings.TrimSpace(name) {
	case "bigint", "integer", "int", "smallint", "tinyint", "mediumint":
		return kind{"INT64", func() parquet.Node { return parquet.Int(64) }, readInteger}
	case "double precision", "double", "real", "float":
		return kind{"DOUBLE", func() parquet.Node { return parquet.Leaf(parquet.DoubleType) }, readDouble}
	case "boolean", "bool", "bit":
		return kind{"BOOLEAN", func() parquet.Node { return parquet.Leaf(parquet.BooleanType) }, readBoolean}
	case "date":
		return kind{"DATE", parquet.Date, readDate}
	case "timestamp without time zone", "timestamp", "datetime", "datetime2", "smalldatetime":
		return kind{"TIMESTAMP", func() parquet.Node { return parquet.TimestampAdjusted(parquet.Microsecond, false) }, readLocal}
	case "timestamp with time zone", "datetimeoffset":
		return kind{"TIMESTAMP in UTC", func() parquet.Node { return parquet.Timestamp(parquet.Microsecond) }, readInstant}
	case "time without time zone", "time":
		return kind{"TIME", func() parquet.Node { return parquet.TimeAdjusted(parquet.Microsecond, false) }, readTime}
	case "uuid", "uniqueidentifier":
		return kind{"UUID", parquet.UUID, readUUID}
	case "bytea", "blob", "varbinary", "binary", "image":
		return kind{"BYTE_ARRAY", func() parquet.Node { return parquet.Leaf(parquet.ByteArrayType) }, readBytes}
	default:
		return kind{"STRING", parquet.String, readText}
	}
}

// readRaw keeps JSON as it stands.
func readRaw(dst, value []byte) (parquet.Value, []byte, error) {
	return parquet.ByteArrayValue(value), dst, nil
}

// readText takes a string's text, and of everything else its JSON.
func readText(dst, value []byte) (parquet.Value, []byte, error) {
	if value[0] == '{' {
		if _, inner, err := typedValue(value); err == nil && len(inner) > 0 {
			value = inner
		}
	}
	if value[0] != '"' {
		return parquet.ByteArrayValue(value), dst, nil
	}
	from := len(dst)
	dst = appendUnescaped(dst, value[1:len(value)-1], 0)
	return parquet.ByteArrayValue(dst[from:]), dst, nil
}

// plainText is the text of a string without escapes, of a number or a word, also where it comes with a type of its own.
func plainText(value []byte) ([]byte, error) {
	if value[0] == '{' {
		_, inner, err := typedValue(value)
		if err != nil || len(inner) == 0 || inner[0] == '{' {
			return nil, errUnfit
		}
		value = inner
	}
	if value[0] == '"' {
		return value[1 : len(value)-1], nil
	}
	return value, nil
}

func readInteger(dst, value []byte) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return parquet.Int64Value(n), dst, err
}

func readDouble(dst, value []byte) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	f, err := strconv.ParseFloat(string(text), 64)
	return parquet.DoubleValue(f), dst, err
}

func readBoolean(dst, value []byte) (parquet.Value, []byte, error) {
	switch string(value) {
	case "true", "1", `"1"`:
		return parquet.BooleanValue(true), dst, nil
	case "false", "0", `"0"`:
		return parquet.BooleanValue(false), dst, nil
	}
	return parquet.Value{}, dst, errUnfit
}

func readDate(dst, value []byte) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	t, err := time.Parse(time.DateOnly, string(text))
	const day = 24 * 60 * 60
	return parquet.Int32Value(int32(t.Unix() / day)), dst, err //nolint:gosec // years have four digits
}

func readLocal(dst, value []byte) (parquet.Value, []byte, error) {
	return readMoment(dst, value, "2006-01-02 15:04:05", "2006-01-02T15:04:05")
}

func readInstant(dst, value []byte) (parquet.Value, []byte, error) {
	return readMoment(dst, value, "2006-01-02 15:04:05Z07", "2006-01-02 15:04:05Z07:00", time.RFC3339, "2006-01-02 15:04:05 Z07:00")
}

// readMoment reads microseconds since 1970. The layouts take fractions of seconds too.
func readMoment(dst, value []byte, layouts ...string) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	for _, layout := range layouts {
		var t time.Time
		if t, err = time.Parse(layout, string(text)); err == nil && t.Nanosecond()%1000 != 0 {
			err = errUnfit // digits would be lost
		}
		if err == nil {
			return parquet.Int64Value(t.UnixMicro()), dst, nil
		}
	}
	return parquet.Value{}, dst, err
}

func readTime(dst, value []byte) (parquet.Value, []byte, error) {
	v, dst, err := readMoment(dst, value, "15:04:05")
	if err != nil {
		return v, dst, err
	}
	midnight := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	return parquet.Int64Value(v.Int64() - midnight), dst, nil
}

func readUUID(dst, value []byte) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	from := len(dst)
	digits := strings.ReplaceAll(string(text), "-", "")
	const size = 16
	if dst, err = hex.AppendDecode(dst, []byte(digits)); err != nil || len(dst)-from != size {
		return parquet.Value{}, dst, errUnfit
	}
	return parquet.FixedLenByteArrayValue(dst[from:]), dst, nil
}

func readBytes(dst, value []byte) (parquet.Value, []byte, error) {
	text, err := plainText(value)
	if err != nil {
		return parquet.Value{}, dst, err
	}
	from := len(dst)
	if dst, err = base64.StdEncoding.AppendDecode(dst, text); err != nil {
		return parquet.Value{}, dst, errUnfit
	}
	return parquet.ByteArrayValue(dst[from:]), dst, nil
}
