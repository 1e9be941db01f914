package dialect_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

func TestMultiRowInsert(t *testing.T) {
	t.Parallel()
	dollar, at := postgres(), sqlserver()
	for _, c := range []struct {
		dialect   *dialect.Dialect
		one, many string // empty: it is none
	}{
		{dollar, "INSERT INTO t (a, b) VALUES ($1, $2)", "INSERT INTO t (a, b) VALUES ($1, $2),($3, $4)"},
		{dollar, "insert into \"values\" values ($2 || 'x)', $1::int, DEFAULT) ; -- end", "insert into \"values\" values ($2 || 'x)', $1::int, DEFAULT),($4 || 'x)', $3::int, DEFAULT)"},
		{dollar, "INSERT INTO t (a, n) VALUES ($1, (SELECT max(n) + 1 FROM t))", ""},
		{dollar, "INSERT INTO t (a) VALUES (next_of($1))", ""},
		{dollar, "INSERT INTO t (a) VALUES ($1) ON CONFLICT DO NOTHING", ""},
		{dollar, "INSERT INTO t (a) VALUES ($1) RETURNING a", ""},
		{dollar, "INSERT INTO t (a) VALUES ($1), ($2)", ""},
		{dollar, "INSERT INTO t (a) SELECT $1", ""},
		{dollar, "INSERT INTO t DEFAULT VALUES", ""},
		{dollar, "INSERT INTO t (a) VALUES (1)", ""},
		{dollar, "UPDATE t SET a = $1", ""},
		{at, "INSERT INTO [t(] (a, b) VALUES (@p1, N'@p2' + @p2)", "INSERT INTO [t(] (a, b) VALUES (@p1, N'@p2' + @p2),(@p3, N'@p2' + @p4)"},
		{at, "INSERT INTO t (a) OUTPUT inserted.a VALUES (@p1)", ""},
	} {
		s := dialect.ParseMultiRowInsert(c.dialect, c.one)
		if c.many == "" {
			require.Nil(t, s, c.one)
			continue
		}
		require.NotNil(t, s, c.one)
		require.Equal(t, 2, s.Params)
		require.Equal(t, c.many, s.Text(2))
		require.Equal(t, c.many, s.Text(2))
	}
}
