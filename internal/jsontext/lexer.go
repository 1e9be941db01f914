package jsontext

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Kind is the kind of a token of JSON text, and of a node of a tape.
type Kind uint8

// The kinds.
const (
	Object Kind = iota + 1 // its opening brace
	Array                  // its opening bracket
	Close                  // the end of the innermost object or array
	Key
	String
	Number
	Bool
	Null
	End // of a text without an error
	Bad // Err reports why
)

// Token is one token; its offsets are, for strings and keys, those of the text between the quotes.
type Token struct {
	Kind       Kind
	escaped    bool // a string or key with backslashes in it
	start, end int
}

// Problem is what is wrong with a text.
type Problem uint8

// The problems.
const (
	Invalid       Problem = iota + 1 // not JSON
	TooManyValues                    // more values than the lexer's limit
	TooDeep                          // nested deeper than the lexer's limit
)

// SyntaxError is where and why reading a text stopped.
type SyntaxError struct {
	Offset  int // bytes
	Problem Problem
	Message string // repeats nothing of the text
}

// Error returns the message.
func (e *SyntaxError) Error() string { return e.Message }

// Decode returns the text of a string or key, or any other token as it is written. One that takes more than limit bytes in
// the source is cut there and not decoded.
func (t Token) Decode(src []byte, limit int) []byte {
	raw := src[t.start:t.end]
	if len(raw) > limit {
		return raw[:limit]
	}
	if t.escaped {
		return []byte(unescape(string(raw)))
	}
	return raw
}

// Lexer reads JSON text (RFC 8259, strictly) token by token, in memory that depends on the depth only. It rejects
// what JSON parsers disagree about: invalid UTF-8, a byte order mark, lone surrogates, NUL, trailing data. The zero value
// reads an empty text.
type Lexer struct {
	src       []byte
	pos       int
	state     lexerState
	values    int          // so far
	maxValues int          // 0 = no limit
	Depth     int          // containers open now
	maxDepth  int          // 0 = no limit
	Lenient   bool         // takes NUL, lone surrogates and invalid UTF-8: what a database may hold and a result pass on
	objects   []uint64     // a bit for each open container: set = an object
	Err       *SyntaxError // why the last token was Bad
}

type lexerState uint8

const (
	wantValue lexerState = iota
	wantFirstValue
	wantFirstKey
	wantKey
	afterValue
)

// plainByte marks the bytes of a string that need no further check: printable ASCII but quote and backslash.
var plainByte = func() (plain [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		plain[c] = c != '"' && c != '\\'
	}
	return plain
}()

// Reset starts a new text and keeps the memory.
func (l *Lexer) Reset(src []byte, maxDepth, maxValues int) {
	*l = Lexer{src: src, maxDepth: maxDepth, maxValues: maxValues, objects: l.objects[:0]}
}

// Next returns the next token; after Bad and End it returns the same again.
func (l *Lexer) Next() Token {
	if l.Err != nil {
		return Token{Kind: Bad}
	}
	c, ok := l.skipBlanks()
	if l.state == afterValue && ok && c == ',' && l.Depth > 0 {
		l.pos++
		l.state = wantValue
		if l.inObject() {
			l.state = wantKey
		}
		c, ok = l.skipBlanks()
	}
	if !ok {
		switch {
		case l.Depth == 0 && l.state == afterValue:
			return Token{Kind: End, start: l.pos, end: l.pos}
		case l.Depth == 0:
			return l.bad(l.pos, Invalid, "the body is empty: write one JSON object")
		default:
			return l.bad(l.pos, Invalid, "the JSON text is incomplete")
		}
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
		switch {
		case l.Depth == 0:
			return l.bad(l.pos, Invalid, "text follows the JSON object: write one object and nothing after it")
		case l.inObject() && c == '}', !l.inObject() && c == ']':
			return l.close()
		case l.inObject():
			return l.bad(l.pos, Invalid, "a comma or } is missing")
		default:
			return l.bad(l.pos, Invalid, "a comma or ] is missing")
		}
	default:
		return l.value(c)
	}
}

// skipBlanks moves to the next byte that is no blank; false at the end of the text.
func (l *Lexer) skipBlanks() (byte, bool) {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		if c > ' ' || c != ' ' && c != '\n' && c != '\r' && c != '\t' {
			return c, true
		}
		l.pos++
	}
	return 0, false
}

func (l *Lexer) key(c byte) Token {
	if c != '"' {
		return l.bad(l.pos, Invalid, "a key in double quotes is missing (no comma may follow the last member)")
	}
	t := l.text(Key)
	if t.Kind == Bad {
		return t
	}
	if c, ok := l.skipBlanks(); !ok || c != ':' {
		return l.bad(l.pos, Invalid, "a colon is missing after a key")
	}
	l.pos++
	l.state = wantValue
	return t
}

