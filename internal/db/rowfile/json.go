package rowfile

import "bytes"

// list is one JSON array, a row on each line.
type list struct{ some bool }

func (*list) asArrays() bool          { return false }
func (*list) begin(dst []byte) []byte { return append(dst, '[') }

func (l *list) row(dst, text []byte) ([]byte, error) {
	if l.some {
		dst = append(dst, ',')
	}
	l.some = true
	return appendLine(append(dst, '\n'), text), nil
}

func (l *list) end(dst []byte) ([]byte, error) {
	if l.some {
		dst = append(dst, '\n')
	}
	return append(dst, "]\n"...), nil
}

// lines is a JSON value on each line, a row each (https://github.com/ndjson/ndjson-spec).
type lines struct{}

func (lines) asArrays() bool          { return false }
func (lines) begin(dst []byte) []byte { return dst }

func (lines) row(dst, text []byte) ([]byte, error) { return append(appendLine(dst, text), '\n'), nil }

func (lines) end(dst []byte) ([]byte, error) { return dst, nil }

// appendLine appends a row as one line. A value of a JSON column may have line breaks between its parts; within strings there
// are none.
func appendLine(dst, text []byte) []byte {
	from := len(dst)
	dst = append(dst, text...)
	for _, c := range []byte{'\n', '\r'} {
		for line := dst[from:]; ; {
			i := bytes.IndexByte(line, c)
			if i < 0 {
				break
			}
			line[i] = ' '
			line = line[i+1:]
		}
	}
	return dst
}
