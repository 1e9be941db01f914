package dialect

import "strings"

// TokenKind is the kind of a token of SQL text.
type TokenKind uint8

// The kinds of tokens.
const (
	TokenSpace      TokenKind = iota + 1 // white space, also a byte order mark
	TokenComment                         // -- … or /* … */
	TokenWord                            // a keyword or an unquoted name
	TokenNumber                          // a run of digits
	TokenString                          // '…', also the part of E'…' behind the E, with its continuations
	TokenName                            // "…", […] or `…`
	TokenDollar                          // $tag$ … $tag$
	TokenNamed                           // :name
	TokenPositional                      // $1, also ?1 where ? is a parameter
	TokenQuestion                        // ? where it is a parameter
	TokenCast                            // ::
	TokenSemicolon                       // ;
	TokenOther                           // any other byte
	TokenUnclear                         // what the server may read in more than one way; see Dialect.Transact
)

// Token is a piece of SQL text: its kind and where it starts and ends, as byte offsets.
type Token struct {
	Kind       TokenKind
	Start, End int
}

// Lexer cuts SQL text into tokens that cover it without a gap. It never fails: a string, a name or a comment
// that is not closed reaches to the end of the text, and what is wrong is left for the database to refuse.
//
// Where a rule differs between engines and versions, the lexer takes the reading in which no version sees
// code where the lexer sees none.
type Lexer struct {
	d   *Dialect
	sql string
	pos int
}

// NewLexer returns a lexer at the beginning of sql.
func NewLexer(d *Dialect, sql string) Lexer { return Lexer{d: d, sql: sql} }

// Next returns the next token; false at the end of the text.
func (l *Lexer) Next() (Token, bool) {
	if l.pos >= len(l.sql) {
		return Token{}, false
	}
	start := l.pos
	kind, end := l.scan(start)
	l.pos = end
	return Token{Kind: kind, Start: start, End: end}, true
}

// at returns the byte at an offset, NUL outside the text.
func (l *Lexer) at(i int) byte {
	if i < 0 || i >= len(l.sql) {
		return 0
	}
	return l.sql[i]
}

func (l *Lexer) scan(i int) (TokenKind, int) {
	c := l.sql[i]
	if l.d.Transact {
		if kind, end, ok := l.transact(i); ok {
			return kind, end
		}
	}
	switch {
	case isSpace(c):
		return TokenSpace, l.spaceEnd(i)
	case !l.d.MarkInNames && strings.HasPrefix(l.sql[i:], byteOrderMark):
		return TokenSpace, i + len(byteOrderMark)
	case isNameStart(c):
		// A name; an e directly before a quote starts a string with backslashes.
		if l.d.EscapeStrings && l.sql[i]|0x20 == 'e' && l.at(i+1) == '\'' {
			return TokenString, l.escapeEnd(i + 1)
		}
		return TokenWord, l.nameEnd(i)
	case isDigit(c):
		return TokenNumber, l.digitsEnd(i)
	case c == '-' && l.at(i+1) == '-':
		return TokenComment, l.lineEnd(i)
	case c == '/' && l.at(i+1) == '*':
		return TokenComment, l.blockEnd(i)
	}
	switch l.sql[i] {
	case '\'':
		return TokenString, l.quoteEnd(i, '\'')
	case '"':
		return TokenName, l.quoteEnd(i, '"')
	case '`':
		if l.d.Backticks {
			return TokenName, l.quoteEnd(i, '`')
		}
	case '[':
		if l.d.Brackets {
			return TokenName, l.quoteEnd(i, ']')
		}
	case '$':
		return l.dollar(i)
	case ':':
		if l.at(i+1) == ':' {
			return TokenCast, i + 2
		}
		// After a name, a digit, a bracket or a quote it is the bound of a slice, a[lo:hi] or a[f(1):g(2)]; after another colon
		// nothing we know; after a dollar its placeholder could begin a dollar quote.
		if before := l.at(i - 1); isNameStart(l.at(i+1)) && strings.IndexByte(":)]\"'", before) < 0 && !isNamePart(before) {
			return TokenNamed, l.nameEnd(i + 1)
		}
		return TokenOther, i + 1
	case '?':
		return l.question(i)
	case ';':
		return TokenSemicolon, i + 1
	}
	return TokenOther, i + 1
}

// byteOrderMark is white space to SQLite, wherever a token can begin. PostgreSQL takes it for a letter.
const byteOrderMark = "\ufeff"

