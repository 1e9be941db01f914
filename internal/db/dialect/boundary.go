package dialect

// boundary distinguishes the semicolons that end a statement from those inside one: the bodies of CREATE TRIGGER …
// BEGIN …; END (SQLite) and CREATE FUNCTION … BEGIN ATOMIC …; END (PostgreSQL), and the parentheses of CREATE
// RULE … DO (…; …) (PostgreSQL). Where texts are batches (SQL Server), a routine's statement has to be the first of
// its text and reaches to its end.
//
// It must never take a semicolon that ends a statement for one inside: SQLite would run what follows. It is
// safe because a body ends at the first END behind a semicolon, where no statement can begin with END, and a
// semicolon elsewhere in such a statement is a syntax error to the database.
type boundary struct {
	started bool // a token of the statement was seen
	form    form
	head    bool // still in CREATE [OR REPLACE] [TEMP] …
	batches bool // the dialect's Batches
	body    bool
	depth   int    // of parentheses
	last    string // the last token: what keyword says of it, or ";"
}

// form is the form of a statement, as far as semicolons inside it go.
type form uint8

const (
	plainForm form = iota
	triggerForm
	routineForm
	ruleForm
	batchForm
)

// keyword returns the words that a boundary knows, with one word for those that it treats alike, and "" for
// any other; w is in upper case.
func keyword(w []byte) string {
	switch string(w) {
	case "CREATE":
		return "CREATE"
	case "ALTER":
		return "ALTER"
	case "OR", "REPLACE", "TEMP", "TEMPORARY", "CONSTRAINT":
		return "OR"
	case "TRIGGER":
		return "TRIGGER"
	case "FUNCTION", "PROCEDURE", "PROC":
		return "FUNCTION"
	case "RULE":
		return "RULE"
	case "BEGIN":
		return "BEGIN"
	case "ATOMIC":
		return "ATOMIC"
	case "END":
		return "END"
	}
	return ""
}

// word takes the next word, as keyword returned it.
func (b *boundary) word(w string) {
	first := !b.started
	b.started = true
	switch {
	case first:
		b.head = w == "CREATE" || w == "ALTER" && b.batches
	case b.head:
		b.headWord(w)
	case b.body && w == "END" && (b.last == ";" || b.last == "ATOMIC"):
		b.body, b.form = false, plainForm
	case b.form == triggerForm && w == "BEGIN", b.form == routineForm && b.last == "BEGIN" && w == "ATOMIC":
		b.body = true
	}
	b.last = w
}

func (b *boundary) headWord(w string) {
	switch w {
	case "OR":
		return
	case "ALTER": // CREATE OR ALTER
		if b.batches {
			return
		}
	case "TRIGGER":
		b.form = b.routine(triggerForm)
	case "FUNCTION":
		b.form = b.routine(routineForm)
	case "RULE":
		b.form = ruleForm
	}
	b.head = false
}

// routine is the form of a routine's statement: where texts are batches it has no end but the text's.
func (b *boundary) routine(elsewhere form) form {
	if b.batches {
		return batchForm
	}
	return elsewhere
}

// other takes any other token but space, comments and semicolons.
func (b *boundary) other(c byte) {
	b.started, b.head, b.last = true, false, ""
	switch {
	case c == '(':
		b.depth++
	case c == ')' && b.depth > 0:
		b.depth--
	}
}

// semicolon takes a semicolon and reports whether the statement goes on behind it.
func (b *boundary) semicolon() (inside bool) {
	if b.body || b.form == ruleForm && b.depth > 0 || b.form == batchForm {
		b.last = ";"
		return true
	}
	*b = boundary{batches: b.batches}
	return false
}
