package postgres

import (
	"cmp"
	"encoding/json"
	"strings"

	"dbrunner/internal/db/engine"
)

// maxDimensions is PostgreSQL's own limit.
const maxDimensions = 6

// appendArray turns a JSON array into an array literal: {1,NULL,"text"}, nested once for each dimension. The
// elements of a json or jsonb array are its documents, so that such an array has one dimension.
func appendArray(b []byte, text string, t paramType) (out []byte, wrong string) {
	a := arrayWriter{rest: text, out: b, elem: t.elem, comma: cmp.Or(t.delim, ',')}
	a.space()
	a.array(1)
	return a.out, a.wrong
}

// arrayWriter walks over JSON that is known to be valid.
type arrayWriter struct {
	rest  string
	out   []byte
	elem  uint32
	comma byte
	wrong string
}

func (a *arrayWriter) array(depth int) {
	if depth > maxDimensions {
		a.wrong = "an array has at most 6 dimensions"
	}
	a.rest = a.rest[1:] // the bracket
	a.out = append(a.out, '{')
	for first := true; a.wrong == ""; first = false {
		a.space()
		if a.rest == "" {
			a.wrong = "not a JSON array"
			return
		}
		switch a.rest[0] {
		case ']':
			a.rest = a.rest[1:]
			a.out = append(a.out, '}')
			return
		case ',':
			a.rest = a.rest[1:]
			a.space()
		}
		if !first {
			a.out = append(a.out, a.comma)
		}
		a.element(depth)
	}
}

func (a *arrayWriter) element(depth int) {
	if a.rest == "" {
		a.wrong = "not a JSON array"
		return
	}
	isJSON := a.elem == oidJSON || a.elem == oidJSONB
	switch c := a.rest[0]; {
	case c == '[' && !isJSON:
		a.array(depth + 1)
	case c == '{' && !isJSON:
		a.wrong = "an array of this type cannot hold objects"
	default:
		raw := a.take()
		switch {
		case raw == "null":
			a.out = append(a.out, "NULL"...)
		case raw != "" && raw[0] == '"':
			a.text(raw)
		case isJSON:
			a.quote(raw)
		case raw == "" || strings.ContainsAny(raw, `{}",\`):
			a.wrong = "not a JSON array"
		case isWhole(a.elem):
			a.out = append(a.out, engine.WholeNumber(raw)...)
		default:
			a.out = append(a.out, raw...)
		}
	}
}

// text writes a string: the text of a json element as it is, base64 of bytea in PostgreSQL's own form.
func (a *arrayWriter) text(raw string) {
	s := raw[1 : len(raw)-1]
	if strings.IndexByte(s, '\\') >= 0 {
		if err := json.Unmarshal([]byte(raw), &s); err != nil {
			a.wrong = "not a JSON array"
			return
		}
	}
	if strings.IndexByte(s, 0) >= 0 {
		a.wrong = "text cannot hold the character U+0000 in PostgreSQL"
		return
	}
	if a.elem == oidBytea {
		var bytea []byte
		bytea, a.wrong = appendByteaText(nil, s)
		s = string(bytea)
	}
	a.quote(s)
}

func (a *arrayWriter) quote(s string) {
	a.out = append(a.out, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			a.out = append(a.out, '\\')
		}
		a.out = append(a.out, s[i])
	}
	a.out = append(a.out, '"')
}

func (a *arrayWriter) space() {
	a.rest = strings.TrimLeft(a.rest, " \t\r\n")
}

// take cuts one JSON value off the rest.
func (a *arrayWriter) take() string {
	depth, i := 0, 0
	for ; i < len(a.rest); i++ {
		switch a.rest[i] {
		case '"':
			i += stringEnd(a.rest[i:])
		case '[', '{':
			depth++
		case ']', '}', ',':
			if depth == 0 {
				return a.cut(i)
			}
			if a.rest[i] != ',' {
				depth--
			}
		}
	}
	return a.cut(len(a.rest))
}

func (a *arrayWriter) cut(n int) string {
	n = min(n, len(a.rest))
	raw := strings.TrimRight(a.rest[:n], " \t\r\n")
	a.rest = a.rest[n:]
	return raw
}

// stringEnd is the index of the quote that ends the string that s starts with.
func stringEnd[T string | []byte](s T) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return len(s)
}
