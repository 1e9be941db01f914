package dialect_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

// FuzzCompile compiles a text with parameters that fit it, in each style, and compares with a model that puts
// placeholders into the list of tokens: outside the parameters not a byte may differ (but for a space that
// keeps a name away from a placeholder). Read again, the new text must be cut into the same tokens: nothing
// that was text, name or comment has become code.
func FuzzCompile(f *testing.F) {
	for _, sql := range seeds {
		f.Add(sql)
	}
	dialects := []*dialect.Dialect{postgres(), sqlite(), sqlserver()}
	cached := postgres()
	cached.Cache = dialect.NewCache(1 << 16)
	dialects = append(dialects, cached)
	f.Fuzz(func(t *testing.T, sql string) {
		for _, d := range dialects {
			m := modelOf(d, sql)
			for _, tc := range []struct {
				params dialect.Params
				want   string
				args   int
				colon  string // what a :name is: left alone, or a parameter
			}{
				{dialect.Params{List: make([]dialect.Value, m.positions)}, m.listed, m.positions, ".w"},
				{dialect.Params{Named: m.names}, m.named, len(m.names), "P"},
			} {
				got, faults := dialect.Compile(d, dialect.Statement{SQL: sql, Params: tc.params})
				require.Equal(t, got == nil, len(faults) > 0)
				if got == nil {
					continue
				}
				require.Equal(t, tc.want, got.SQL)
				require.Len(t, got.Args, tc.args)
				require.Equal(t, stripped(relexed(d, sql), tc.colon), stripped(relexed(d, got.SQL), tc.colon))
			}
		}
	})
}

// model is what Compile should make of a text, by the list of its tokens.
type model struct {
	named, listed string
	names         map[string]dialect.Value
	positions     int
}

func modelOf(d *dialect.Dialect, sql string) model {
	marks, tokens := lex(d, sql)
	m := model{names: map[string]dialect.Value{}}
	order := map[string]int{}
	var named, listed []byte
	for i, token := range tokens {
		next := ""
		if i+1 < len(tokens) {
			next = tokens[i+1]
		}
		switch marks[i] {
		case 'p':
			m.names[token[1:]] = text(token)
			if order[token] == 0 {
				order[token] = len(order) + 1
			}
			named = put(named, string(d.Placeholder(nil, order[token])), token, next)
			listed = append(listed, token...)
		case 'P', '?':
			n := m.positions + 1
			if marks[i] == 'P' {
				n, _ = strconv.Atoi(token[1:])
			}
			if n < 5000 {
				m.positions = max(m.positions, n)
				listed = put(listed, string(d.Placeholder(nil, n)), token, next)
			}
			named = append(named, token...)
		default:
			named, listed = append(named, token...), append(listed, token...)
		}
	}
	m.named, m.listed = string(named), string(listed)
	return m
}

func put(dst []byte, placeholder, token, next string) []byte {
	if placeholder == token {
		return append(dst, token...)
	}
	if len(dst) > 0 && partOfName(dst[len(dst)-1]) {
		dst = append(dst, ' ')
	}
	dst = append(dst, placeholder...)
	if next != "" && partOfName(next[0]) {
		dst = append(dst, ' ')
	}
	return dst
}

func partOfName(c byte) bool {
	return c >= 0x80 || c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// relexed reads a compiled text; @p1 is a parameter then.
func relexed(d *dialect.Dialect, sql string) string {
	marks, tokens := lex(d, sql)
	var out strings.Builder
	for i := 0; i < len(tokens); i++ {
		if tokens[i] == "@" && i+1 < len(tokens) && isP(tokens[i+1]) {
			out.WriteByte('P')
			i++
			continue
		}
		out.WriteByte(marks[i])
	}
	return out.String()
}

func isP(word string) bool {
	return len(word) > 1 && word[0] == 'p' && strings.Trim(word[1:], "0123456789") == ""
}

// stripped leaves out spaces and makes all parameters one kind.
func stripped(marks, colon string) string {
	return strings.NewReplacer("_", "", "p", colon, "?", "P").Replace(marks)
}

// FuzzFirstWord compares with the plainest reading: cut off what stands before the first word.
func FuzzFirstWord(f *testing.F) {
	for _, sql := range seeds {
		f.Add(sql)
	}
	dialects := []*dialect.Dialect{postgres(), sqlite(), sqlserver()}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, d := range dialects {
			first := dialect.FirstWord(d, sql)
			marks, tokens := lex(d, sql)
			i, open := 0, false
			for i < len(tokens) && (strings.ContainsAny(marks[i:i+1], "_c") || tokens[i] == "(" || tokens[i] == ";" && !open) {
				open = open || tokens[i] == "("
				i++
			}
			want := ""
			if i < len(tokens) && marks[i] == 'w' {
				want = asciiUpper(tokens[i][:min(64, len(tokens[i]))])
			}
			require.Equal(t, want, first)
			// Whatever stands in front, a verb is found; whatever the case.
			for _, hidden := range []string{"COMMIT", "rollback to x"} {
				_, faults := dialect.Compile(d, dialect.Statement{SQL: " ;(/* x */\n" + hidden + " " + sql})
				require.Contains(t, seen(faults), "sql transaction_control")
			}
			if d.ReadOnlyFirst[first] {
				require.Empty(t, dialect.CheckReadOnly(d, sql))
			}
		}
	})
}

func asciiUpper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c >= 'a' && c <= 'z' {
			b[i] = c - 32
		}
	}
	return string(b)
}
