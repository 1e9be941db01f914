package postgres

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// paramType is what a publisher's type name means.
type paramType struct {
	oid   uint32 // 0: a type of the database's own, or not a type at all; the server knows
	elem  uint32 // the built-in type of a value or of an array's elements, below all domains; 0 if it is not built in
	array bool
	delim byte   // between an array's elements; 0: a comma
	cast  string // what the value is cast to, where the name has a modifier, such as numeric(5,2)
}

// plainTypeName is what can be the name of a type of the database's own: one or two names, as SQL writes them.
var plainTypeName = regexp.MustCompile(`^("(?:[^"\x00]|"")+"|[A-Za-z_\x80-\x{10ffff}][\w$\x80-\x{10ffff}]*)(\.("(?:[^"\x00]|"")+"|[A-Za-z_\x80-\x{10ffff}][\w$\x80-\x{10ffff}]*))?$`)

const maxTypeName = 200

// typeOf reads a type name: any case, with or without a modifier, with [] for arrays of any dimensions.
func typeOf(name string) (paramType, bool) {
	t, wrong := readType(name)
	return t, wrong == ""
}

const notAType = "not the name of a type"

func readType(name string) (t paramType, wrong string) {
	if t, ok := types.params[name]; ok {
		return t, ""
	}
	if len(name) > maxTypeName || !utf8.ValidString(name) {
		return t, notAType
	}
	own, array := cutBrackets(name)
	if n, ok := builtinOf(own); ok {
		return n.paramType(array)
	}
	if !plainTypeName.MatchString(own) {
		if strings.IndexByte(own, '(') > 0 {
			return t, notAType + "; write a modifier of a user-defined type in the SQL text: CAST(… AS …)"
		}
		return t, notAType
	}
	return paramType{array: array}, ""
}

// cutBrackets takes the brackets of an array off.
func cutBrackets(name string) (base string, array bool) {
	base = strings.TrimSpace(name)
	for strings.HasSuffix(base, "[]") {
		base, array = strings.TrimSpace(base[:len(base)-2]), true
	}
	return base, array
}

// builtinType is the name of a type of PostgreSQL's own, taken apart: timestamp (3) with time zone.
type builtinType struct {
	*builtin

	before, modifier, behind string
	array                    bool // the name itself is that of an array: _int4
}

func builtinOf(name string) (n builtinType, ok bool) {
	before, behind := name, ""
	if open := strings.IndexByte(name, '('); open > 0 {
		if end := strings.IndexByte(name[open:], ')'); end > 0 {
			before, n.modifier, behind = name[:open], name[open:open+end+1], name[open+end+1:]
		}
	}
	n.before, n.behind = strings.Join(strings.Fields(before), " "), strings.Join(strings.Fields(behind), " ")
	base := strings.ToLower(n.before)
	if n.behind != "" {
		base += " " + strings.ToLower(n.behind)
	}
	if n.array = strings.HasPrefix(base, "_") && types.byName[base[1:]] != nil; n.array {
		base = base[1:]
	}
	n.builtin = types.byName[strings.TrimPrefix(base, "pg_catalog.")]
	return n, n.builtin != nil
}

var (
	oneNumber  = regexp.MustCompile(`^\(\s*[0-9]{1,8}\s*\)$`)
	twoNumbers = regexp.MustCompile(`^\(\s*[0-9]{1,8}(\s*,\s*-?[0-9]{1,4})?\s*\)$`)
)

// modifiers are the modifiers that a type may have.
var modifiers = map[string]*regexp.Regexp{
	"numeric": twoNumbers, "varchar": oneNumber, "bpchar": oneNumber, "bit": oneNumber, "varbit": oneNumber, "time": oneNumber,
	"timetz": oneNumber, "timestamp": oneNumber, "timestamptz": oneNumber, "interval": oneNumber, "float8": oneNumber,
}

func (n builtinType) paramType(array bool) (t paramType, wrong string) {
	array = array || n.array
	t = paramType{oid: n.oid, elem: n.oid, array: array, delim: delimOf(n.oid)}
	if array {
		t.oid = n.builtin.array
	}
	if t.oid == 0 {
		return t, notAType
	}
	if n.modifier == "" {
		return t, ""
	}
	allowed := modifiers[n.name]
	if allowed == nil || n.array || !allowed.MatchString(n.modifier) || n.behind != "" && !strings.HasSuffix(strings.ToLower(n.behind), "time zone") {
		return t, "type " + n.shown + " has no such modifier"
	}
	t.cast = strings.TrimSpace(n.before + n.modifier + " " + n.behind)
	if array {
		t.cast += "[]"
	}
	return t, ""
}

