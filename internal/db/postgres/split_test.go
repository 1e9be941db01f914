package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

// scriptsTried is how many random scripts are held against PostgreSQL, in flights of scriptsInParallel.
const scriptsTried, scriptsInParallel = 30_000, 50

// TestSplitterAgainstPostgreSQL: the parts that a script is cut into do what the script does when the server cuts it: the
// same statements, with the same results, and an error where the server finds one.
func TestSplitterAgainstPostgreSQL(t *testing.T) {
	t.Parallel()
	opts := options(t)
	engine, err := postgres.Migrations(opts)
	require.NoError(t, err)
	d := engine.Dialect()
	conn, err := pgconn.Connect(t.Context(), opts.ConnectionString)
	require.NoError(t, err)
	raw, err := conn.Hijack()
	require.NoError(t, err)
	defer func() { _ = raw.Conn.Close() }()
	seed := rand.Uint64()
	random := &dbtest.Scripts{
		Rand: rand.New(rand.NewPCG(seed, 1)), Dialect: d,
		Body: "CREATE OR REPLACE FUNCTION pg_temp.f() RETURNS text BEGIN ATOMIC",
	}
	valid := 0
	for range scriptsTried / scriptsInParallel {
		var scripts []string
		var parts [][]dialect.Part
		for range scriptsInParallel {
			script := random.Next()
			scripts, parts = append(scripts, script), append(parts, dialect.Split(d, script))
			raw.Frontend.Send(&pgproto3.Query{String: script})
			raw.Frontend.Send(&pgproto3.Query{String: "ROLLBACK"}) // a BEGIN may be among it
			for _, part := range parts[len(parts)-1] {
				raw.Frontend.Send(&pgproto3.Query{String: part.SQL})
			}
			raw.Frontend.Send(&pgproto3.Query{String: "ROLLBACK"})
		}
		require.NoError(t, raw.Frontend.Flush())
		for i, script := range scripts {
			whole, good := answered(t, raw.Frontend)
			_, _ = answered(t, raw.Frontend)
			var pieces []string
			fine := dialect.Unfinished(d, script) == ""
			for range parts[i] {
				piece, ok := answered(t, raw.Frontend)
				pieces = append(pieces, piece...)
				fine = fine && ok
			}
			_, _ = answered(t, raw.Frontend)
			require.Equal(t, good, fine, "seed %d: %q", seed, script)
			if good {
				valid++
				require.Equal(t, fmt.Sprint(whole), fmt.Sprint(pieces), "seed %d: %q", seed, script)
				require.Len(t, pieces, len(parts[i]), "seed %d: %q", seed, script)
			}
		}
	}
	require.Greater(t, valid, scriptsTried/10)
}

// answered reads the answer to one text: the rows and tag of each of its statements, and whether there was no error.
func answered(t *testing.T, frontend *pgproto3.Frontend) (statements []string, good bool) {
	t.Helper()
	good = true
	rows := ""
	for {
		msg, err := frontend.Receive()
		require.NoError(t, err)
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			rows += fmt.Sprintf("%q", m.Values)
		case *pgproto3.CommandComplete:
			statements = append(statements, rows+string(m.CommandTag))
			rows = ""
		case *pgproto3.ErrorResponse:
			good = false
		case *pgproto3.ReadyForQuery:
			return statements, good
		}
	}
}
