package dialect

import (
	"strconv"
	"strings"
)

// MultiRowInsert is the text of an INSERT of one row, which can be written for many rows. It is for one goroutine.
type MultiRowInsert struct {
	Params int // of one row

	d     *Dialect
	head  string
	tuple []string       // between its placeholders
	order []int          // the placeholders' numbers, from 1
	texts map[int]string // made so far, by the number of rows
}

// ParseMultiRowInsert reads an INSERT … VALUES (…) with nothing behind it and no parentheses in it, in the engine's own words; nil if
// the text is anything else. Only such a statement means the same for many rows: a RETURNING or ON CONFLICT does
// not, and a subquery or a function may look at the rows before.
func ParseMultiRowInsert(d *Dialect, sql string) *MultiRowInsert {
	if FirstWord(d, sql) != "INSERT" {
		return nil
	}
	t := tuples{sql: sql, lexer: NewLexer(d, sql), open: -1, closed: -1}
	if !t.read() {
		return nil
	}
	return newSeveral(d, sql[:t.open], sql[t.open:t.closed])
}

// tuples looks for the only tuple behind VALUES.
type tuples struct {
	sql          string
	lexer        Lexer
	depth        int
	values       bool
	open, closed int
}

func (t *tuples) read() bool {
	for {
		tok, ok := t.lexer.Next()
		if !ok {
			return t.closed >= 0
		}
		if !t.token(tok) {
			return false
		}
	}
}

// token takes one; false: the text is another statement.
func (t *tuples) token(tok Token) bool {
	text := t.sql[tok.Start:tok.End]
	switch {
	case tok.Kind == TokenSpace || tok.Kind == TokenComment || tok.Kind == TokenSemicolon && t.closed >= 0:
	case t.closed >= 0:
		return false
	case text == "(":
		t.depth++
		switch {
		case t.open >= 0:
			return false
		case t.depth == 1 && t.values:
			t.open = tok.Start
		}
	case text == ")":
		if t.depth--; t.depth == 0 && t.open >= 0 {
			t.closed = tok.End
		}
	case t.depth == 0 && tok.Kind == TokenWord:
		t.values = t.values || strings.EqualFold(text, "VALUES")
		return !multiRowStops(text)
	}
	return true
}

// multiRowStops are the words before VALUES with which the statement is no plain INSERT.
func multiRowStops(word string) bool {
	switch strings.ToUpper(word) {
	case "SELECT", "WITH", "OUTPUT", "EXEC", "EXECUTE", "DEFAULT", "TOP":
		return true
	}
	return false
}

func newSeveral(d *Dialect, head, tuple string) *MultiRowInsert {
	s := &MultiRowInsert{d: d, head: head, texts: map[int]string{}}
	lexer, from, sign := NewLexer(d, tuple), 0, -1
	for {
		tok, ok := lexer.Next()
		if !ok {
			break
		}
		text := tuple[tok.Start:tok.End]
		begin, digits := tok.Start, ""
		switch {
		case tok.Kind == TokenPositional:
			digits = text[1:]
		case tok.Kind == TokenWord && sign == tok.Start-1 && strings.HasPrefix(text, "p"): // @p1
			begin, digits = sign, text[1:]
		}
		sign = -1
		if text == "@" {
			sign = tok.Start
		}
		number, err := strconv.Atoi(digits)
		if digits == "" || err != nil {
			continue
		}
		s.tuple, s.order = append(s.tuple, tuple[from:begin]), append(s.order, number)
		s.Params = max(s.Params, number)
		from = tok.End
	}
	s.tuple = append(s.tuple, tuple[from:])
	if s.Params == 0 {
		return nil
	}
	return s
}

// Text is the statement for so many rows, whose arguments follow each other.
func (s *MultiRowInsert) Text(rows int) string {
	if text, made := s.texts[rows]; made {
		return text
	}
	text := []byte(s.head)
	for row := range rows {
		if row > 0 {
			text = append(text, ',')
		}
		for i, number := range s.order {
			text = s.d.Placeholder(append(text, s.tuple[i]...), row*s.Params+number)
		}
		text = append(text, s.tuple[len(s.order)]...)
	}
	s.texts[rows] = string(text)
	return s.texts[rows]
}
