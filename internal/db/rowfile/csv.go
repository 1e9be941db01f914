package rowfile

import (
	"dbrunner/internal/db"
)

// table is CSV (RFC 4180): a line of names, then a line a row, each ended by CR LF. NULL is an empty field, the empty
// string a quoted one.
type table struct {
	columns []db.Column
	json    []bool // columns whose values are JSON of their own
}

func newTable(columns []db.Column) *table {
	t := &table{columns: columns, json: make([]bool, len(columns))}
	for i := range columns {
		t.json[i] = isJSON(&columns[i])
	}
	return t
}

func (*table) asArrays() bool { return true }

func (t *table) begin(dst []byte) []byte {
	for i := range t.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendField(dst, db.AppendJSONString(nil, t.columns[i].Name))
	}
	return append(dst, '\r', '\n')
}

func (t *table) row(dst, text []byte) ([]byte, error) {
	row := valuesOf(text)
	for i := range t.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		value := row.next()
		if value == nil {
			return dst, errRow
		}
		var err error
		if dst, err = t.appendValue(dst, value, t.json[i]); err != nil {
			return dst, err
		}
	}
	return append(dst, '\r', '\n'), nil
}

func (t *table) end(dst []byte) ([]byte, error) { return dst, nil }

func (t *table) appendValue(dst, value []byte, isJSON bool) ([]byte, error) {
	switch {
	case isJSON && string(value) != "null": // JSON's own null cannot be told from NULL, as in the result itself
		return appendQuoted(dst, value), nil
	case value[0] == '"':
		return appendField(dst, value), nil
	case value[0] == '{':
		_, inner, err := typedValue(value)
		if err != nil {
			return dst, err
		}
		return t.appendValue(dst, inner, false)
	case value[0] == 'n':
		return dst, nil
	default:
		return append(dst, value...), nil
	}
}

// appendField appends a JSON string as a field.
func appendField(dst, value []byte) []byte {
	s := value[1 : len(value)-1]
	for _, c := range s {
		if c == '\\' || c == ',' {
			return append(appendUnescaped(append(dst, '"'), s, '"'), '"')
		}
	}
	if len(s) == 0 {
		return append(dst, `""`...)
	}
	return append(dst, s...)
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
