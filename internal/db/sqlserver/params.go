package sqlserver

import (
	"database/sql"
	"database/sql/driver"
	"encoding/base64"
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// argument is a parameter as the server gets it: declared by its type for the statement, and sent as a value that the server converts to it.
type argument struct {
	declared string
	value    driver.Value
}

// checkValue reports what is wrong with a value; it never shows it.
func checkValue(v dialect.Value) string {
	_, wrong := convert(v)
	return wrong
}

const (
	nvarchar    = "nvarchar(4000)"
	nvarcharMax = "nvarchar(max)"
	// shortText is how many UTF-16 units fit nvarchar(4000): longer texts are declared nvarchar(max), and the server
	// keeps one plan for all of either.
	shortText = 4000
)

// convert reads a value; wrong reports why it cannot be one of SQL Server's.
func convert(v dialect.Value) (arg argument, wrong string) {
	if v.Type != "" {
		return convertTyped(v)
	}
	switch v.Kind {
	case dialect.Null:
		return argument{nvarchar, sql.NullString{}}, ""
	case dialect.Bool:
		return argument{"bit", v.Text == "true"}, ""
	case dialect.Number:
		return convertNumber(v.Text)
	case dialect.String:
		return textArgument(v.Text), ""
	default:
		return arg, `a list or an object needs a type: {"type": "json", "value": …}`
	}
}

// textArgument is a text of Unicode characters.
func textArgument(text string) argument {
	declared := nvarchar
	if len(text) > shortText { // bytes: at least as many as units
		declared = nvarcharMax
	}
	return argument{declared, mssql.NVarCharMax(text)}
}

// number reads a JSON number: its digits before the point, behind it, and whether it has an exponent.
var number = regexp.MustCompile(`^-?([0-9]+)(?:\.([0-9]+))?([eE][+-]?[0-9]+)?$`)

const maxPrecision = 38 // of decimal

// convertNumber keeps all digits of a number: bigint, decimal, or where it is written with an exponent float.
func convertNumber(text string) (arg argument, wrong string) {
	m := number.FindStringSubmatch(text)
	if m == nil {
		return arg, "not a number"
	}
	if m[3] != "" {
		return convertFloat(text, "float", 64)
	}
	if m[2] == "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return argument{"bigint", n}, ""
		}
	}
	if len(m[1])+len(m[2]) > maxPrecision {
		return arg, "more than 38 digits: send it as text"
	}
	return argument{"decimal(38," + strconv.Itoa(len(m[2])) + ")", mssql.NVarCharMax(text)}, ""
}

func convertFloat(text, declared string, bits int) (arg argument, wrong string) {
	f, err := strconv.ParseFloat(text, bits)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return arg, "beyond what type " + declared + " can hold"
	}
	if bits == 32 {
		return argument{declared, float32(f)}, ""
	}
	return argument{declared, f}, ""
}

// typeName is a type as a publisher may write it: a name, and its sizes.
var typeName = regexp.MustCompile(`^([a-z0-9_]+)(?:\(\s*([0-9]{1,4}|max)\s*(?:,\s*([0-9]{1,2})\s*)?\))?$`)

// family is how a type's values are read.
type family struct {
	read  func(v dialect.Value, declared string) (argument, string)
	null  driver.Value // a NULL that the server can convert to it
	sizes int          // how many it may have
	sized string       // what is declared where none is given
}