// delimOf is what stands between the elements of an array of one of PostgreSQL's own types.
func delimOf(elem uint32) byte {
	if elem == oidBox {
		return ';'
	}
	return 0
}

// userTypeName is the name as the server is asked for it.
func userTypeName(name string) string {
	base, array := cutBrackets(name)
	if array {
		base += "[]"
	}
	return base
}

// checkValue reports what is wrong with a value before anything is sent.
func checkValue(v dialect.Value) string {
	if v.Type == "" {
		if v.Kind == dialect.Array || v.Kind == dialect.Object {
			return "an array or object needs a type: write {\"type\": \"integer[]\", \"value\": […]} or type jsonb"
		}
		return checkText(v)
	}
	t, wrong := readType(v.Type)
	if wrong == "" {
		_, wrong = appendContent(nil, &v, t)
	}
	if wrong != "" {
		return wrong
	}
	return checkText(v)
}

func checkText(v dialect.Value) string {
	if v.Kind == dialect.String && strings.IndexByte(v.Text, 0) >= 0 {
		return "text cannot hold the character U+0000 in PostgreSQL"
	}
	return ""
}

// typesOf returns the numbers of the parameters' types and the same as a cache key; nil if none is typed.
func (s *session) typesOf(args []dialect.Value) (oids []uint32, key string) {
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
	return s.ownTypes[name].oid
}

// typeOf is the type of a parameter: one of the database's own was asked for before.
func (s *session) typeOf(name string) paramType {
	if t, _ := typeOf(name); t.oid != 0 {
		return t
	}
	return s.ownTypes[name]
}

// castSQL is a statement's text with its placeholders cast to their types, where those have modifiers: the protocol has
// no place for them.
func castSQL(d *dialect.Dialect, stmt *dialect.Compiled) (string, *dialect.Origin) {
	casts := false
	for i := range stmt.Args {
		casts = casts || strings.IndexByte(stmt.Args[i].Type, '(') > 0
	}
	if !casts {
		return stmt.SQL, stmt.Origin
	}
	return dialect.ReplaceParams(d, stmt, func(n int) string {
		if n < 1 || n > len(stmt.Args) {
			return ""
		}
		t, _ := typeOf(stmt.Args[n-1].Type)
		if t.cast == "" {
			return ""
		}
		return "($" + strconv.Itoa(n) + "::" + t.cast + ")"
	})
}

// appendParam appends one argument of a binding.
func (s *session) appendParam(b []byte, v *dialect.Value) ([]byte, error) {
	if v.Kind == dialect.Null {
		return appendNull(b), nil
	}
	if v.Type == "" {
		return appendTextArg(b, v.Text), nil
	}
	b = append(b, 0, 0, 0, 0) // the argument's length is known only when it is written
	begin := len(b)
	b, wrong := appendContent(b, v, s.typeOf(v.Type))
	if wrong != "" {
		return b, db.Errorf(db.ClassPermanent, contract.CodeParameter, "a parameter cannot be bound: %s", wrong)
	}
	return endArg(b, begin), nil
}

// appendContent appends the text of a typed value; wrong reports why it cannot.
func appendContent(b []byte, v *dialect.Value, t paramType) (out []byte, wrong string) {
	json := t.elem == oidJSON || t.elem == oidJSONB
	switch {
	case v.Kind == dialect.Object && t.elem != 0 && (!json || t.array):
		return b, "an object needs type json or jsonb"
	case v.Kind == dialect.Array && !t.array && t.elem != 0 && !json:
		return b, "an array needs an array type, such as integer[], or json or jsonb"
	case t.array && v.Kind == dialect.Array:
		return appendArray(b, v.Text, t)
	case t.array:
	case t.elem == oidBytea && v.Kind == dialect.String:
		return appendByteaText(b, v.Text)
	case v.Kind == dialect.Number && isWhole(t.elem):
		return append(b, engine.WholeNumber(v.Text)...), ""
	}
	return append(b, v.Text...), ""
}

// isWhole reports whether a type has whole numbers only.
func isWhole(oid uint32) bool {
	return oid == oidInt2 || oid == oidInt4 || oid == oidInt8
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
