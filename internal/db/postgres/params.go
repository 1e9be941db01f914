package postgres

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strings"
	"unicode/utf8"

	"dbrunner/internal/db"
)

// paramType is what a publisher's type name means.
type paramType struct {
	oid   uint32 // 0: a type of the database's own, or not a type at all; the server knows
	elem  uint32 // the built-in type of a value or of an array's elements, 0 if it is not built in
	array bool
}

// plainTypeName is what can be the name of a type of the database's own: one or two names, as SQL writes them.
var plainTypeName = regexp.MustCompile(`^("[^"\x00]+"|[A-Za-z_\x80-\x{10ffff}][\w$\x80-\x{10ffff}]*)(\.("[^"\x00]+"|[A-Za-z_\x80-\x{10ffff}][\w$\x80-\x{10ffff}]*))?$`)

const maxTypeName = 200

// typeOf reads a type name: any case, with or without precision, with [] for arrays of any dimensions.
func typeOf(name string) (paramType, bool) {
	if t, ok := types.params[name]; ok {
		return t, true
	}
	if len(name) > maxTypeName || !utf8.ValidString(name) {
		return paramType{}, false
	}
	base, array := baseTypeName(name)
	if b := types.byName[base]; b != nil {
		if array {
			return paramType{oid: b.array, elem: b.oid, array: true}, b.array != 0
		}
		return paramType{oid: b.oid, elem: b.oid}, true
	}
	own := userTypeName(name)
	for strings.HasSuffix(own, "[]") {
		own = own[:len(own)-2]
	}
	return paramType{array: array}, plainTypeName.MatchString(own)
}

// baseTypeName takes brackets and precision off: "Timestamp(3) with time zone[]" is an array of
// "timestamp with time zone".
func baseTypeName(name string) (base string, array bool) {
	base = strings.ToLower(strings.Join(strings.Fields(name), " "))
	for strings.HasSuffix(base, "[]") {
		base, array = strings.TrimSpace(base[:len(base)-2]), true
	}
	if open := strings.IndexByte(base, '('); open > 0 {
		if end := strings.IndexByte(base[open:], ')'); end > 0 {
			base = strings.TrimSpace(strings.TrimSpace(base[:open]) + base[open+end+1:])
		}
	}
	if strings.HasPrefix(base, "_") && types.byName[base[1:]] != nil {
		return base[1:], true
	}
	return strings.TrimPrefix(base, "pg_catalog."), array
}

// userTypeName is the name as the server is asked for it.
func userTypeName(name string) string { return strings.ReplaceAll(strings.TrimSpace(name), " [", "[") }

// checkValue says what is wrong with a value before anything is sent.
func checkValue(v db.Value) string {
	if v.Type == "" {
		if v.Kind == db.Array || v.Kind == db.Object {
			return "an array or object needs a type: write {\"type\": \"integer[]\", \"value\": […]} or type jsonb"
		}
		return checkText(v)
	}
	t, ok := typeOf(v.Type)
	if !ok {
		return "not the name of a type"
	}
	json := t.elem == oidJSON || t.elem == oidJSONB
	switch {
	case v.Kind == db.Object && t.elem != 0 && (!json || t.array):
		return "an object needs type json or jsonb"
	case v.Kind == db.Array && !t.array && t.elem != 0 && !json:
		return "an array needs an array type, such as integer[], or json or jsonb"
	}
	if _, err := appendContent(nil, &v, t); err != "" {
		return err
	}
	return checkText(v)
}

func checkText(v db.Value) string {
	if v.Kind == db.String && strings.IndexByte(v.Text, 0) >= 0 {
		return "text cannot hold the character U+0000 in PostgreSQL"
	}
	return ""
}

// typesOf returns the numbers of the parameters' types and the same as a cache key; nil if none is typed.
func (s *session) typesOf(args []db.Value) (oids []uint32, key string) {
	typed := false
	for i := range args {
		if args[i].Type != "" {
			typed = true
			break
		}
	}
	if !typed {
		return nil, ""
	}
	oids = make([]uint32, len(args))
	raw := make([]byte, 0, 4*len(args))
	for i := range args {
		oids[i] = s.oidOf(args[i].Type)
		raw = binary.BigEndian.AppendUint32(raw, oids[i])
	}
	return oids, string(raw)
}

func (s *session) oidOf(name string) uint32 {
	if name == "" {
		return 0
	}
	if t, _ := typeOf(name); t.oid != 0 {
		return t.oid
	}
	return s.typeOIDs[name]
}

// appendParam appends one argument of a binding.
func appendParam(b []byte, v *db.Value) ([]byte, error) {
	if v.Kind == db.Null {
		return appendNull(b), nil
	}
	if v.Type == "" {
		return appendTextArg(b, v.Text), nil
	}
	t, _ := typeOf(v.Type)
	b, begin := beginArg(b)
	b, wrong := appendContent(b, v, t)
	if wrong != "" {
		return b, db.Errorf(db.ClassPermanent, db.CodeParameter, "a parameter cannot be bound: %s", wrong)
	}
	return endArg(b, begin), nil
}

// appendContent appends the text of a typed value; wrong says why it cannot.
func appendContent(b []byte, v *db.Value, t paramType) (out []byte, wrong string) {
	switch {
	case t.array && v.Kind == db.Array:
		return appendArray(b, v.Text, t.elem)
	case !t.array && t.elem == oidBytea && v.Kind == db.String:
		return appendByteaText(b, v.Text)
	}
	return append(b, v.Text...), ""
}

// appendByteaText turns base64 into PostgreSQL's hexadecimal form, which is taken as well.
func appendByteaText(b []byte, text string) ([]byte, string) {
	if strings.HasPrefix(text, `\x`) {
		return append(b, text...), ""
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return b, "bytea takes standard base64 with padding, or \\x and hexadecimal digits"
	}
	return hex.AppendEncode(append(b, `\x`...), raw), ""
}