// families are the types that a parameter may name.
var families = map[string]family{
	"tinyint": {integer(0, math.MaxUint8), sql.NullInt64{}, 0, ""}, "smallint": {integer(math.MinInt16, math.MaxInt16), sql.NullInt64{}, 0, ""},
	"int": {integer(math.MinInt32, math.MaxInt32), sql.NullInt64{}, 0, ""}, "bigint": {integer(math.MinInt64, math.MaxInt64), sql.NullInt64{}, 0, ""},
	"bit":     {readBit, sql.NullInt64{}, 0, ""},
	"decimal": {readDecimal, sql.NullString{}, 2, ""}, "numeric": {readDecimal, sql.NullString{}, 2, ""},
	"money": {readDecimal, sql.NullString{}, 0, ""}, "smallmoney": {readDecimal, sql.NullString{}, 0, ""},
	"float": {readFloat, sql.NullFloat64{}, 1, ""}, "real": {readReal, sql.NullFloat64{}, 0, ""},
	"char": {readText, sql.NullString{}, 1, "(8000)"}, "varchar": {readText, sql.NullString{}, 1, "(max)"},
	"nchar": {readText, sql.NullString{}, 1, "(4000)"}, "nvarchar": {readText, sql.NullString{}, 1, "(max)"},
	"text": {readText, sql.NullString{}, 0, ""}, "ntext": {readText, sql.NullString{}, 0, ""},
	textBase64: {readTextBase64, sql.NullString{}, 0, ""},
	"xml":      {readText, sql.NullString{}, 0, ""}, "json": {readJSON, sql.NullString{}, 0, ""},
	"binary": {readBytes, nullBytes, 1, "(8000)"}, "varbinary": {readBytes, nullBytes, 1, "(max)"}, "image": {readBytes, nullBytes, 0, ""},
	"uniqueidentifier": {readGUID, sql.NullString{}, 0, ""},
	"date":             {readTime, sql.NullString{}, 0, ""}, "time": {readTime, sql.NullString{}, 1, ""},
	"datetime": {readTime, sql.NullString{}, 0, ""}, "smalldatetime": {readTime, sql.NullString{}, 0, ""},
	"datetime2": {readTime, sql.NullString{}, 1, ""}, "datetimeoffset": {readTime, sql.NullString{}, 1, ""},
}

// textBase64 is a text that no body of a job may hold as it is, with NUL in it: base64 of its UTF-8.
const textBase64 = "text_base64"

// nullBytes is what the driver sends as a binary NULL.
var nullBytes = []byte(nil)

const knownTypes = "unknown type: known are the server's own, such as int, decimal(12,2), nvarchar(50), varbinary (base64), " +
	"date, datetime2, datetimeoffset, uniqueidentifier, xml, and json"

func convertTyped(v dialect.Value) (arg argument, wrong string) {
	m := typeName.FindStringSubmatch(strings.ToLower(strings.TrimSpace(v.Type)))
	if m == nil {
		return arg, knownTypes
	}
	f, ok := families[m[1]]
	if !ok {
		return arg, knownTypes
	}
	declared, wrong := declare(m[1], m[2], m[3], f)
	if wrong != "" {
		return arg, wrong
	}
	if v.Kind == dialect.Null {
		return argument{declared, f.null}, ""
	}
	return f.read(v, declared)
}

// declare writes a type with its sizes.
func declare(name, first, second string, f family) (declared, wrong string) {
	switch {
	case name == "json", name == textBase64:
		return nvarcharMax, ""
	case first == "":
		return name + f.sized, ""
	case f.sizes == 0 || second != "" && f.sizes < 2 || first == "max" && f.sized == "":
		return "", "type " + name + " has no such size"
	case second != "":
		return name + "(" + first + "," + second + ")", ""
	}
	return name + "(" + first + ")", ""
}

