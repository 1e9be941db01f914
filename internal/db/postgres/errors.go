package postgres

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// errOutOfOrder ends the reading of an answer that is not wanted to its end, or that does not follow the
// protocol as it is used here.
var errOutOfOrder = errors.New("postgres: the answer was not read completely")

// errEnded ends the reading of a session that the server ended with a FATAL error: nothing follows it.
var errEnded = fmt.Errorf("postgres: the server ended the session: %w", io.EOF)

// driverError is engine.DriverError with the driver's own errors of a connection that was closed before.
func driverError(err error) *db.Error {
	if pgconn.SafeToRetry(err) || errors.Is(err, pgconn.ErrConnClosed) {
		err = errors.Join(driver.ErrBadConn, err)
	}
	return engine.DriverError(err)
}

// verdict is what an error code means.
type verdict struct {
	class db.Class
	code  contract.Code
}

// byCode are the codes that differ from their class.
var byCode = map[string]verdict{
	"08P01": {db.ClassPermanent, contract.CodeParameter}, // as an error that does not end the link: arguments of a wrong number
	"22023": {db.ClassPermanent, contract.CodeData},
	"23001": {db.ClassPermanent, contract.CodeForeignKey},
	"23502": {db.ClassPermanent, contract.CodeNotNull},
	"23503": {db.ClassPermanent, contract.CodeForeignKey},
	"23505": {db.ClassPermanent, contract.CodeUnique},
	"23514": {db.ClassPermanent, contract.CodeCheck},
	"25001": {db.ClassPermanent, contract.CodeForbiddenStatement}, // cannot run inside a transaction
	"25006": {db.ClassPermanent, contract.CodeReadOnly},
	"25P02": {db.ClassPermanent, contract.CodeTransactionAborted},
	"25P03": {db.ClassLost, contract.CodeTimeout},
	"25P04": {db.ClassTimeout, contract.CodeTimeout},
	"40001": {db.ClassTransient, contract.CodeSerialization},
	"40002": {db.ClassPermanent, contract.CodeConstraint},
	"08007": {db.ClassPermanent, contract.CodeDatabase}, // of a transaction elsewhere, as is 40003: this one is rolled back
	"40003": {db.ClassPermanent, contract.CodeDatabase},
	"40P01": {db.ClassTransient, contract.CodeDeadlock},
	"42501": {db.ClassPermanent, contract.CodePermission},
	"42601": {db.ClassPermanent, contract.CodeSyntax},
	"42703": {db.ClassPermanent, contract.CodeUndefined},
	"42704": {db.ClassPermanent, contract.CodeUndefined},
	"42883": {db.ClassPermanent, contract.CodeUndefined},
	"42P01": {db.ClassPermanent, contract.CodeUndefined},
	"42P02": {db.ClassPermanent, contract.CodeParameter},
	"42P08": {db.ClassPermanent, contract.CodeParameter},
	"42P18": {db.ClassPermanent, contract.CodeParameter},
	"42846": {db.ClassPermanent, contract.CodeData},
	"53300": {db.ClassUnavailable, contract.CodeUnavailable},
	"53400": {db.ClassPermanent, contract.CodeResources},
	"55P03": {db.ClassTransient, contract.CodeLockTimeout},
	"57014": {db.ClassTimeout, contract.CodeTimeout},
	"57P03": {db.ClassUnavailable, contract.CodeUnavailable},
	"57P04": {db.ClassUnavailable, contract.CodeUnavailable},
	"P0001": {db.ClassPermanent, contract.CodeDatabase},
	"P0002": {db.ClassPermanent, contract.CodeData},
	"P0003": {db.ClassPermanent, contract.CodeData},
}

