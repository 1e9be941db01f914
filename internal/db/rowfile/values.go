package rowfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"dbrunner/internal/jsontext"
)

// errRow is a row that is none of the encoder's.
var errRow = errors.New("malformed row")

// values walks through the values of a row.
type values struct {
	text    []byte
	at      int
	objects bool
	plain   bool // the value that next returned is no string with an escape or a comma
}

// valuesOf starts behind the bracket.
func valuesOf(text []byte) values {
	if len(text) < 2 {
		return values{}
	}
	return values{text: text, at: 1, objects: text[0] == '{'}
}

// next returns the next value's JSON text; nil at the end of the row. The encoder writes no blanks, but a value of a JSON
// column may have some around it.
func (v *values) next() []byte {
	text, i := v.text, v.at
	i = skipBlanks(text, i)
	if i < len(text) && text[i] == ',' {
		i = skipBlanks(text, i+1)
	}
	if v.objects {
		if i = skipKey(text, i); i == 0 {
			return nil
		}
	}
	begin := i
	if v.plain = true; i < len(text) && text[i] == '"' {
		i = v.skipString(i)
	} else {
		i += valueLength(text[i:])
	}
	v.at = i
	if i == begin {
		return nil
	}
	return text[begin:i]
}

func skipBlanks(text []byte, i int) int {
	for i < len(text) && text[i] <= ' ' {
		i++
	}
	return i
}

// skipKey returns where the value behind a key starts; 0: there is none.
func skipKey(text []byte, i int) int {
	if i >= len(text) || text[i] != '"' {
		return 0
	}
	if i += stringLength(text[i:]) + 1; i >= len(text) { // its colon
		return 0
	}
	return skipBlanks(text, i)
}

// skipString returns the end of the string that starts at i; i itself if it has none. Most are short: byte by byte is
// faster than looking for each of the three.
func (v *values) skipString(i int) int {
	text := v.text
	for end := i + 1; end < len(text); end++ {
		switch text[end] {
		case '"':
			return end + 1
		case ',':
			v.plain = false
		case '\\':
			v.plain = false
			end++
		}
	}
	return i
}

// stringLength is the length of the JSON string that a text starts with, quotes included.
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

// valueLength is the length of the JSON value that a text starts with; 0 if there is none.
func valueLength(text []byte) int {
	if len(text) == 0 {
		return 0
	}
	switch text[0] {
	case '"':
		return stringLength(text)
	case '[', '{':
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
	for i, c := range text {
		if c == ',' || c == ']' || c == '}' || c <= ' ' {
			return i
		}
	}
	return len(text)
}

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

// textOf makes a text that came as base64 because no body may hold it, with a NUL in it, a string again. An error: it is no
// UTF-8 either.
func textOf(value []byte) ([]byte, error) {
	var bytes []byte
	if err := json.Unmarshal(value, &bytes); err != nil || !utf8.Valid(bytes) {
		return nil, errRow
	}
	return jsontext.AppendString(nil, bytes), nil
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

// unicodeEscape reads the digits behind \u, and those of a second half that follows, and reports how many bytes they are.
func unicodeEscape(s []byte) (rune, int) {
	const digits, both = 4, 10
	r := hexRune(s)
	if r < 0xd800 || r > 0xdbff || len(s) < both || s[digits] != '\\' || s[digits+1] != 'u' {
		return r, digits
	}
	low := hexRune(s[digits+2:])
	if low < 0xdc00 || low > 0xdfff {
		return utf8.RuneError, digits
	}
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
