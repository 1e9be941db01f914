package sqlite

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"
	"pgregory.net/rapid"

	"dbrunner/internal/db/dialect"
)

// TestValuesAreLossless stores any value, reads it, and sends what was read back as a parameter: it is the same
// value, of the same storage class, and what a reader sees is JSON.
func TestValuesAreLossless(t *testing.T) {
	t.Parallel()
	c := testConn(t)
	s, _, err := c.h.prepare("SELECT ?1", 0)
	require.NoError(t, err)
	t.Cleanup(func() { s.finalize() })
	rapid.Check(t, func(t *rapid.T) {
		in := anyArgument(t)
		require.NoError(t, bindOne(s, 1, in))
		defer s.reset()
		row, err := s.step()
		require.NoError(t, err)
		require.True(t, row)
		text := appendValue(nil, s, 0)
		require.True(t, json.Valid(text), "%s", text)
		out, wrong := convert(asParameter(t, text))
		require.Empty(t, wrong, "%s", text)
		require.Equal(t, in.class, out.class, "%s", text)
		require.Equal(t, in.integer, out.integer, "%s", text)
		require.Equal(t, math.Float64bits(in.real), math.Float64bits(out.real), "%s", text)
		require.Equal(t, in.text, out.text, "%s", text)
	})
}

func anyArgument(t *rapid.T) argument {
	switch rapid.IntRange(0, 4).Draw(t, "class") {
	case 0:
		return argument{class: sqlite3.SQLITE_INTEGER, integer: rapid.Int64().Draw(t, "integer")}
	case 1:
		f := rapid.OneOf(rapid.Float64(), rapid.Map(rapid.Uint64(), math.Float64frombits)).
			Filter(func(f float64) bool { return !math.IsNaN(f) }).Draw(t, "real")
		return argument{class: sqlite3.SQLITE_FLOAT, real: f}
	case 2:
		return argument{class: sqlite3.SQLITE_TEXT, text: rapid.String().Draw(t, "text")}
	case 3:
		return argument{class: sqlite3.SQLITE_TEXT, text: string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))}
	default:
		return argument{class: sqlite3.SQLITE_BLOB, text: string(rapid.SliceOf(rapid.Byte()).Draw(t, "blob"))}
	}
}

// asParameter reads a value of a result as a publisher's parameter.
func asParameter(t *rapid.T, text []byte) dialect.Value {
	switch text[0] {
	case '"':
		var s string
		require.NoError(t, json.Unmarshal(text, &s))
		return dialect.Value{Kind: dialect.String, Text: s}
	case '{':
		var typed struct{ Type, Value string }
		require.NoError(t, json.Unmarshal(text, &typed))
		return dialect.Value{Kind: dialect.String, Type: typed.Type, Text: typed.Value}
	default:
		return dialect.Value{Kind: dialect.Number, Text: string(text)}
	}
}

// TestTextThatIsNotUTF8 shows the bytes, not what is left of them.
func TestTextThatIsNotUTF8(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"\xff", "a\xc3", "\xed\xa0\x80", "ok\x00\x80"} {
		require.False(t, utf8.ValidString(text))
		want := `{"type":"text_base64","value":` + strconv.Quote(base64.StdEncoding.EncodeToString([]byte(text))) + `}`
		require.Equal(t, want, string(appendText(nil, []byte(text))))
	}
}