func (l *Lexer) dollar(i int) (TokenKind, int) {
	if isDigit(l.at(i + 1)) {
		return TokenPositional, l.digitsEnd(i + 1)
	}
	if !l.d.DollarQuotes {
		return TokenOther, i + 1
	}
	tag := i + 1
	for isNamePart(l.at(tag)) && l.at(tag) != '$' {
		tag++
	}
	if l.at(tag) != '$' {
		return TokenOther, i + 1
	}
	delimiter := l.sql[i : tag+1]
	if n := strings.Index(l.sql[tag+1:], delimiter); n >= 0 {
		return TokenDollar, tag + 1 + n + len(delimiter)
	}
	return TokenDollar, len(l.sql)
}

func (l *Lexer) question(i int) (TokenKind, int) {
	switch {
	case !l.d.QuestionMarks:
		return TokenOther, i + 1
	case isDigit(l.at(i + 1)):
		return TokenPositional, l.digitsEnd(i + 1)
	default:
		return TokenQuestion, i + 1
	}
}

func (l *Lexer) spaceEnd(i int) int {
	for i < len(l.sql) && isSpace(l.sql[i]) {
		i++
	}
	return i
}

func (l *Lexer) nameEnd(i int) int {
	for i < len(l.sql) && isNamePart(l.sql[i]) {
		i++
	}
	return i
}

func (l *Lexer) digitsEnd(i int) int {
	for i < len(l.sql) && isDigit(l.sql[i]) {
		i++
	}
	return i
}

// lineEnd is where a -- comment ends: before the line feed, or the carriage return where that ends a line. Where it
// does not, or the documents of the server do not agree (SQL Server), a comment with a carriage return inside is refused.
func (l *Lexer) lineEnd(i int) int {
	ends := "\n"
	if l.d.ReturnEndsLine {
		ends = "\r\n"
	}
	if n := strings.IndexAny(l.sql[i:], ends); n >= 0 {
		return i + n
	}
	return len(l.sql)
}

// unclosed names a token that lacks its end, "" if it has one or needs none. A token that only reaches to the end of the
// text has one if it is read to the same end with more text behind it.
func (l *Lexer) unclosed(t Token) string {
	if t.End < len(l.sql) {
		return ""
	}
	what := ""
	switch t.Kind {
	case TokenComment:
		if l.sql[t.Start] == '-' {
			return ""
		}
		what = "a comment"
	case TokenString:
		what = "a string"
	case TokenName:
		what = "a quoted name"
	case TokenDollar:
		what = "a dollar quote"
	default:
		return ""
	}
	longer := Lexer{d: l.d, sql: l.sql + " ;"}
	if _, end := longer.scan(t.Start); end == t.End {
		return ""
	}
	return what
}

// carriageInside reports whether a -- comment holds a carriage return that does not belong to its line's end.
func carriageInside(comment string) bool {
	return strings.IndexByte(strings.TrimSuffix(comment, "\r"), '\r') >= 0
}

func (l *Lexer) blockEnd(i int) int {
	depth := 0
	for i < len(l.sql) {
		switch {
		case l.sql[i] == '/' && l.at(i+1) == '*' && (depth == 0 || l.d.NestedComments):
			depth++
			i += 2
		case l.sql[i] == '*' && l.at(i+1) == '/':
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return i
}

// quoteEnd is the end of a quoted text that starts at i; the closing quote stands for itself when doubled.
func (l *Lexer) quoteEnd(i int, quote byte) int {
	for i++; i < len(l.sql); i++ {
		if l.sql[i] != quote {
			continue
		}
		if l.at(i+1) != quote {
			return i + 1
		}
		i++
	}
	return len(l.sql)
}

// escapeEnd is the end of the string with backslashes whose opening quote is at i. Such a string goes on
// behind white space with a line break, in the same way of reading: E'a'⏎'b\'c' is one.
func (l *Lexer) escapeEnd(i int) int {
	for i++; i < len(l.sql); i++ {
		switch l.sql[i] {
		case '\\':
			i++
		case '\'':
			if l.at(i+1) == '\'' {
				i++
				continue
			}
			next := l.continuation(i + 1)
			if next < 0 {
				return i + 1
			}
			i = next
		}
	}
	return len(l.sql)
}

// continuation finds the quote that continues a string which was closed before i: behind white space and --
// comments that hold a line break between them. -1 if there is none.
func (l *Lexer) continuation(i int) int {
	broken := false
	for i < len(l.sql) {
		switch c := l.sql[i]; {
		case isSpace(c):
			broken = broken || c == '\n' || c == '\r'
			i++
		case c == '-' && l.at(i+1) == '-':
			end := l.lineEnd(i)
			if carriageInside(l.sql[i:end]) {
				return -1 // where the comment ends is open; as a token of its own the compiler refuses it
			}
			i = end
		case c == '\'' && broken:
			return i
		default:
			return -1
		}
	}
	return -1
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80 }

func isNamePart(c byte) bool { return isNameStart(c) || isDigit(c) || c == '$' }
