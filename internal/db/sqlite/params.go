package sqlite

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// The types that a parameter may name; values of results that are no plain JSON name them too.
const (
	typeInteger    = "integer"
	typeReal       = "real"
	typeText       = "text"
	typeTextBase64 = "text_base64"
	typeBlob       = "blob"
	typeJSON       = "json"
)

// argument is a parameter's value as SQLite stores it.
type argument struct {
	class   int32 // storage class
	integer int64
	real    float64
	text    string // TEXT or BLOB
}

// checkValue reports what is wrong with a value; it never shows it.
func checkValue(v dialect.Value) string {
	_, wrong := convert(v)
	return wrong
}

// convert reads a value; wrong reports why it cannot be one of SQLite's.
func convert(v dialect.Value) (arg argument, wrong string) {
	if v.Kind == dialect.Null && knownType(v.Type) {
		return argument{class: sqlite3.SQLITE_NULL}, ""
	}
	switch v.Type {
	case "":
		return convertUntyped(v)
	case typeInteger:
		return convertInteger(v)
	case typeReal:
		return convertReal(v)
	case typeText:
		if v.Kind != dialect.String {
			return arg, "type text takes a string"
		}
		return argument{class: sqlite3.SQLITE_TEXT, text: v.Text}, ""
	case typeTextBase64:
		return convertBase64(v, sqlite3.SQLITE_TEXT)
	case typeBlob:
		return convertBase64(v, sqlite3.SQLITE_BLOB)
	case typeJSON:
		if !json.Valid([]byte(v.Text)) {
			return arg, engine.NotJSON
		}
		return argument{class: sqlite3.SQLITE_TEXT, text: v.Text}, ""
	default:
		return arg, "unknown type: known are integer, real, text, blob, text_base64 and json"
	}
}

// knownType reports whether a type, also of a NULL, is one that parameters have; empty: it is inferred.
func knownType(name string) bool {
	switch name {
	case "", typeInteger, typeReal, typeText, typeTextBase64, typeBlob, typeJSON:
		return true
	}
	return false
}

func convertUntyped(v dialect.Value) (arg argument, wrong string) {
	switch v.Kind {
	case dialect.Bool:
		arg = argument{class: sqlite3.SQLITE_INTEGER}
		if v.Text == "true" {
			arg.integer = 1
		}
		return arg, ""
	case dialect.String:
		return argument{class: sqlite3.SQLITE_TEXT, text: v.Text}, ""
	case dialect.Number:
		if strings.ContainsAny(v.Text, ".eE") {
			return convertReal(v)
		}
		return convertInteger(v)
	default:
		return arg, `an array or object needs a type: {"type": "json", "value": …}`
	}
}

func convertInteger(v dialect.Value) (arg argument, wrong string) {
	if v.Kind != dialect.Number && v.Kind != dialect.String {
		return arg, "type integer takes a number, or a string of digits"
	}
	text := v.Text
	if v.Kind == dialect.Number {
		text = engine.WholeNumber(text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return arg, "not an integer of 64 bits: send text, or a number with a fraction to have it rounded"
	}
	return argument{class: sqlite3.SQLITE_INTEGER, integer: n}, ""
}

func convertReal(v dialect.Value) (arg argument, wrong string) {
	const takes = `type real takes a number, or "Infinity" or "-Infinity"`
	switch {
	case v.Kind == dialect.String && v.Text == "Infinity":
		return argument{class: sqlite3.SQLITE_FLOAT, real: math.Inf(1)}, ""
	case v.Kind == dialect.String && v.Text == "-Infinity":
		return argument{class: sqlite3.SQLITE_FLOAT, real: math.Inf(-1)}, ""
	case v.Kind != dialect.Number && (v.Kind != dialect.String || !json.Valid([]byte(v.Text))):
		return arg, takes
	}
	f, err := strconv.ParseFloat(v.Text, 64)
	if err != nil {
		return arg, "beyond what a 64-bit floating point number can hold"
	}
	return argument{class: sqlite3.SQLITE_FLOAT, real: f}, ""
}

func convertBase64(v dialect.Value, class int32) (arg argument, wrong string) {
	if v.Kind != dialect.String {
		return arg, "takes a string in standard base64 with padding"
	}
	raw, err := base64.StdEncoding.DecodeString(v.Text)
	if err != nil {
		return arg, engine.NotBase64
	}
	return argument{class: class, text: string(raw)}, ""
}

// bind gives a statement its arguments. Every placeholder must have one: SQLite would read NULL.
func bind(s *stmt, args []dialect.Value) error {
	if s.params != len(args) {
		return db.Errorf(db.ClassPermanent, contract.CodeParameter,
			"the statement has %d parameters, %d values are given", s.params, len(args))
	}
	for i := range args {
		arg, wrong := convert(args[i])
		if wrong != "" {
			return db.Errorf(db.ClassPermanent, contract.CodeParameter, "parameter %d: %s", i+1, wrong)
		}
		if err := bindOne(s, i+1, arg); err != nil {
			return err
		}
	}
	return nil
}

func bindOne(s *stmt, i int, arg argument) error {
	switch arg.class {
	case sqlite3.SQLITE_INTEGER:
		return s.bindInt(i, arg.integer)
	case sqlite3.SQLITE_FLOAT:
		return s.h.check(sqlite3.Xsqlite3_bind_double(s.h.tls, s.p, int32(i), arg.real))
	case sqlite3.SQLITE_TEXT:
		return s.bindText(i, arg.text)
	case sqlite3.SQLITE_BLOB:
		return s.bindBlob(i, []byte(arg.text))
	default:
		return s.bindNull(i)
	}
}
