package jobs

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"dbrunner/internal/db"
)

// tokenKind is the kind of a token of JSON text, and of a node of a tape.
type tokenKind uint8

const (
	objectToken tokenKind = iota + 1 // its opening brace
	arrayToken                       // its opening bracket
	closeToken                       // the end of the innermost object or array
	keyToken
	stringToken
	numberToken
	boolToken
	nullToken
	endToken // of a text without a fault
	badToken // the lexer's fault says why
)

// token is one token; start and end are offsets, of strings and keys without their quotes.
type token struct {
	kind       tokenKind
	escaped    bool // a string or key with backslashes in it
	start, end int
}

// syntaxFault says where a text stops being JSON that is looked into.
type syntaxFault struct {
	offset  int
	code    db.Code
	message string
}

// lexer reads JSON text (RFC 8259, strictly) token by token, in memory that depends on the depth only. It refuses
// what readers of JSON disagree about: invalid UTF-8, a byte order mark, lone surrogates, NUL, trailing data.
type lexer struct {
	src       []byte
	pos       int
	state     lexerState
	values    int // so far
	maxValues int // 0 = no limit
	depth     int
	maxDepth  int      // 0 = no limit
	lenient   bool     // takes NUL, lone surrogates and invalid UTF-8: what a database may hold and a result pass on
	objects   []uint64 // a bit for each open container: set = an object
	fault     *syntaxFault
}

type lexerState uint8

const (
	wantValue lexerState = iota
	wantFirstValue
	wantFirstKey
	wantKey
	afterValue
)

// plainByte tells the bytes of a string that need no look: printable ASCII but quote and backslash.
var plainByte = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

// reset begins a new text and keeps the memory.
func (l *lexer) reset(src []byte, maxDepth, maxValues int) {
	*l = lexer{src: src, maxDepth: maxDepth, maxValues: maxValues, objects: l.objects[:0]}
}

// next returns the next token; after badToken and endToken it returns the same again.
func (l *lexer) next() token {
	if l.fault != nil {
		return token{kind: badToken}
	}
	c, ok := l.skipBlanks()
	if l.state == afterValue && ok && c == ',' && l.depth > 0 {
		l.pos++
		l.state = wantValue
		if l.inObject() {
			l.state = wantKey
		}
		c, ok = l.skipBlanks()
	}
	if !ok {
		return l.atEnd()
	}
	switch l.state {
	case wantFirstValue:
		if c == ']' {
			return l.close()
		}
		return l.value(c)
	case wantFirstKey:
		if c == '}' {
			return l.close()
		}
		return l.key(c)
	case wantKey:
		return l.key(c)
	case afterValue:
		return l.behind(c)
	default:
		return l.value(c)
	}
}

// skipBlanks moves to the next byte that is no blank; false at the end of the text.
func (l *lexer) skipBlanks() (byte, bool) {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, true
		}
		l.pos++
	}
	return 0, false
}

func (l *lexer) atEnd() token {
	switch {
	case l.depth == 0 && l.state == afterValue:
		return token{kind: endToken, start: l.pos, end: l.pos}
	case l.depth == 0:
		return l.bad(l.pos, CodeInvalidJSON, "the body is empty: write one JSON object")
	default:
		return l.bad(l.pos, CodeInvalidJSON, "the JSON text ends in the middle")
	}
}

// behind reads what follows a value.
func (l *lexer) behind(c byte) token {
	switch {
	case l.depth == 0:
		return l.bad(l.pos, CodeInvalidJSON, "text follows the JSON object: write one object and nothing behind it")
	case l.inObject() && c == '}', !l.inObject() && c == ']':
		return l.close()
	case l.inObject():
		return l.bad(l.pos, CodeInvalidJSON, "a comma or } is missing")
	default:
		return l.bad(l.pos, CodeInvalidJSON, "a comma or ] is missing")
	}
}

func (l *lexer) key(c byte) token {
	if c != '"' {
		return l.bad(l.pos, CodeInvalidJSON, "a key in double quotes is missing (no comma may follow the last member)")
	}
	t := l.text(keyToken)
	if t.kind == badToken {
		return t
	}
	if c, ok := l.skipBlanks(); !ok || c != ':' {
		return l.bad(l.pos, CodeInvalidJSON, "a colon is missing behind a key")
	}
	l.pos++
	l.state = wantValue
	return t
}

func (l *lexer) value(c byte) token {
	if l.values++; l.maxValues > 0 && l.values > l.maxValues {
		return l.bad(l.pos, CodeTooLarge, "the body has more values than a job may have")
	}
	l.state = afterValue
	switch c {
	case '{':
		return l.open(objectToken, wantFirstKey)
	case '[':
		return l.open(arrayToken, wantFirstValue)
	case '"':
		return l.text(stringToken)
	case 't':
		return l.word("true", boolToken)
	case 'f':
		return l.word("false", boolToken)
	case 'n':
		return l.word("null", nullToken)
	}
	if c == '-' || c >= '0' && c <= '9' {
		return l.number()
	}
	if l.pos == 0 && bytes.HasPrefix(l.src, []byte("\xEF\xBB\xBF")) {
		return l.bad(l.pos, CodeInvalidJSON, "the body begins with a byte order mark: write plain UTF-8")
	}
	return l.bad(l.pos, CodeInvalidJSON, "a JSON value is missing")
}

