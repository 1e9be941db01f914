package postgres

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgproto3"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/jsontext"
)

// kind is how the text of a value becomes JSON.
type kind uint8

const (
	asText   kind = iota // a string
	asNumber             // smallint, integer: a JSON number as it stands
	asFloat              // a JSON number if it is finite, else a string
	asBool
	asJSON  // as it stands, unless it could not be sent back so: then a string that holds its text
	asBytes // base64
	asUTC   // a string, its times in UTC
)

func kindOf(oid uint32) kind {
	switch oid {
	case oidInt2, oidInt4:
		return asNumber
	case oidFloat4, oidFloat8:
		return asFloat
	case oidBool:
		return asBool
	case oidJSON, oidJSONB:
		return asJSON
	case oidBytea:
		return asBytes
	}
	if isInstant(oid) {
		return asUTC
	}
	return asText
}

// columnsOf turns a description into columns. A type of the database's own has no name yet if the session does
// not know it: nameTypes finds it out.
func (s *session) columnsOf(msg *pgproto3.RowDescription) ([]contract.Column, []kind) {
	columns := make([]contract.Column, len(msg.Fields))
	kinds := make([]kind, len(msg.Fields))
	for i := range msg.Fields {
		f := &msg.Fields[i]
		kinds[i] = kindOf(f.DataTypeOID)
		columns[i] = contract.Column{Name: string(f.Name), Type: builtinName(f.DataTypeOID)}
		if columns[i].Type != "" {
			continue
		}
		if columns[i].Type = s.typeNames[f.DataTypeOID]; columns[i].Type == "" {
			s.unnamed = append(s.unnamed, unnamedType{&columns[i], f.DataTypeOID})
		}
	}
	return columns, kinds
}

// encodeRow appends a row of a DataRow message. errOutOfOrder: it is none, or not one of these columns.
func (s *session) encodeRow(columns []contract.Column, kinds []kind, body []byte) error {
	from, ok := rowOf(body)
	if !ok || from.count != len(kinds) {
		return errOutOfOrder
	}
	dst := s.encoder.BeginRow()
	for i, k := range kinds {
		dst = s.encoder.Next(dst)
		v, ok := from.value()
		switch {
		case !ok:
			return errOutOfOrder
		case v == nil:
			dst = append(dst, "null"...)
			continue
		}
		// Only where the server's encoding does not promise UTF-8
		if dst, ok = appendValue(dst, k, v); !ok || s.validate && k != asBytes && !utf8.Valid(v) {
			return db.Errorf(db.ClassPermanent, contract.CodeData,
				"a value of column %q cannot be written without loss: it is not valid UTF-8", columns[i].Name)
		}
	}
	return s.encoder.EndRow(dst)
}

// appendValue appends one value as JSON. false means that something of it would be lost.
func appendValue(dst []byte, k kind, v []byte) ([]byte, bool) {
	switch k {
	case asNumber:
		return append(dst, v...), true
	case asJSON:
		if returnable(v) {
			return append(dst, v...), true
		}
	case asFloat:
		return appendFloat(dst, v), true
	case asBool:
		if len(v) == 1 && v[0] == 't' {
			return append(dst, "true"...), true
		}
		return append(dst, "false"...), true
	case asBytes:
		return appendBytea(dst, v), true
	case asUTC:
		v = inUTC(v)
	case asText:
	}
	return jsontext.AppendText(dst, v)
}

// returnable reports whether a JSON value can be sent back as it stands: as a parameter a string is JSON text, and null is
// SQL's. A value of type json may also begin or end with blanks, and hold what no body may, \u0000 and halves of
// surrogate pairs. No value may be nested deeper than a body: readers of JSON have such limits too.
func returnable(v []byte) bool {
	if len(v) == 0 || v[0] == '"' || v[0] == 'n' || v[0] <= ' ' || v[len(v)-1] <= ' ' || deep(v) {
		return false
	}
	for rest := v; ; {
		at := bytes.Index(rest, []byte(`\u`))
		if at < 0 {
			return true
		}
		escape := rest[at+len(`\u`):]
		rest = escape[min(4, len(escape)):]
		switch {
		case len(escape) < 4, string(escape[:4]) == "0000":
			return false
		case escape[0]|0x20 != 'd' || escape[1] <= '7':
			// not a half of a pair
		case escape[1]|0x20 > 'b' || len(escape) < 10 || string(escape[4:6]) != `\u` || escape[6]|0x20 != 'd' || escape[7]|0x20 < 'c':
			return false
		default:
			rest = escape[10:]
		}
	}
}

// deepest is how many levels a JSON value may have to be returned as it stands: a body has 64, and a parameter of a batch is
// below six of them.
const deepest = 64 - 6

// deep reports whether a JSON value has more levels.
func deep(v []byte) bool {
	if len(v) <= 2*deepest || bytes.Count(v, []byte{'['})+bytes.Count(v, []byte{'{'}) <= deepest {
		return false
	}
	depth := 0
	for i := 0; i < len(v); i++ {
		switch v[i] {
		case '"':
			i += stringEnd(v[i:])
		case '[', '{':
			if depth++; depth > deepest {
				return true
			}
		case ']', '}':
			depth--
		}
	}
	return false
}

// appendFloat: what PostgreSQL prints for a finite number (1.5, -0, 1e+20) is JSON; NaN and Infinity are not.
func appendFloat(dst, v []byte) []byte {
	digit := v
	if len(digit) > 0 && digit[0] == '-' {
		digit = digit[1:]
	}
	if len(digit) > 0 && digit[0] >= '0' && digit[0] <= '9' {
		return append(dst, v...)
	}
	return jsontext.AppendString(dst, v)
}

// appendBytea decodes the text form of bytea (hexadecimal, or escaped if the job chose that) in place of the
// base64 that is written.
func appendBytea(dst, v []byte) []byte {
	if !bytes.HasPrefix(v, []byte(`\x`)) {
		return jsontext.AppendBase64(dst, unescapeBytea(v))
	}
	src := v[2:]
	n, err := hex.Decode(src, src) // the message's own memory, which is not read again
	if err != nil {
		n = 0
	}
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, src[:n])
	return append(dst, '"')
}

// unescapeBytea reads bytea_output = escape: \\ and \ooo.
func unescapeBytea(v []byte) []byte {
	out := make([]byte, 0, len(v))
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] != '\\':
			out = append(out, v[i])
		case i+3 < len(v) && v[i+1] != '\\':
			out = append(out, (v[i+1]-'0')<<6|(v[i+2]-'0')<<3|(v[i+3]-'0'))
			i += 3
		default:
			out = append(out, '\\')
			i++
		}
	}
	return out
}
