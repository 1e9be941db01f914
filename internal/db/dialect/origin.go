package dialect

import (
	"strconv"
	"unicode/utf8"
)

// Origin is what a text that a database gets was made of: errors are reported in the publisher's own words. It may be shared.
type Origin struct {
	sql    string   // the text before
	pieces []piece  // what was replaced in it
	names  []string // of its parameters, in the order of their numbers; nil: they have none
	count  int      // of parameters without names
	from   *Origin  // of the text before
}

// piece is a part of a text that was replaced: where it was, and where what replaces it is. All are offsets in bytes.
type piece struct{ from, to, at, end int }

// back is the offset in the text before; -1: it has none.
func (o *Origin) back(offset int) int {
	shift := 0
	for _, p := range o.pieces {
		if offset < p.at {
			break
		}
		if offset < p.end {
			return p.from
		}
		shift = p.to - p.end
	}
	if offset+shift > len(o.sql) {
		return -1
	}
	return offset + shift
}

// Place finds the publisher's own text, and in it the character that a server means by its place in the text that it got.
// Characters count from 1; 0 is none.
func (o *Origin) Place(got string, character int) (sql string, at int) {
	if character < 1 {
		return got, 0
	}
	offset := -1
	for i := range got {
		if character--; character == 0 {
			offset = i
			break
		}
	}
	if offset < 0 && character == 1 {
		offset = len(got)
	}
	return o.PlaceOfByte(got, offset)
}

// PlaceOfByte is Place for an offset in bytes, from 0; below 0: none.
func (o *Origin) PlaceOfByte(got string, offset int) (sql string, at int) {
	sql = got
	for ; o != nil; o = o.from {
		sql = o.sql
		if offset >= 0 {
			offset = o.back(offset)
		}
	}
	if offset < 0 || offset > len(sql) {
		return sql, 0
	}
	return sql, utf8.RuneCountInString(sql[:offset]) + 1
}

// Param is the name of a parameter by its number, from 1, as the text writes it.
func (o *Origin) Param(number int) string {
	for o != nil && o.from != nil {
		o = o.from
	}
	switch {
	case number < 1:
		return ""
	case o == nil:
	case len(o.names) > 0: // a batch has them several times
		return ":" + shorten(o.names[(number-1)%len(o.names)])
	case o.count > 0:
		number = (number-1)%o.count + 1
	}
	return "$" + strconv.Itoa(number)
}

// OriginOf is the origin of the text that CompileText returns.
func OriginOf(d *Dialect, sql string) *Origin {
	s := d.shape(sql)
	if len(s.names) > 0 {
		return &s.byName
	}
	return &s.byList
}

// ReplaceParams returns a statement's text with its numbered parameters replaced, and what it was made of; "" leaves one as
// it is.
func ReplaceParams(d *Dialect, stmt *Compiled, with func(n int) string) (string, *Origin) {
	sql := stmt.SQL
	o := &Origin{sql: sql, from: stmt.Origin}
	var out []byte
	from := 0
	for lexer := NewLexer(d, sql); ; {
		t, ok := lexer.Next()
		if !ok {
			break
		}
		if t.Kind != TokenPositional {
			continue
		}
		n, _ := strconv.Atoi(sql[t.Start+1 : t.End])
		if text := with(n); text != "" {
			out = append(out, sql[from:t.Start]...)
			o.pieces = append(o.pieces, piece{t.Start, t.End, len(out), len(out) + len(text)})
			out = append(out, text...)
			from = t.End
		}
	}
	if from == 0 {
		return sql, stmt.Origin
	}
	return string(append(out, sql[from:]...)), o
}