func (l *lexer) open(kind tokenKind, inside lexerState) token {
	if l.maxDepth > 0 && l.depth == l.maxDepth {
		return l.bad(l.pos, CodeTooDeep, "arrays and objects are nested too deeply")
	}
	word, bit := l.depth/64, uint64(1)<<(l.depth%64)
	if word == len(l.objects) {
		l.objects = append(l.objects, 0)
	}
	l.objects[word] &^= bit
	if kind == objectToken {
		l.objects[word] |= bit
	}
	l.depth++
	l.state = inside
	l.pos++
	return token{kind: kind, start: l.pos - 1, end: l.pos}
}

func (l *lexer) close() token {
	l.depth--
	l.state = afterValue
	l.pos++
	return token{kind: closeToken, start: l.pos - 1, end: l.pos}
}

func (l *lexer) inObject() bool {
	at := l.depth - 1
	return at >= 0 && l.objects[at/64]>>(at%64)&1 == 1
}

func (l *lexer) word(word string, kind tokenKind) token {
	end := l.pos + len(word)
	if end > len(l.src) || string(l.src[l.pos:end]) != word {
		return l.bad(l.pos, CodeInvalidJSON, "a JSON value is missing")
	}
	t := token{kind: kind, start: l.pos, end: end}
	l.pos = end
	return t
}

// text reads a string from its opening quote on.
func (l *lexer) text(kind tokenKind) token {
	t := token{kind: kind, start: l.pos + 1}
	ascii := true
	i := t.start
	for i < len(l.src) {
		c := l.src[i]
		if plainByte[c] {
			i++
			continue
		}
		switch {
		case c == '"':
			if !ascii && !l.lenient && !utf8.Valid(l.src[t.start:i]) {
				return l.bad(t.start, CodeInvalidJSON, "a string is not valid UTF-8")
			}
			t.end = i
			l.pos = i + 1
			return t
		case c == '\\':
			t.escaped = true
			if i = l.escape(i); i < 0 {
				return token{kind: badToken}
			}
		case c >= utf8.RuneSelf:
			ascii = false
			i++
		default:
			return l.bad(i, CodeInvalidJSON, "a control character inside a string: write it as an escape such as \\n")
		}
	}
	return l.bad(t.start, CodeInvalidJSON, "a string has no end")
}

// escape checks the escape at i and returns the offset behind it, or -1 after a fault.
func (l *lexer) escape(i int) int {
	if i+1 == len(l.src) {
		l.bad(i, CodeInvalidJSON, "a string has no end")
		return -1
	}
	switch l.src[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	}
	r := hexRune(l.src[i:])
	switch {
	case r < 0:
		l.bad(i, CodeInvalidJSON, "an unknown escape inside a string")
		return -1
	case l.lenient:
		return i + 6
	case r == 0:
		l.bad(i, CodeInvalidJSON, "\\u0000 inside a string: no database text holds it")
		return -1
	case !utf16.IsSurrogate(r):
		return i + 6
	}
	if low := hexRune(l.src[i+6:]); low < 0 || utf16.DecodeRune(r, low) == utf8.RuneError {
		l.bad(i, CodeInvalidJSON, "half a surrogate pair inside a string is no character")
		return -1
	}
	return i + 12
}

// hexRune reads \uXXXX at the beginning of b; -1 if there is none.
func hexRune[T []byte | string](b T) rune {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return -1
	}
	var r rune
	for i := 2; i < 6; i++ {
		c := b[i]
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func (l *lexer) number() token {
	t := token{kind: numberToken, start: l.pos}
	if l.src[l.pos] == '-' {
		l.pos++
	}
	leading := l.pos
	ok := l.digits()
	if ok && l.src[leading] == '0' && l.pos > leading+1 {
		return l.bad(t.start, CodeInvalidJSON, "a number has a leading zero")
	}
	if ok && l.peek() == '.' {
		l.pos++
		ok = l.digits()
	}
	if ok && (l.peek() == 'e' || l.peek() == 'E') {
		l.pos++
		if l.peek() == '+' || l.peek() == '-' {
			l.pos++
		}
		ok = l.digits()
	}
	if !ok {
		return l.bad(t.start, CodeInvalidJSON, "a number is incomplete")
	}
	t.end = l.pos
	return t
}

// digits moves behind the digits at pos; false if there are none.
func (l *lexer) digits() bool {
	start := l.pos
	for l.pos < len(l.src) && l.src[l.pos] >= '0' && l.src[l.pos] <= '9' {
		l.pos++
	}
	return l.pos > start
}

func (l *lexer) peek() byte {
	if l.pos < len(l.src) {
		return l.src[l.pos]
	}
	return 0
}

func (l *lexer) bad(offset int, code db.Code, message string) token {
	l.fault = &syntaxFault{offset: offset, code: code, message: message}
	return token{kind: badToken}
}
