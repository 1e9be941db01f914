package rowfile

import (
	"bytes"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// table is CSV (RFC 4180): a line of names, then a line a row, each ended by CR LF. NULL is an empty field, the empty
// string a quoted one.
type table struct {
	columns []contract.Column
	json    []bool // columns whose values are JSON of their own
}

func newTable(o *Options, columns []contract.Column) *table {
	t := &table{columns: columns, json: make([]bool, len(columns))}
	for i := range columns {
		t.json[i] = o.typeOf(columns[i].Type).Kind == dialect.KindJSON
	}
	return t
}

func (*table) asArrays() bool { return true }

func (t *table) begin(dst []byte) []byte {
	for i := range t.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, jsontext.AppendString(nil, t.columns[i].Name), false)
	}
	return append(dst, '\r', '\n')
}

func (t *table) row(dst, text []byte) ([]byte, error) {
	row := valuesOf(text)
	for i, isJSON := range t.json {
		if i > 0 {
			dst = append(dst, ',')
		}
		value := row.next()
		if value == nil {
			return dst, errRow
		}
		var err error
		switch {
		case isJSON || value[0] == '{':
			if dst, err = appendObject(dst, value, isJSON); err != nil {
				return dst, err
			}
		case value[0] == '"':
			dst = appendField(dst, value, row.plain)
		default:
			dst = appendWord(dst, value)
		}
	}
	return append(dst, '\r', '\n'), nil
}

func (t *table) end(dst []byte) ([]byte, error) { return dst, nil }

// appendObject appends a value of a JSON column, or one that comes with its type.
func appendObject(dst, value []byte, isJSON bool) ([]byte, error) {
	if isJSON {
		switch value[0] {
		case 'n':
			return dst, nil
		case '"': // JSON text, see package postgres
			return append(appendUnescaped(append(dst, '"'), value[1:len(value)-1], '"'), '"'), nil
		}
		return appendQuoted(dst, value), nil
	}
	class, inner, err := typedValue(value)
	if class == "text_base64" {
		if text, err := textOf(inner); err == nil {
			inner = text
		}
	}
	switch {
	case err != nil:
		return dst, err
	case inner[0] == '"':
		return appendField(dst, inner, false), nil
	default:
		return appendWord(dst, inner), nil
	}
}

// appendWord appends a number or a word; NULL is nothing.
func appendWord(dst, value []byte) []byte {
	if value[0] == 'n' {
		return dst
	}
	return append(dst, value...)
}

// appendField appends a JSON string as a field. plain: it has neither escapes nor commas, as far as is known.
func appendField(dst, value []byte, plain bool) []byte {
	s := value[1 : len(value)-1]
	switch {
	case len(s) == 0:
		return append(dst, `""`...)
	case plain || bytes.IndexByte(s, '\\') < 0 && bytes.IndexByte(s, ',') < 0:
		return append(dst, s...)
	case bytes.IndexByte(s, '\\') < 0:
		return append(append(append(dst, '"'), s...), '"')
	default:
		return append(appendUnescaped(append(dst, '"'), s, '"'), '"')
	}
}

// appendQuoted appends a text as it is, in quotes.
func appendQuoted(dst, text []byte) []byte {
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' {
			dst = append(dst, c)
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
