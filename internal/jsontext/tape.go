package jsontext

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// node is one key or value of a text.
type node struct {
	kind       Kind
	escaped    bool
	start, end uint32 // strings and keys without their quotes
	next       uint32 // the first node behind this one and everything in it
}

// Tape is a JSON text read into a flat list of nodes, in the order of the text; node 0 is the whole. Nodes are addressed
// by their index. In an object, each key is followed by its value.
type Tape struct {
	text  string
	nodes []node
	lexer Lexer

	open    []uint32 // while reading: the containers not yet closed
	stopped int      // the innermost container that was open when reading stopped
}

// Read reads a whole text, nested at most maxDepth deep and with at most maxValues values; 0 is no limit. The error is
// where it stopped being acceptable; the nodes before that stay.
func (t *Tape) Read(src []byte, maxDepth, maxValues int) *SyntaxError {
	t.text, t.nodes, t.open, t.stopped = string(src), t.nodes[:0], t.open[:0], 0
	t.lexer.Reset(src, maxDepth, maxValues)
	for {
		tok := t.lexer.Next()
		switch tok.Kind {
		case End:
			return nil
		case Bad:
			// The text left these open.
			end := len(src)
			if n := len(t.open); n > 0 {
				t.stopped = int(t.open[n-1])
			}
			for len(t.open) > 0 {
				t.closeInnermost(end)
			}
			return t.lexer.Err
		case Close:
			t.closeInnermost(tok.end)
		default:
			at := uint32(len(t.nodes))
			t.nodes = append(t.nodes, node{
				kind: tok.Kind, escaped: tok.escaped, start: uint32(tok.start), end: uint32(tok.end), next: at + 1,
			})
			if tok.Kind == Object || tok.Kind == Array {
				t.open = append(t.open, at)
			}
		}
	}
}

// Forget releases the text and keeps the memory of the nodes.
func (t *Tape) Forget() { t.text, t.lexer.src = "", nil }

func (t *Tape) closeInnermost(end int) {
	last := len(t.open) - 1
	n := &t.nodes[t.open[last]]
	n.end, n.next = uint32(end), uint32(len(t.nodes))
	t.open = t.open[:last]
}

// Kind returns the kind of a node.
func (t *Tape) Kind(at int) Kind { return t.nodes[at].kind }

// Size returns the number of nodes.
func (t *Tape) Size() int { return len(t.nodes) }

// Capacity returns the number of nodes that there is memory for.
func (t *Tape) Capacity() int { return cap(t.nodes) }

// Str returns the decoded text of a string or key.
func (t *Tape) Str(at int) string {
	n := &t.nodes[at]
	if n.escaped {
		return unescape(t.text[n.start:n.end])
	}
	return t.text[n.start:n.end]
}

// Raw returns the text of a value as it was written.
func (t *Tape) Raw(at int) string { return t.text[t.nodes[at].start:t.nodes[at].end] }

// After returns the node behind a value and everything in it.
func (t *Tape) After(at int) int { return int(t.nodes[at].next) }

// Path returns where a node is, as in statements[2].params.account; the whole text has the empty path.
func (t *Tape) Path(at int) string {
	var buf []byte
	for i := 0; i < at; {
		step := t.stepTo(i, at)
		if t.nodes[i].kind == Object {
			buf = appendPathKey(buf, t.Str(step))
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
func (t *Tape) stepTo(container, at int) int {
	step := container + 1
	for {
		value := step
		if t.nodes[container].kind == Object {
			value++
		}
		if value >= len(t.nodes) || at < t.After(value) {
			return step
		}
		step = t.After(value)
	}
}

// position counts what is in a container before a node in it.
func (t *Tape) position(container, before int) (n int) {
	for i := container + 1; i < before; i = t.After(i) {
		n++
	}
	return n
}

// Len counts the elements of an array, or the keys and values of an object.
func (t *Tape) Len(container int) int { return t.position(container, t.After(container)) }

// appendPathKey appends a key to a path; keys that would not read well in one are quoted.
func appendPathKey(dst []byte, key string) []byte {
	if !plainKey(key) {
		dst = append(dst, '[')
		dst = strconv.AppendQuoteToASCII(dst, Clip(key, maxPlainKey))
		return append(dst, ']')
	}
	if len(dst) > 0 {
		dst = append(dst, '.')
	}
	return append(dst, key...)
}

// maxPlainKey bounds the keys of a path, bytes.
const maxPlainKey = 64

// plainKey reports whether a path has a key as it is: letters, digits, _ and - only.
func plainKey(key string) bool {
	for _, c := range []byte(key) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return key != "" && len(key) <= maxPlainKey
}

// Clip cuts a text to at most limit bytes, between two characters.
func Clip(s string, limit int) string {
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

// Stopped returns the node that reading stopped at: a key without its value, or the innermost container that was
// open.
func (t *Tape) Stopped() int {
	if last := len(t.nodes) - 1; last >= 0 && t.nodes[last].kind == Key {
		return last
	}
	return t.stopped
}