// byClass are the classes of codes: their first two characters.
var byClass = map[string]verdict{
	"03": {db.ClassPermanent, contract.CodeDatabase},
	"08": {db.ClassLost, contract.CodeConnectionLost},
	"09": {db.ClassPermanent, contract.CodeDatabase},
	"0A": {db.ClassPermanent, contract.CodeNotSupported},
	"0B": {db.ClassPermanent, contract.CodeTransactionControl},
	"0F": {db.ClassPermanent, contract.CodeDatabase},
	"0L": {db.ClassPermanent, contract.CodePermission},
	"0P": {db.ClassPermanent, contract.CodePermission},
	"0Z": {db.ClassPermanent, contract.CodeDatabase},
	"20": {db.ClassPermanent, contract.CodeData},
	"21": {db.ClassPermanent, contract.CodeData},
	"22": {db.ClassPermanent, contract.CodeData},
	"23": {db.ClassPermanent, contract.CodeConstraint},
	"24": {db.ClassPermanent, contract.CodeDatabase},
	"25": {db.ClassPermanent, contract.CodeTransactionControl},
	"26": {db.ClassPermanent, contract.CodeUndefined},
	"27": {db.ClassPermanent, contract.CodeDatabase},
	"28": {db.ClassPermanent, contract.CodePermission},
	"2B": {db.ClassPermanent, contract.CodeConstraint},
	"2D": {db.ClassPermanent, contract.CodeTransactionControl},
	"2F": {db.ClassPermanent, contract.CodeDatabase},
	"34": {db.ClassPermanent, contract.CodeUndefined},
	"38": {db.ClassPermanent, contract.CodeDatabase},
	"39": {db.ClassPermanent, contract.CodeDatabase},
	"3B": {db.ClassPermanent, contract.CodeTransactionControl},
	"3D": {db.ClassPermanent, contract.CodeUndefined},
	"3F": {db.ClassPermanent, contract.CodeUndefined},
	"40": {db.ClassTransient, contract.CodeSerialization},
	"42": {db.ClassPermanent, contract.CodeSyntax},
	"44": {db.ClassPermanent, contract.CodeCheck},
	"53": {db.ClassTransient, contract.CodeResources},
	"54": {db.ClassPermanent, contract.CodeResources},
	"55": {db.ClassPermanent, contract.CodeDatabase},
	"57": {db.ClassLost, contract.CodeConnectionLost},
	"58": {db.ClassTransient, contract.CodeResources},
	"72": {db.ClassTransient, contract.CodeSerialization},
	"F0": {db.ClassPermanent, contract.CodeDatabase},
	"HV": {db.ClassPermanent, contract.CodeDatabase},
	"P0": {db.ClassPermanent, contract.CodeDatabase},
	"XX": {db.ClassPermanent, contract.CodeDatabase},
}

// judge returns what an error of the server means before COMMIT was sent. Whether the session is lost, its severity
// decides and not its code: a function can raise any code, and a foreign server's codes are passed on.
func judge(e *pgconn.PgError) verdict {
	v := ofCode(e.Code)
	switch {
	case fatal(e) && (v.class == db.ClassPermanent || v.class == db.ClassTransient):
		v.class = db.ClassLost
	case relayed(e) && v.code == contract.CodeUnavailable && e.Code[:2] == "53":
		return verdict{db.ClassTransient, contract.CodeResources}
	case relayed(e):
		return verdict{db.ClassTransient, contract.CodeDatabase}
	}
	return v
}

// ofCode returns what a code means as an error that ends the session, if it is one of those.
func ofCode(code string) verdict {
	if v, ok := byCode[code]; ok {
		return v
	}
	if len(code) == 5 {
		if v, ok := byClass[code[:2]]; ok {
			return v
		}
	}
	return verdict{db.ClassPermanent, contract.CodeDatabase}
}

// relayed reports an error whose code is that of a lost session although this session goes on: a function raised it, or
// a foreign server is gone.
func relayed(e *pgconn.PgError) bool {
	class := ofCode(e.Code).class
	return !fatal(e) && (class == db.ClassLost || class == db.ClassUnavailable)
}

// fatal reports whether the server ended the session with this error.
func fatal(e *pgconn.PgError) bool {
	return e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC"
}

// raised reports an error that RAISE made, whatever code it was given.
func raised(e *pgconn.PgError) bool { return e.Code == "P0001" || e.Routine == "exec_stmt_raise" }

// serverError turns an error of the server into one that can be shown. sql is the text that it is about.
func (d *Database) serverError(e *pgconn.PgError, sql string, at int) *db.Error {
	return d.shown(e, describe(e, sql), at)
}

func (d *Database) shown(e *pgconn.PgError, message string, at int) *db.Error {
	v := judge(e)
	if raised(e) && d.settings.showMessages {
		message = e.Message
	}
	return &db.Error{Class: v.class, Code: v.code, Message: message, EngineCode: e.Code, Statement: at, Err: e}
}

// portalParameter finds the parameter that could not be read in what the server says of an error's surroundings. Behind the
// number may stand its value, which must not be shown.
var portalParameter = regexp.MustCompile(`(?m)^[^$"=]*(?:"[^"]*"[^$"=]*)?\$([0-9]+)`)

// parameterAt names the parameter at which binding failed, and the type that its value does not fit.
func (s *session) parameterAt(e *pgconn.PgError, of *sent) string {
	m := portalParameter.FindStringSubmatch(e.Where)
	if m == nil {
		return ""
	}
	n, err := strconv.Atoi(m[1])
	if err != nil || n < 1 || n > len(of.args) {
		return ""
	}
	text := ", parameter " + of.origin.Param(n)
	v := &of.args[n-1]
	if name := s.typeOfParameter(v, of, n); name != "" {
		text += " is not a value of type " + name
	}
	if v.Type == "" && v.Kind == dialect.Number && engine.WholeNumber(v.Text) != v.Text && n <= len(of.params) && isWhole(of.params[n-1]) {
		text += "; write the number without its fraction, or give it a type"
	}
	return text
}

func (s *session) typeOfParameter(v *dialect.Value, of *sent, n int) string {
	if v.Type != "" {
		return v.Type
	}
	if n > len(of.params) {
		return ""
	}
	oid := of.params[n-1]
	if name := builtinName(oid); name != "" {
		return name
	}
	return s.typeNames[oid]
}