func (l *Lexer) value(c byte) Token {
	if l.values++; l.maxValues > 0 && l.values > l.maxValues {
		return l.bad(l.pos, TooManyValues, "the body has more values than a job may have")
	}
	l.state = afterValue
	switch c {
	case '{':
		return l.open(Object, wantFirstKey)
	case '[':
		return l.open(Array, wantFirstValue)
	case '"':
		return l.text(String)
	case 't':
		return l.word("true", Bool)
	case 'f':
		return l.word("false", Bool)
	case 'n':
		return l.word("null", Null)
	}
	if c == '-' || c >= '0' && c <= '9' {
		t := Token{Kind: Number, start: l.pos}
		if l.src[l.pos] == '-' {
			l.pos++
		}
		leading := l.pos
		ok := l.digits()
		if ok && l.src[leading] == '0' && l.pos > leading+1 {
			return l.bad(t.start, Invalid, "a number has a leading zero")
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
			return l.bad(t.start, Invalid, "a number is incomplete")
		}
		t.end = l.pos
		return t
	}
	if l.pos == 0 && bytes.HasPrefix(l.src, []byte("\xEF\xBB\xBF")) {
		return l.bad(l.pos, Invalid, "the body starts with a byte order mark: write plain UTF-8")
	}
	return l.bad(l.pos, Invalid, "a JSON value is missing")
}

func (l *Lexer) open(kind Kind, inside lexerState) Token {
	if l.maxDepth > 0 && l.Depth == l.maxDepth {
		return l.bad(l.pos, TooDeep, "arrays and objects are nested too deeply")
	}
	word, bit := l.Depth/64, uint64(1)<<(l.Depth%64)
	if word == len(l.objects) {
		l.objects = append(l.objects, 0)
	}
	l.objects[word] &^= bit
	if kind == Object {
		l.objects[word] |= bit
	}
	l.Depth++
	l.state = inside
	l.pos++
	return Token{Kind: kind, start: l.pos - 1, end: l.pos}
}

func (l *Lexer) close() Token {
	l.Depth--
	l.state = afterValue
	l.pos++
	return Token{Kind: Close, start: l.pos - 1, end: l.pos}
}

func (l *Lexer) inObject() bool {
	at := l.Depth - 1
	return at >= 0 && l.objects[at/64]>>(at%64)&1 == 1
}

func (l *Lexer) word(word string, kind Kind) Token {
	end := l.pos + len(word)
	if end > len(l.src) || string(l.src[l.pos:end]) != word {
		return l.bad(l.pos, Invalid, "a JSON value is missing")
	}
	t := Token{Kind: kind, start: l.pos, end: end}
	l.pos = end
	return t
}

// text reads a string from its opening quote on.
func (l *Lexer) text(kind Kind) Token {
	t := Token{Kind: kind, start: l.pos + 1}
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
			if !ascii && !l.Lenient && !utf8.Valid(l.src[t.start:i]) {
				return l.bad(t.start, Invalid, "a string is not valid UTF-8")
			}
			t.end = i
			l.pos = i + 1
			return t
		case c == '\\':
			t.escaped = true
			if i = l.escape(i); i < 0 {
				return Token{Kind: Bad}
			}
		case c >= utf8.RuneSelf:
			ascii = false
			i++
		default:
			return l.bad(i, Invalid, "a control character inside a string: write it as an escape such as \\n")
		}
	}
	return l.bad(t.start, Invalid, "a string has no end")
}

// escape checks the escape at i and returns the offset behind it, or -1 after an error.
func (l *Lexer) escape(i int) int {
	if i+1 == len(l.src) {
		l.bad(i, Invalid, "a string has no end")
		return -1
	}
	switch l.src[i+1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	}
	r := hexRune(l.src[i:])
	switch {
	case r < 0:
		l.bad(i, Invalid, "an unknown escape inside a string")
		return -1
	case l.Lenient:
		return i + 6
	case r == 0:
		l.bad(i, Invalid, "\\u0000 inside a string: no database text holds it")
		return -1
	case !utf16.IsSurrogate(r):
		return i + 6
	}
	if low := hexRune(l.src[i+6:]); low < 0 || utf16.DecodeRune(r, low) == utf8.RuneError {
		l.bad(i, Invalid, "half a surrogate pair inside a string is no character")
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

// digits moves behind the digits at pos; false if there are none.
func (l *Lexer) digits() bool {
	start := l.pos
	for l.pos < len(l.src) && l.src[l.pos] >= '0' && l.src[l.pos] <= '9' {
		l.pos++
	}
	return l.pos > start
}

func (l *Lexer) peek() byte {
	if l.pos < len(l.src) {
		return l.src[l.pos]
	}
	return 0
}

func (l *Lexer) bad(offset int, p Problem, message string) Token {
	l.Err = &SyntaxError{Offset: offset, Problem: p, Message: message}
	return Token{Kind: Bad}
}
