package dbtest

import (
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"dbrunner/internal/db/dialect"
)

// Scripts makes random scripts out of what a splitter can get wrong: quotes, comments, line ends, dollar quotes, bodies
// and semicolons where they end a statement and where they do not.
type Scripts struct {
	Rand    *rand.Rand
	Dialect *dialect.Dialect
	Body    string // starts a statement with a body of statements, up to and with its BEGIN; END follows
}

// Next returns a script of SELECTs of a few bytes each; many are refused by the server.
func (s *Scripts) Next() string {
	var b strings.Builder
	for range 1 + s.Rand.IntN(4) {
		s.gap(&b)
		s.statement(&b)
		s.gap(&b)
		b.WriteString(s.pick(";", ";", ";", ";;", "; ;", ""))
	}
	s.gap(&b)
	return s.mutated(b.String())
}

func (s *Scripts) pick(list ...string) string { return list[s.Rand.IntN(len(list))] }

func (s *Scripts) statement(b *strings.Builder) {
	if s.Body != "" && s.Rand.IntN(16) == 0 {
		b.WriteString(s.Body)
		for range 1 + s.Rand.IntN(2) {
			s.gap(b)
			s.selected(b)
			b.WriteString(";")
		}
		s.gap(b)
		b.WriteString(" END")
		return
	}
	s.selected(b)
}

func (s *Scripts) selected(b *strings.Builder) {
	b.WriteString("SELECT")
	for i := range 1 + s.Rand.IntN(2) {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		s.gap(b)
		s.value(b)
		s.gap(b)
		if s.Rand.IntN(3) == 0 {
			b.WriteString(" AS ")
			s.name(b)
		}
	}
}

// inner is what stands inside of quotes and comments.
func (s *Scripts) inner() string {
	var b strings.Builder
	for range s.Rand.IntN(4) {
		b.WriteString(s.pick(s.alphabet()...))
	}
	return b.String()
}

// alphabet leaves the vertical tab out: white space to PostgreSQL 16 and not to 15, to SQLite only after other white space.
func (s *Scripts) alphabet() []string {
	return []string{
		"'", "''", `"`, `""`, "`", "[", "]", "]]", ";", "--", "-", "/*", "*/", "*", "/", "\n", "\r", "\r\n", "$$", "$a$", "$", "$b$", "\\", "\\'",
		"E'", "e", "x", "1", " ", "\t", "\f", "\u00a0", "\u2028", "\u0085", "\ufeff", "é", "(", ")", ":", ",", "END", "BEGIN", "SELECT 7", "_", "::",
		"U&'", "N'", "GO",
	}
}

func (s *Scripts) gap(b *strings.Builder) {
	for range s.Rand.IntN(3) {
		switch s.Rand.IntN(8) {
		case 0:
			b.WriteString("--" + s.inner() + s.pick("\n", "\n", "\r", "\r\n", ""))
		case 1:
			b.WriteString("/*" + s.inner() + s.pick("*/", "*/", "*/", ""))
		case 2:
			b.WriteString("/*" + s.inner() + "/*" + s.inner() + "*/" + s.inner() + "*/")
		default:
			b.WriteString(s.pick(" ", "\n", "\r", "\t", "\f"))
		}
	}
}

func (s *Scripts) value(b *strings.Builder) {
	double := func(text, quote string) string { return strings.ReplaceAll(text, quote, quote+quote) }
	switch s.Rand.IntN(8) {
	case 0, 1:
		b.WriteString("'" + double(s.inner(), "'") + "'")
	case 2:
		b.WriteString("'" + s.inner() + "'")
	case 3:
		if s.Dialect.EscapeStrings {
			b.WriteString(s.pick("E'", "e'", "E'") + s.inner() + "'" + s.pick("", "\n'"+s.inner()+"'", "\r'"+s.inner()+"'", " --"+s.inner()+"\r'"+s.inner()+"'"))
			return
		}
		b.WriteString(s.pick("x'00'", "X'3b'"))
	case 4:
		if s.Dialect.DollarQuotes {
			tag := s.pick("$$", "$a$", "$é$", "$_1$")
			b.WriteString(tag + s.inner() + tag)
			return
		}
		b.WriteString("(CASE WHEN 1 THEN 2 END)")
	default:
		b.WriteString(s.pick("1", "2", "-3", "4", "5 - -5"))
	}
}

func (s *Scripts) name(b *strings.Builder) {
	switch s.Rand.IntN(5) {
	case 0:
		b.WriteString(`"a` + strings.ReplaceAll(s.inner(), `"`, `""`) + `"`)
	case 1:
		if s.Dialect.Brackets {
			b.WriteString("[a" + s.inner() + "]")
			return
		}
		b.WriteString("a$b$")
	case 2:
		if s.Dialect.Backticks {
			b.WriteString("`a" + s.inner() + "`")
			return
		}
		b.WriteString("é$a$")
	default:
		b.WriteString("a")
	}
}

// mutated puts something in at a random place of every third script.
func (s *Scripts) mutated(script string) string {
	if s.Rand.IntN(3) > 0 {
		return script
	}
	at := s.Rand.IntN(len(script) + 1)
	for at < len(script) && !utf8.RuneStart(script[at]) {
		at++
	}
	return script[:at] + s.pick(s.alphabet()...) + script[at:]
}
