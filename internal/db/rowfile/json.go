package rowfile

// list is one JSON array, a row on each line.
type list struct{ some bool }

func (*list) asArrays() bool          { return false }
func (*list) begin(dst []byte) []byte { return append(dst, '[') }

func (l *list) row(dst, text []byte) ([]byte, error) {
	if l.some {
		dst = append(dst, ',')
	}
	l.some = true
	return append(append(dst, '\n'), text...), nil
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

func (lines) row(dst, text []byte) ([]byte, error) { return append(append(dst, text...), '\n'), nil }

func (lines) end(dst []byte) ([]byte, error) { return dst, nil }