func integer(least, most int64) func(dialect.Value, string) (argument, string) {
	return func(v dialect.Value, declared string) (arg argument, wrong string) {
		text := v.Text
		if v.Kind == dialect.Number {
			text = engine.WholeNumber(text)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v.Kind != dialect.Number && v.Kind != dialect.String || n < least || n > most {
			return arg, "type " + declared + " takes a whole number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10)
		}
		return argument{declared, n}, ""
	}
}

func readBit(v dialect.Value, declared string) (arg argument, wrong string) {
	switch v.Text {
	case "true", "1":
		return argument{declared, true}, ""
	case "false", "0":
		return argument{declared, false}, ""
	}
	return arg, "type bit takes true or false"
}

var decimalText = regexp.MustCompile(`^-?[0-9]{1,38}(\.[0-9]{1,38})?$`)

func readDecimal(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.Number && v.Kind != dialect.String || !decimalText.MatchString(v.Text) {
		return arg, "type " + declared + " takes digits with or without a point"
	}
	if declared == "decimal" || declared == "numeric" { // the server would round to a whole number
		_, fraction, _ := strings.Cut(v.Text, ".")
		declared += "(38," + strconv.Itoa(min(len(fraction), maxPrecision)) + ")"
	}
	return argument{declared, mssql.NVarCharMax(v.Text)}, ""
}

func readFloat(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.Number && (v.Kind != dialect.String || !number.MatchString(v.Text)) {
		return arg, "type float takes a number"
	}
	return convertFloat(v.Text, declared, 64)
}

func readReal(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.Number && (v.Kind != dialect.String || !number.MatchString(v.Text)) {
		return arg, "type real takes a number"
	}
	return convertFloat(v.Text, declared, 32)
}

func readText(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.String {
		return arg, "type " + declared + " takes a string"
	}
	return argument{declared, mssql.NVarCharMax(v.Text)}, ""
}

func readTextBase64(v dialect.Value, declared string) (arg argument, wrong string) {
	bytes, wrong := readBytes(v, textBase64)
	raw, ok := bytes.value.([]byte)
	if ok && !utf8.Valid(raw) {
		return arg, "not base64 of a text in UTF-8"
	}
	return argument{declared, mssql.NVarCharMax(raw)}, wrong
}

func readJSON(v dialect.Value, declared string) (arg argument, wrong string) {
	if !json.Valid([]byte(v.Text)) {
		return arg, engine.NotJSON
	}
	return argument{declared, mssql.NVarCharMax(v.Text)}, ""
}

func readBytes(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.String {
		return arg, "type " + declared + " takes a string in standard base64 with padding"
	}
	raw, err := base64.StdEncoding.DecodeString(v.Text)
	if err != nil {
		return arg, engine.NotBase64
	}
	return argument{declared, raw}, ""
}

var guidText = regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`)

func readGUID(v dialect.Value, declared string) (arg argument, wrong string) {
	if v.Kind != dialect.String || !guidText.MatchString(v.Text) {
		return arg, "type uniqueidentifier takes a string such as 6f9619ff-8b86-d011-b42d-00c04fc964ff"
	}
	return argument{declared, mssql.NVarCharMax(v.Text)}, ""
}

// timeText is a time in ISO 8601: a date, a time of day, or both, and a zone.
var timeText = regexp.MustCompile(`^(?:([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[T ]|$))?([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,7})?)?)?(Z|[+-][0-9]{2}:[0-9]{2})?$`)

// readTime writes a time in the one form that the server reads alike under every language of a login.
func readTime(v dialect.Value, declared string) (arg argument, wrong string) {
	m := timeText.FindStringSubmatch(v.Text)
	if v.Kind != dialect.String || m == nil || m[1] == "" && m[2] == "" {
		return arg, "type " + declared + " takes a string such as 2026-11-25T16:22:01.1234567"
	}
	text := m[1]
	if m[2] != "" {
		if text != "" {
			text += "T"
		}
		text += m[2]
		if len(m[2]) == len("15:04") {
			text += ":00"
		}
	} else if declared != "date" {
		text += "T00:00:00"
	}
	if m[3] != "" && !strings.HasPrefix(declared, "datetimeoffset") {
		return arg, "type " + declared + " has no zone"
	}
	return argument{declared, mssql.NVarCharMax(text + m[3])}, ""
}

// call is a statement as the server gets it. One without parameters is a batch of its own, so that a temporary table
// which it makes lives until the job is over; one with parameters runs in a scope of its own, its parameters declared
// by types that do not change with the values' length.
func call(stmt *dialect.Compiled) (request, error) {
	if len(stmt.Args) == 0 {
		return request{text: stmt.SQL}, nil
	}
	return nested(stmt, "", "")
}

// nested runs a statement between two texts of the engine's own, in one request.
func nested(stmt *dialect.Compiled, before, behind string) (request, error) {
	text := append(make([]byte, 0, 256), before...)
	text = append(text, "EXEC sp_executesql @dbr_text"...)
	args := append(make([]driver.NamedValue, 0, len(stmt.Args)+2), driver.NamedValue{
		Name: "dbr_text", Ordinal: 1, Value: mssql.NVarCharMax(stmt.SQL),
	})
	var declarations []byte
	for i := range stmt.Args {
		arg, wrong := convert(stmt.Args[i])
		if wrong != "" {
			return request{}, db.Errorf(db.ClassPermanent, contract.CodeParameter, "parameter %d: %s", i+1, wrong)
		}
		n := strconv.Itoa(i + 1)
		if i == 0 {
			text = append(text, ", @dbr_types"...)
		} else {
			declarations = append(declarations, ", "...)
		}
		text = append(text, ", @p"+n+" = @dbr_"+n...)
		declarations = append(declarations, "@p"+n+" "+arg.declared...)
		args = append(args, driver.NamedValue{Name: "dbr_" + n, Ordinal: i + 2, Value: arg.value})
	}
	if len(declarations) > 0 {
		args = append(args, driver.NamedValue{
			Name: "dbr_types", Ordinal: len(args) + 1, Value: mssql.NVarCharMax(declarations),
		})
	}
	return request{text: string(append(text, behind...)), args: args}, nil
}
