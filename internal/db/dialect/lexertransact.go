package dialect

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// transact reads what T-SQL reads in its own way: numbers, white space and the letters of names. Its documents leave
// open which characters are white space and where a number ends, so what could be read in two ways is TokenUnclear, which
// the compiler refuses: 0xROLLBACK is a number and a keyword to the server. ok is false where T-SQL has no rule of its own.
// Sources: Transact-SQL constants; database identifiers (letters and decimal digits of Unicode).
func (l *Lexer) transact(i int) (kind TokenKind, end int, ok bool) {
	c := l.sql[i]
	switch {
	case isDigit(c) || c == '.' && isDigit(l.at(i+1)):
		end := l.transactNumber(i)
		if isNamePart(l.at(end)) || l.at(end) == '@' || l.at(end) == '#' {
			return TokenUnclear, end, true
		}
		return TokenNumber, end, true
	case isNameStart(c) && c < utf8.RuneSelf, l.startsLetter(i):
		return TokenWord, l.transactName(i), true
	case c >= utf8.RuneSelf:
		_, size := utf8.DecodeRuneInString(l.sql[i:])
		if i == 0 && strings.HasPrefix(l.sql, byteOrderMark) {
			return TokenSpace, size, true
		}
		return TokenUnclear, i + size, true
	case c < ' ' && !isSpace(c), c == '\\', c == 0x7f:
		return TokenUnclear, i + 1, true
	}
	return 0, 0, false
}

// transactNumber is the end of the number at i: 0x and hexadecimal digits, or digits with a point and an exponent, each of
// which may be empty.
func (l *Lexer) transactNumber(i int) int {
	if l.sql[i] == '0' && l.at(i+1)|0x20 == 'x' {
		for i += 2; isDigit(l.at(i)) || l.at(i)|0x20 >= 'a' && l.at(i)|0x20 <= 'f'; i++ {
		}
		return i
	}
	i = l.digitsEnd(i)
	if l.at(i) == '.' {
		i = l.digitsEnd(i + 1)
	}
	if l.at(i)|0x20 == 'e' {
		i++
		if l.at(i) == '+' || l.at(i) == '-' {
			i++
		}
		i = l.digitsEnd(i)
	}
	return i
}

// transactName is the end of the unquoted name at i.
func (l *Lexer) transactName(i int) int {
	for i < len(l.sql) {
		switch {
		case l.sql[i] < utf8.RuneSelf && isNamePart(l.sql[i]):
			i++
		case l.startsLetter(i):
			_, size := utf8.DecodeRuneInString(l.sql[i:])
			i += size
		default:
			return i
		}
	}
	return i
}

// startsLetter reports whether a letter, mark or digit outside of ASCII is at i that no collation takes for an ASCII one.
func (l *Lexer) startsLetter(i int) bool {
	if l.at(i) < utf8.RuneSelf {
		return false
	}
	r, _ := utf8.DecodeRuneInString(l.sql[i:])
	// Letters that change case into ASCII, and the full-width forms: some collation compares them as equal to an ASCII
	// letter, so that a word with one could be a keyword.
	likeASCII := r >= 0xff00 && r <= 0xffef || unicode.ToLower(r) < utf8.RuneSelf || unicode.ToUpper(r) < utf8.RuneSelf
	return !likeASCII && (unicode.IsLetter(r) || unicode.IsMark(r) || unicode.Is(unicode.Nd, r))
}

// explainUnclear is the message for a TokenUnclear. It does not repeat numbers, which may be data.
func explainUnclear(text string) string {
	if isDigit(text[0]) || text[0] == '.' {
		return "a number directly before a name: put a space between them"
	}
	r, _ := utf8.DecodeRuneInString(text)
	return fmt.Sprintf("the character U+%04X outside of quotes, which the server may not read as it is meant: write a space "+
		"instead, or put the name into [brackets]", r)
}
