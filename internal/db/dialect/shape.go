package dialect

import (
	"strconv"
	"strings"

	"dbrunner/contract"
)

// shape is everything that a SQL text alone decides, whatever parameters come with it. It is made once for a
// text, is never changed and may be shared.
type shape struct {
	lead   string           // the first words, upper case, one space between
	faults []contract.Fault // what is wrong with the text whatever the parameters
	writes string           // the first word in it that writes, "" if there is none

	names     []string // of the :name parameters, in the order of their numbers
	named     string   // the text for named parameters
	positions []bool   // which of $1 … $n are there; [i] is $(i+1)
	listed    string   // the text for positional parameters
	mixed     bool     // both ? and $n

	byName, byList Origin // of the two texts
}

const (
	leadWords = 4  // words of a statement that the dialect's tables may name
	leadBytes = 64 // a longer word is no keyword
)

// shaper is the one pass over a SQL text.
type shaper struct {
	d        *Dialect
	sql      string
	boundary boundary
	count    int  // statements started
	inLead   bool // all tokens of the first statement so far were words
	words    int
	lead     []byte
	marks    []mark
	numbers  map[string]int // of names
	shape    shape
	flaws    flaws
	controls string // the first word that controls transactions, wherever it stands
	phrase   int    // words of the dialect's WritePhrase that the last tokens were
}

// mark is a parameter in the text.
type mark struct {
	start, end int
	named      bool
	number     int
}

// flaws are the faults of a text, each reported once however often it is there.
type flaws struct {
	nul, carriage, sigil, position, questions, numbers, separator bool
	unclear                                                       string // the first text that can be read in two ways
}

func newShape(d *Dialect, sql string) *shape {
	s := &shaper{d: d, sql: sql, inLead: true, boundary: boundary{batches: d.Batches}}
	s.flaws.nul = strings.IndexByte(sql, 0) >= 0
	lexer := NewLexer(d, sql)
	for {
		t, ok := lexer.Next()
		if !ok {
			break
		}
		switch t.Kind {
		case TokenSpace:
		case TokenComment:
			text := s.sql[t.Start:t.End]
			s.flaws.carriage = s.flaws.carriage || text[0] == '-' && carriageInside(text)
		case TokenSemicolon:
			if !s.boundary.semicolon() && s.count > 0 {
				s.inLead = false
			}
		case TokenWord:
			s.begin()
			s.word(t)
		default:
			s.begin()
			s.phrase = 0
			s.boundary.other(s.sql[t.Start])
			if s.sql[t.Start] != '(' || s.words > 0 {
				s.inLead = false
			}
			text := s.sql[t.Start:t.End]
			switch t.Kind {
			case TokenNamed:
				s.mark(t, true, s.nameNumber(text[1:]))
			case TokenPositional:
				s.flaws.numbers = true
				s.position(t, text[1:])
			case TokenQuestion:
				s.flaws.questions = true
				s.mark(t, false, len(s.shape.positions)+1)
			case TokenCast, TokenOther:
				s.flaws.sigil = s.flaws.sigil || strings.IndexByte(s.d.Sigils, text[0]) >= 0
			case TokenUnclear:
				if s.flaws.unclear == "" {
					s.flaws.unclear = explainUnclear(text)
				}
			default: // numbers and quoted texts mean nothing here
			}
		}
	}
	h := &s.shape
	h.lead = string(s.lead)
	h.mixed = s.flaws.questions && s.flaws.numbers
	h.faults = s.faults()
	h.named, h.byName.pieces = s.rewrite(true)
	h.listed, h.byList.pieces = s.rewrite(false)
	h.byName.sql, h.byList.sql = s.sql, s.sql
	h.byName.names, h.byList.count = h.names, len(h.positions)
	return &s.shape
}

// begin counts statements: a token that is the first since a semicolon which ended one.
func (s *shaper) begin() {
	if !s.boundary.started {
		s.count++
	}
}

func (s *shaper) word(t Token) {
	var space [leadBytes]byte
	upper := appendUpper(space[:0], s.sql[t.Start:t.End])
	s.boundary.word(keyword(upper))
	s.anywhere(t, upper)
	if !s.inLead {
		return
	}
	if s.words > 0 {
		s.lead = append(s.lead, ' ')
	}
	s.lead = append(s.lead, upper...)
	s.words++
	s.inLead = s.words < leadWords
}