// describe writes what may be shown of an error: never the server's text.
func describe(e *pgconn.PgError, sql string) string {
	return explain(e, placed(sql, int(e.Position)), "")
}

// placed reports where in a text something is.
func placed(sql string, character int) string {
	if character < 1 {
		return ""
	}
	if near := wordAt(sql, int32(character)); near != "" {
		return fmt.Sprintf(" at or near %q (character %d of the statement)", near, character)
	}
	return fmt.Sprintf(" at character %d of the statement", character)
}

func explain(e *pgconn.PgError, place, parameter string) string {
	var b strings.Builder
	b.WriteString(condition(e.Code) + place + parameter)
	names(&b, e)
	switch remedy := remedies[e.Code]; {
	case raised(e):
		b.WriteString(": " + remedies["P0001"])
	case relayed(e):
		b.WriteString(": raised by a function, or by another server that the statement uses")
	case remedy != "":
		b.WriteString(": " + remedy)
	}
	return b.String()
}

func condition(code string) string {
	if name := conditions[code]; name != "" {
		return strings.ReplaceAll(name, "_", " ")
	}
	return "error " + code
}

// names adds what the server names in fields of their own.
func names(b *strings.Builder, e *pgconn.PgError) {
	for _, n := range [...]struct{ what, name string }{
		{"constraint", e.ConstraintName},
		{"table", qualified(e.SchemaName, e.TableName)},
		{"column", e.ColumnName},
		{"type", e.DataTypeName},
	} {
		if n.name != "" {
			fmt.Fprintf(b, ", %s %q", n.what, n.name)
		}
	}
	if e.Code == "42501" {
		if m := deniedObject.FindStringSubmatch(e.Message); m != nil {
			fmt.Fprintf(b, ", %s %s", m[1], m[2])
		}
	}
}

// deniedObject reads what a permission is missing for. Only plain names match, and only in English.
var deniedObject = regexp.MustCompile(`^permission denied for ([a-z ]+) ([A-Za-z_][A-Za-z0-9_$]*)$`)

func qualified(schema, table string) string {
	if schema == "" || table == "" {
		return table
	}
	return schema + "." + table
}

// remedies are for errors whose condition alone does not suggest what to do.
var remedies = map[string]string{
	"25001": "this statement cannot run inside a transaction",
	"25006": "only reads are allowed here",
	"25P03": "the transaction waited longer for the runner than idle_in_transaction_session_timeout allows",
	"42601": "check the statement's syntax",
	"42883": "check the name and the types of its arguments",
	"42P08": "give the parameter a type",
	"42P18": "give the parameter a type, such as {\"type\": \"integer\", \"value\": 1}",
	"55P03": engine.LockNotFree,
	"57014": "the server cancelled the statement: its time limit, or an administrator",
	"08P01": "the number of parameters does not match the statement",
	"P0001": "a function or trigger of the database refused it; its text is not shown, as it may quote values",
}

const maxWord = 63

// wordAt is the word of the statement that the server points at, if it is a plain name, keyword or operator:
// never a literal, which may be a value.
func wordAt(sql string, position int32) string {
	if position < 1 {
		return ""
	}
	runes := int32(0)
	for i := range sql {
		if runes++; runes == position {
			return plainWord(sql[i:])
		}
	}
	return ""
}

func plainWord(s string) string {
	n := 0
	if len(s) > 1 && s[0] == ':' && nameByte(s[1], false) { // a parameter, as its publisher writes it
		n = 1
	}
	for n < len(s) && n < maxWord && nameByte(s[n], n > 0 && s[0] != ':' || n > 1) {
		n++
	}
	if n > 0 {
		if n < len(s) && (s[n] == '\'' || s[n] == '&' && n == 1) { // E'…', U&'…'
			return ""
		}
		return s[:n]
	}
	for n < len(s) && n < 4 && strings.IndexByte("+-*/<>=~!@#%^&|`?(),;:.[]", s[n]) >= 0 {
		n++
	}
	return s[:n]
}

func nameByte(c byte, inside bool) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || inside && (c >= '0' && c <= '9' || c == '$' || c == '.')
}

// uncleaned reports a session that could not be used because the clean-up behind the job before had failed.
func uncleaned(err error) bool {
	_, pg := errors.AsType[*pgconn.PgError](err)
	_, end := errors.AsType[linkEnd](err)
	return pg || end
}

// unconfirmedCommit is the end of a transaction that is committed, while no synchronous standby may have it.
func unconfirmedCommit() *db.Error {
	e := engine.UnknownCommit(nil)
	e.Message = "the wait for a synchronous standby to confirm the COMMIT was stopped; a failover may lose it"
	return e
}

func errTransactionEnded() *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeTransactionAborted, engine.TransactionEnded)
}

// unanswered reports an error that leaves the outcome of the request open: one that ended the
// session, or, when the link is gone, one that a pooler may have written in the server's place.
func unanswered(e *pgconn.PgError, gone bool) bool {
	return fatal(e) || gone && (e.Code == "40003" || len(e.Code) == 5 && e.Code[:2] == "08")
}
