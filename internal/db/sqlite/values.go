package sqlite

import (
	"bytes"
	"math"
	"strconv"

	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/internal/jsontext"
)

// exact is the largest integer that every reader of JSON has exactly: 2^53-1.
const exact = 1<<53 - 1

// appendValue appends the value of a column in the row at hand, by its own storage class: see the package
// comment.
func appendValue(dst []byte, s *stmt, i int) []byte {
	switch s.columnClass(i) {
	case sqlite3.SQLITE_INTEGER:
		return appendInteger(dst, s.columnInt(i))
	case sqlite3.SQLITE_FLOAT:
		return appendReal(dst, s.columnReal(i))
	case sqlite3.SQLITE_TEXT:
		return appendText(dst, s.columnText(i))
	case sqlite3.SQLITE_BLOB:
		return append(jsontext.AppendBase64(beginTyped(dst, typeBlob), s.columnBlob(i)), '}')
	default:
		return append(dst, "null"...)
	}
}

func beginTyped(dst []byte, name string) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, name...)
	return append(dst, `","value":`...)
}

func appendInteger(dst []byte, n int64) []byte {
	if -exact <= n && n <= exact {
		return strconv.AppendInt(dst, n, 10)
	}
	dst = append(beginTyped(dst, typeInteger), '"')
	return append(strconv.AppendInt(dst, n, 10), `"}`...)
}

// appendReal writes a number that never looks like an integer.
func appendReal(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(beginTyped(dst, typeReal), `"Infinity"}`...)
	case math.IsInf(f, -1):
		return append(beginTyped(dst, typeReal), `"-Infinity"}`...)
	}
	begin := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', -1, 64)
	for _, c := range dst[begin:] {
		if c == '.' || c == 'e' {
			return dst
		}
	}
	return append(dst, ".0"...)
}

// appendText writes a text that a body may hold as it is.
func appendText(dst, text []byte) []byte {
	begin := len(dst)
	dst, lossless := jsontext.AppendText(dst, text)
	if lossless && bytes.IndexByte(text, 0) < 0 {
		return dst
	}
	return append(jsontext.AppendBase64(beginTyped(dst[:begin], typeTextBase64), text), '}')
}
