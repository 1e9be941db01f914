package sqlite

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	sqlite3 "modernc.org/sqlite/lib"

	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
)

// scriptsTried is how many random scripts are held against SQLite.
const scriptsTried = 30_000

// TestSplitterAgainstSQLite: the parts that a script is cut into do what the script does: the same statements, with
// the same results, and an error where SQLite finds one.
func TestSplitterAgainstSQLite(t *testing.T) {
	t.Parallel()
	h, err := openHandle(":memory:", sqlite3.SQLITE_OPEN_READWRITE|sqlite3.SQLITE_OPEN_CREATE|sqlite3.SQLITE_OPEN_MEMORY)
	require.NoError(t, err)
	defer h.close()
	require.NoError(t, h.configure(sqlite3.SQLITE_DBCONFIG_DQS_DML, false))
	d := Dialect()
	run := func(text string) ([]string, bool) {
		var out []string
		for text != "" {
			s, tail, err := h.prepare(text, 0)
			if err != nil {
				return out, false
			}
			if s != nil {
				out = append(out, row(s))
				s.finalize()
			}
			text = tail
		}
		return out, true
	}
	split := func(script string) ([]string, bool) {
		var out []string
		for _, part := range dialect.Split(d, script) {
			got, ok := run(part.SQL)
			out = append(out, got...)
			if !ok {
				return out, false
			}
			if len(got) != 1 {
				return append(out, "not one statement"), true
			}
		}
		return out, dialect.Unfinished(d, script) == ""
	}
	_, made := run("CREATE TABLE t (a)")
	require.True(t, made)
	seed := rand.Uint64()
	random := &dbtest.Scripts{Rand: rand.New(rand.NewPCG(seed, 1)), Dialect: d, Body: "CREATE TEMP TRIGGER IF NOT EXISTS g AFTER INSERT ON t BEGIN"}
	valid := 0
	for range scriptsTried {
		script := random.Next()
		whole, good := run(script)
		_, _ = run("ROLLBACK") // a BEGIN may be among it
		parts, finished := split(script)
		_, _ = run("ROLLBACK")
		if good {
			valid++
		}
		if good && !finished && strings.Contains(dialect.Unfinished(d, script), "comment") {
			continue // SQLite takes a comment that is not closed; files may not
		}
		require.Equal(t, fmt.Sprint(good, whole), fmt.Sprint(finished, parts), "seed %d: %q", seed, script)
	}
	require.Greater(t, valid, scriptsTried/10)
}

// row steps a statement once and returns its values.
func row(s *stmt) string {
	var b strings.Builder
	if _, err := s.step(); err != nil {
		return "error"
	}
	for i := range s.columns {
		text := string(s.columnText(i))
		if !utf8.ValidString(text) {
			text = "bytes"
		}
		fmt.Fprintf(&b, "%q ", text)
	}
	return b.String()
}
