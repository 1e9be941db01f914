package jobs

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits on a body, checked before anything in it is interpreted.
const (
	maxDepth  = 64      // nested arrays and objects
	maxValues = 200_000 // values of any kind
)

// node is one key or value of a text. In an object, each key is followed by its value.
type node struct {
	kind       tokenKind
	escaped    bool
	start, end uint32 // strings and keys without their quotes
	next       uint32 // the first node behind this one and everything in it
}

// tape is a JSON text read into a flat list of nodes, in the order of the text; node 0 is the whole.
type tape struct {
	text  string
	nodes []node
	lexer lexer

	open    []uint32 // while reading: the containers not yet closed
	stopped int      // the innermost container that was open when reading stopped
}

// read reads a whole text; the fault, if any, says where it stopped being acceptable. The nodes before it stay.
func (t *tape) read(src []byte) *syntaxFault {
	t.text, t.nodes, t.open, t.stopped = string(src), t.nodes[:0], t.open[:0], 0
	t.lexer.reset(src, maxDepth, maxValues)
	for {
		tok := t.lexer.next()
		switch tok.kind {
		case endToken:
			return nil
		case badToken:
			t.closeAll(len(src))
			return t.lexer.fault
		case closeToken:
			t.closeInnermost(tok.end)
		default:
			t.add(tok)
		}
	}
}

func (t *tape) add(tok token) {
	at := uint32(len(t.nodes))
	t.nodes = append(t.nodes, node{
		kind: tok.kind, escaped: tok.escaped, start: uint32(tok.start), end: uint32(tok.end), next: at + 1,
	})
	if tok.kind == objectToken || tok.kind == arrayToken {
		t.open = append(t.open, at)
	}
}

func (t *tape) closeInnermost(end int) {
	last := len(t.open) - 1
	n := &t.nodes[t.open[last]]
	n.end, n.next = uint32(end), uint32(len(t.nodes))
	t.open = t.open[:last]
}

// closeAll closes what a text left open.
func (t *tape) closeAll(end int) {
	if n := len(t.open); n > 0 {
		t.stopped = int(t.open[n-1])
	}
	for len(t.open) > 0 {
		t.closeInnermost(end)
	}
}

// str returns the decoded text of a string or key.
func (t *tape) str(at int) string {
	n := &t.nodes[at]
	if n.escaped {
		return unescape(t.text[n.start:n.end])
	}
	return t.text[n.start:n.end]
}

// raw returns the text of a value as it was written.
func (t *tape) raw(at int) string { return t.text[t.nodes[at].start:t.nodes[at].end] }

// behind returns the node behind a value and everything in it.
func (t *tape) behind(at int) int { return int(t.nodes[at].next) }

// path returns where a node is, as in statements[2].params.account; the whole text has the empty path.
func (t *tape) path(at int) string {
	var buf []byte
	for i := 0; i < at; {
		step := t.stepTo(i, at)
		if t.nodes[i].kind == objectToken {
			buf = appendPathKey(buf, t.str(step))
			if i = step + 1; step == at {
				break
			}
			continue
		}
		buf = append(buf, '[')
		buf = strconv.AppendInt(buf, int64(t.position(i, step)), 10)
		buf = append(buf, ']')
		i = step
	}
	return string(buf)
}

// stepTo returns the key (of an object) or element (of an array) under which a node is.
func (t *tape) stepTo(container, at int) int {
	step := container + 1
	for {
		value := step
		if t.nodes[container].kind == objectToken {
			value++
		}
		if value >= len(t.nodes) || at < t.behind(value) {
			return step
		}
		step = t.behind(value)
	}
}

// position counts what is in a container before a node in it.
func (t *tape) position(container, before int) (n int) {
	for i := container + 1; i < before; i = t.behind(i) {
		n++
	}
	return n
}

// elements counts the elements of an array, or the keys and values of an object.
func (t *tape) elements(container int) int { return t.position(container, t.behind(container)) }

// appendPathKey appends a key to a path; keys that would not read well in one are quoted.
func appendPathKey(dst []byte, key string) []byte {
	if !validToken(key, maxName) {
		dst = append(dst, '[')
		dst = strconv.AppendQuoteToASCII(dst, clip(key, maxName))
		return append(dst, ']')
	}
	if len(dst) > 0 {
		dst = append(dst, '.')
	}
	return append(dst, key...)
}

// clip cuts a text to at most limit bytes, between two characters.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}

// unescape decodes the inside of a string that the lexer accepted; a lone surrogate becomes U+FFFD.
func unescape(s string) string {
	buf := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			buf = append(buf, s[i])
			i++
			continue
		}
		switch c := s[i+1]; c {
		case 'b':
			buf = append(buf, '\b')
		case 'f':
			buf = append(buf, '\f')
		case 'n':
			buf = append(buf, '\n')
		case 'r':
			buf = append(buf, '\r')
		case 't':
			buf = append(buf, '\t')
		case 'u':
			r := hexRune(s[i:])
			if pair := utf16.DecodeRune(r, hexRune(s[i+6:])); pair != utf8.RuneError {
				r = pair
				i += 6
			}
			buf = utf8.AppendRune(buf, r)
			i += 4
		default:
			buf = append(buf, c)
		}
		i += 2
	}
	return string(buf)
}

// lastPlace returns the node that reading stopped at: a key without its value, or the innermost container that was
// open.
func (t *tape) lastPlace() int {
	if last := len(t.nodes) - 1; last >= 0 && t.nodes[last].kind == keyToken {
		return last
	}
	return t.stopped
}
