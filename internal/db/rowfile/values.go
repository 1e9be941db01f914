package rowfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"dbrunner/internal/db"
)

// errRow is a row that is none of the encoder's.
var errRow = errors.New("a row is not written as rows are")

// values walks through the values of a row.
type values struct {
	rest    []byte
	objects bool
}

// valuesOf begins behind the bracket.
func valuesOf(text []byte) values {
	if len(text) < 2 {
		return values{}
	}
	return values{rest: text[1:], objects: text[0] == '{'}
}

// next returns the next value's JSON text; nil at the end of the row. The encoder writes no blanks, but a value of a JSON
// column may have some around it.
func (v *values) next() []byte {
	v.blanks()
	if len(v.rest) > 0 && v.rest[0] == ',' {
		v.rest = v.rest[1:]
	}
	if v.objects {
		if len(v.rest) < 2 || v.rest[0] != '"' {
			return nil
		}
		key := stringLength(v.rest) + 1 // its colon
		if key > len(v.rest) {
			return nil
		}
		v.rest = v.rest[key:]
	}
	v.blanks()
	n := valueLength(v.rest)
	if n == 0 {
		return nil
	}
	value := v.rest[:n]
	v.rest = v.rest[n:]
	if value[0] == '"' && (n == 1 || value[n-1] != '"') {
		return nil // no end
	}
	return value
}

func (v *values) blanks() {
	for len(v.rest) > 0 && (v.rest[0] == ' ' || v.rest[0] == '\n' || v.rest[0] == '\t' || v.rest[0] == '\r') {
		v.rest = v.rest[1:]
	}
}

// stringLength is the length of the JSON string that a text begins with, quotes included.
func stringLength(text []byte) int {
	from := 1
	for {
		n := bytes.IndexByte(text[from:], '"')
		if n < 0 {
			return len(text)
		}
		n += from
		escapes := 0
		for text[n-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return n + 1
		}
		from = n + 1
	}
}

// valueLength is the length of the JSON value that a text begins with; 0 if there is none.
func valueLength(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case '"':
		return stringLength(text)
	case '[', '{':
		return nestedLength(text)
	}
	for i, c := range text {
		if c == ',' || c == ']' || c == '}' || c <= ' ' {
			return i
		}
	}
	return len(text)
}

func nestedLength(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringLength(text[i:]) - 1
		case '[', '{':
			depth++
		case ']', '}':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}

// isJSON reports whether a column's values are JSON of their own: an object in another column is a value with its type.
func isJSON(column *db.Column) bool { return column.Type == "json" || column.Type == "jsonb" }

// typedValue is what a value with a type of its own consists of (SQLite: {"type": "blob", "value": "…"}).
func typedValue(text []byte) (name string, value []byte, err error) {
	var typed struct {
		Type  string          `json:"type"`
		Value json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(text, &typed); err != nil || typed.Type == "" || typed.Value == nil {
		return "", nil, errRow
	}
	return typed.Type, typed.Value, nil
}

// appendUnescaped appends the text of what stands between the quotes of a JSON string. double is a byte that is written
// twice; 0: none.
func appendUnescaped(dst, s []byte, double byte) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '\\' || i+1 == len(s) {
			dst = append(dst, c)
			continue
		}
		i++
		switch s[i] {
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, n := unicodeEscape(s[i+1:])
			i += n
			dst = utf8.AppendRune(dst, r)
			continue
		default:
			c = s[i]
		}
		if c == double {
			dst = append(dst, c)
		}
		dst = append(dst, c)
	}
	return dst
}

// unicodeEscape reads the digits behind \u, and those of a second half that follows, and says how many bytes they are.
func unicodeEscape(s []byte) (rune, int) {
	const digits, both = 4, 10
	r := hexRune(s)
	if r < 0xd800 || r > 0xdbff || len(s) < both || s[digits] != '\\' || s[digits+1] != 'u' {
		return r, digits
	}
	low := hexRune(s[digits+2:])
	return (r-0xd800)<<10 + (low - 0xdc00) + 0x10000, both
}

func hexRune(s []byte) rune {
	if len(s) < 4 {
		return utf8.RuneError
	}
	n, err := strconv.ParseUint(string(s[:4]), 16, 32)
	if err != nil {
		return utf8.RuneError
	}
	return rune(n) //nolint:gosec // four digits
}
