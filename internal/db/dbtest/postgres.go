package dbtest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

// postgresURL names a server to be used instead of one that is started here. Its login must be allowed to
// create databases.
const postgresURL = "RUNNER_TEST_POSTGRES_URL"

// shared is the one server of a test process.
type shared struct {
	once   sync.Once
	server *PostgresServer
	url    string // of the maintenance database
	err    error
}

var (
	sharedPostgres shared
	databases      atomic.Uint64
)

// Postgres returns the connection string of a new, empty database that only this test uses: on the server that
// RUNNER_TEST_POSTGRES_URL names, else on one that is started once for the test process and ends with it (see
// Main). The database is dropped after the test. Without a server the test is skipped; with
// REQUIRE_SERVICES=1 it fails.
func Postgres(t testing.TB) string {
	t.Helper()
	s := &sharedPostgres
	s.once.Do(s.start)
	if s.err != nil {
		missing(t, s.err)
	}
	return createDatabase(t, s.url)
}

// Main runs the tests of a package and then stops the server that they shared. Use it in TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }
//
// A server also ends when the test process is killed.
func Main(m *testing.M) int {
	code := m.Run()
	StopPostgres()
	return code
}

// StopPostgres stops the shared server, if one was started. It is for a TestMain of its own; afterwards no
// test may ask for a database.
func StopPostgres() {
	if s := sharedPostgres.server; s != nil {
		s.end()
	}
}

func (s *shared) start() {
	if s.url = os.Getenv(postgresURL); s.url != "" {
		return
	}
	if s.server, s.err = newPostgresServer(); s.err == nil {
		s.url = s.server.URL("postgres")
	}
}

// missing skips the test for want of PostgreSQL, or fails it where services are required.
func missing(t testing.TB, err error) {
	t.Helper()
	absent(t, "PostgreSQL", err)
}

// absent skips the test, or fails it where services are required.
func absent(t testing.TB, service string, err error) {
	t.Helper()
	if os.Getenv("REQUIRE_SERVICES") == "1" {
		t.Fatalf("%s is required (REQUIRE_SERVICES=1): %v", service, err)
	}
	t.Skipf("SKIPPED, not tested: no %s: %v", service, err)
}

// createDatabase makes a database on the server of that connection string and returns its own.
func createDatabase(t testing.TB, server string) string {
	t.Helper()
	name := fmt.Sprintf("t%d_%d", os.Getpid(), databases.Add(1))
	admin(t, server, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'")
	t.Cleanup(func() { admin(t, server, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatalf("%s is not a URL: write postgres://user:password@host:port/database", postgresURL)
	}
	u.Path = "/" + name
	return u.String()
}

// admin runs one statement on a connection of its own.
func admin(t testing.TB, server, sql string) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	conn, err := pgx.Connect(ctx, server)
	if err == nil {
		_, err = conn.Exec(ctx, sql)
		_ = conn.Close(ctx)
	}
	if err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}