// anywhere looks for the words that mean something wherever they stand. A variable, @name, is none of them.
func (s *shaper) anywhere(t Token, upper []byte) {
	if t.Start > 0 && s.sql[t.Start-1] == '@' {
		return
	}
	if s.controls == "" && s.d.TransactionWord[string(upper)] {
		s.controls = string(upper)
	}
	if s.shape.writes == "" && s.d.WriteWord[string(upper)] {
		s.shape.writes = string(upper)
	}
	s.writePhrase(upper)
	if s.d.Separator != "" && string(upper) == s.d.Separator {
		s.flaws.separator = s.flaws.separator || aloneOnLine(s.sql, t)
	}
}

// writePhrase takes the next word.
func (s *shaper) writePhrase(upper []byte) {
	words := s.d.WritePhrase
	switch {
	case len(words) == 0:
	case string(upper) == words[s.phrase]:
		s.phrase++
	case string(upper) == words[0]:
		s.phrase = 1
	default:
		s.phrase = 0
	}
	if len(words) > 0 && s.phrase == len(words) {
		s.phrase = 0
		if s.shape.writes == "" {
			s.shape.writes = strings.Join(words, " ")
		}
	}
}

// aloneOnLine reports whether nothing but blanks and a number stands beside a word on its line.
func aloneOnLine(sql string, t Token) bool {
	before := sql[strings.LastIndexByte(sql[:t.Start], '\n')+1 : t.Start]
	behind, _, _ := strings.Cut(sql[t.End:], "\n")
	return strings.TrimSpace(before) == "" && strings.Trim(behind, " \t\r0123456789") == ""
}

// appendUpper appends a word in upper case, cut where no keyword is as long.
func appendUpper(dst []byte, word string) []byte {
	for i := range min(len(word), leadBytes) {
		c := word[i]
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

func (s *shaper) nameNumber(name string) int {
	if n, ok := s.numbers[name]; ok {
		return n
	}
	if s.numbers == nil {
		s.numbers = make(map[string]int)
	}
	s.shape.names = append(s.shape.names, name)
	n := len(s.shape.names)
	s.numbers[name] = n
	return n
}

func (s *shaper) position(t Token, digits string) {
	n, err := strconv.Atoi(digits)
	if err != nil || n < 1 || n > s.d.maxParams() {
		s.flaws.position = true
		return
	}
	s.mark(t, false, n)
}

func (s *shaper) mark(t Token, named bool, number int) {
	s.marks = append(s.marks, mark{start: t.Start, end: t.End, named: named, number: number})
	if named {
		return
	}
	for len(s.shape.positions) < number {
		s.shape.positions = append(s.shape.positions, false)
	}
	s.shape.positions[number-1] = true
}

// rewrite returns the text with its named (or positional) parameters in the engine's own words.
func (s *shaper) rewrite(named bool) (string, []piece) {
	var out []byte
	var pieces []piece
	from := 0
	for _, m := range s.marks {
		if m.named != named {
			continue
		}
		out = append(out, s.sql[from:m.start]...)
		p := piece{from: m.start, to: m.end, at: len(out)}
		out = s.placeholder(out, m)
		p.end = len(out)
		pieces = append(pieces, p)
		from = m.end
	}
	if from == 0 {
		return s.sql, nil
	}
	return string(append(out, s.sql[from:]...)), pieces
}

// placeholder appends a parameter's placeholder. Where the text changes, a name must not touch it: x=?AND is
// clear, x=@p1AND is another parameter.
func (s *shaper) placeholder(out []byte, m mark) []byte {
	begin := len(out)
	out = s.d.Placeholder(out, m.number)
	if string(out[begin:]) == s.sql[m.start:m.end] {
		return out
	}
	if begin > 0 && isNamePart(out[begin-1]) {
		out = append(out[:begin], ' ')
		out = s.d.Placeholder(out, m.number)
	}
	if m.end < len(s.sql) && isNamePart(s.sql[m.end]) {
		out = append(out, ' ')
	}
	return out
}
