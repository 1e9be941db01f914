package dialect

import (
	"fmt"
	"strconv"
	"strings"
)

// Part is a piece of a script that goes to the database in one piece: a statement, or a batch where the dialect has a
// separator of batches.
type Part struct {
	SQL   string
	Line  int      // of its first character in the script, from 1
	Times int      // how often it is sent: a batch before GO 5 five times; 0: the number there is none that can be meant
	Words []string // its first words outside of quotes, comments and parentheses, in upper case; at most partWords
	// Controls is COMMIT or ROLLBACK where a batch ends transactions, unless it defines a routine that does.
	Controls string
}

// partWords is how many words of a part are kept: enough to find what it is, not what it is about.
const partWords = 16

// Verb returns the entry of a table of words that the part starts with, the longest one; "" if none.
func (p *Part) Verb(table map[string]bool) string {
	for n := min(leadWords, len(p.Words)); n > 0; n-- {
		if words := strings.Join(p.Words[:n], " "); table[words] {
			return words
		}
	}
	return ""
}

// NonTransactional names the kind of a part that cannot run in a transaction; "" if it can.
func (p *Part) NonTransactional(d *Dialect) string {
	if d.NonTransactional == nil {
		return ""
	}
	return d.NonTransactional(p.Words)
}

// PartialEffects reports what a part that failed outside of a transaction may have left all the same; "" if nothing.
func (p *Part) PartialEffects(d *Dialect) string {
	if d.PartialEffects == nil {
		return ""
	}
	return d.PartialEffects(p.Words)
}

// Split cuts a script into its parts: at the semicolons that end a statement, not at those inside quotes, comments and
// bodies of functions and triggers; or, where the dialect has a separator, at the lines that hold nothing but the
// separator and perhaps a number. What is empty but for comments is no part.
func Split(d *Dialect, script string) []Part {
	s := splitter{d: d, script: script, boundary: boundary{batches: d.Batches}, begin: -1, line: 1}
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok {
			s.end(len(script), 1)
			return s.parts
		}
		if t.Start >= s.skip {
			switch {
			case t.Kind == TokenSpace:
			case t.Kind == TokenComment:
				if s.d.Separator != "" { // a batch keeps the comments before it: the server keeps its text
					s.start(t.Start)
				}
			case s.d.Separator != "":
				s.batchToken(t)
			case t.Kind == TokenSemicolon:
				if !s.boundary.semicolon() {
					s.end(t.Start, 1)
				}
			default:
				s.start(t.Start)
				s.see(t)
			}
		}
	}
}

// splitter is the one pass over a script.
type splitter struct {
	d        *Dialect
	script   string
	boundary boundary
	parts    []Part

	begin    int // of the part, -1 if it has not started
	controls string
	skip     int // tokens before this offset belong to a separator's line
	depth    int // of parentheses
	words    []string
	line     int // of offset at
	at       int
}

// batchToken takes a token of a script of batches.
func (s *splitter) batchToken(t Token) {
	if t.Kind == TokenWord && strings.EqualFold(s.script[t.Start:t.End], s.d.Separator) && aloneOnLine(s.script, t) {
		line, _, _ := strings.Cut(s.script[t.End:], "\n")
		s.skip = t.End + len(line)
		s.end(t.Start, repetitions(strings.TrimSpace(line)))
		return
	}
	s.start(t.Start)
	s.see(t)
}

// maxRepetitions bounds the number behind a separator of batches.
const maxRepetitions = 100_000

func repetitions(digits string) int {
	if digits == "" {
		return 1
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > maxRepetitions {
		return 0
	}
	return n
}

// see looks at a token that is part of the code.
func (s *splitter) see(t Token) {
	if t.Kind != TokenWord {
		s.boundary.other(s.script[t.Start])
		switch s.script[t.Start] {
		case '(':
			s.depth++
		case ')':
			s.depth--
		}
		return
	}
	word := strings.ToUpper(s.script[t.Start:t.End])
	s.boundary.word(keyword([]byte(word)))
	if s.controls == "" && s.d.Batches && (word == "COMMIT" || word == "ROLLBACK") && s.script[max(t.Start-1, 0)] != '@' {
		s.controls = word
	}
	if s.depth <= 0 && len(s.words) < partWords {
		s.words = append(s.words, word)
	}
}

func (s *splitter) start(at int) {
	if s.begin < 0 {
		s.begin = at
	}
}

// end ends the part before an offset.
func (s *splitter) end(at, times int) {
	if s.begin >= 0 && (len(s.words) > 0 || hasCode(s.d, s.script[s.begin:at])) {
		s.line += strings.Count(s.script[s.at:s.begin], "\n")
		s.at = s.begin
		if s.boundary.form == batchForm {
			s.controls = ""
		}
		s.parts = append(s.parts, Part{
			SQL: strings.TrimRight(s.script[s.begin:at], " \t\r\n"), Line: s.line, Times: times, Words: s.words, Controls: s.controls,
		})
	}
	s.begin, s.depth, s.words, s.controls = -1, 0, nil, ""
	s.boundary = boundary{batches: s.d.Batches}
}

// hasCode reports whether there is more than space and comments.
func hasCode(d *Dialect, text string) bool {
	lexer := NewLexer(d, text)
	for {
		t, ok := lexer.Next()
		if !ok {
			return false
		}
		if t.Kind != TokenSpace && t.Kind != TokenComment && t.Kind != TokenSemicolon {
			return true
		}
	}
}

// Unfinished says in words what a script ends inside of: a comment or something quoted that is not closed; "" if nothing.
func Unfinished(d *Dialect, script string) string {
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok {
			return ""
		}
		if what := lexer.unclosed(t); what != "" {
			return fmt.Sprintf("line %d: %s is not closed", lineOf(script, t.Start), what)
		}
	}
}

// StrayReturn returns the line of the first -- comment with a carriage return inside that does not end it, 0 if there is
// none: what stands behind it looks like code and is comment.
func StrayReturn(d *Dialect, script string) int {
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok {
			return 0
		}
		if t.Kind == TokenComment && script[t.Start] == '-' && carriageInside(script[t.Start:t.End]) {
			return lineOf(script, t.Start)
		}
	}
}

// lineOf is the line of an offset, from 1.
func lineOf(script string, at int) int { return 1 + strings.Count(script[:at], "\n") }

// Head returns the comments before the first code of a script, without their marks, one a line or block.
func Head(d *Dialect, script string) []string {
	var out []string
	lexer := NewLexer(d, script)
	for {
		t, ok := lexer.Next()
		if !ok || t.Kind != TokenSpace && t.Kind != TokenComment {
			return out
		}
		if t.Kind == TokenComment {
			text := strings.TrimSuffix(script[t.Start+2:t.End], "*/")
			out = append(out, strings.TrimSpace(text))
		}
	}
}
