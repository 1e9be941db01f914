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
	switch sqlite3.Xsqlite3_column_type(s.h.tls, s.p, int32(i)) {
	case sqlite3.SQLITE_INTEGER:
		n := s.columnInt(i)
		if -exact <= n && n <= exact {
			return strconv.AppendInt(dst, n, 10)
		}
		dst = append(beginTyped(dst, typeInteger), '"')
		return append(strconv.AppendInt(dst, n, 10), `"}`...)
	case sqlite3.SQLITE_FLOAT:
		// A real never looks like an integer.
		f := sqlite3.Xsqlite3_column_double(s.h.tls, s.p, int32(i))
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

// appendText writes a text that a body may hold as it is.
func appendText(dst, text []byte) []byte {
	begin := len(dst)
	dst, lossless := jsontext.AppendText(dst, text)
	if lossless && bytes.IndexByte(text, 0) < 0 {
		return dst
	}
	return append(jsontext.AppendBase64(beginTyped(dst[:begin], typeTextBase64), text), '}')
}
