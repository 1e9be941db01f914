package dbtest

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	mssql "github.com/microsoft/go-mssqldb"
)

// SQLServerVariable names the SQL Server to be used, sqlserver://user:password@host:port?encrypt=…; its login must be allowed
// to create databases. None is started here.
const SQLServerVariable = "RUNNER_TEST_SQLSERVER_URL"

// sqlServerLacks names what the server is known not to do as SQL Server does, separated by commas:
// words of Features.Lacks. It is for other servers that speak the same protocol.
const sqlServerLacks = "RUNNER_TEST_SQLSERVER_LACKS"

// SQLServer returns the connection string of a new, empty database of this test, on the server that RUNNER_TEST_SQLSERVER_URL names. Without
// the variable the test is skipped, also where services are required: SQL Server cannot be installed everywhere.
func SQLServer(t testing.TB) string {
	t.Helper()
	server := os.Getenv(SQLServerVariable)
	if server == "" {
		t.Skipf("SKIPPED, not tested: no SQL Server: %s names none", SQLServerVariable)
	}
	name, ctx := fmt.Sprintf("t%d_%d", os.Getpid(), databases.Add(1)), context.WithoutCancel(t.Context())
	connection, err := CreateSQLServer(ctx, server, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := DropSQLServer(ctx, server, name); err != nil {
			t.Error(err)
		}
	})
	return connection
}

// CreateSQLServer creates an empty database on a server, and returns its connection string.
func CreateSQLServer(ctx context.Context, server, name string) (string, error) {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "sqlserver" {
		return "", fmt.Errorf("%s is not a URL: write sqlserver://user:password@host:port?encrypt=true", SQLServerVariable)
	}
	if err := retrySQLServer(ctx, server, "CREATE DATABASE "+name); err != nil {
		return "", fmt.Errorf("create database %s: %w", name, err)
	}
	// Readers do not wait for writers, as in most databases; a server that always works so need not know the words.
	for _, option := range []string{"READ_COMMITTED_SNAPSHOT", "ALLOW_SNAPSHOT_ISOLATION"} {
		_ = trySQLServer(ctx, server, "ALTER DATABASE "+name+" SET "+option+" ON")
	}
	q := u.Query()
	q.Set("database", name)
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// SQLServerLacks reports whether the server is known not to do something; see Features.Lacks.
func SQLServerLacks() map[string]bool {
	lacks := map[string]bool{}
	for word := range strings.SplitSeq(os.Getenv(sqlServerLacks), ",") {
		if word = strings.TrimSpace(word); word != "" {
			lacks[word] = true
		}
	}
	return lacks
}

// DropSQLServer drops a database, whose last sessions may be ending still.
func DropSQLServer(ctx context.Context, server, name string) error {
	_ = trySQLServer(ctx, server, "ALTER DATABASE "+name+" SET SINGLE_USER WITH ROLLBACK IMMEDIATE")
	if err := retrySQLServer(ctx, server, "DROP DATABASE "+name); err != nil {
		return fmt.Errorf("drop database %s: %w", name, err)
	}
	return nil
}

// sqlServerCatalog lets this process make and drop one database at a time; other processes may be in the way still.
var sqlServerCatalog sync.Mutex

// retrySQLServer repeats a statement that fails while others use what it needs.
func retrySQLServer(ctx context.Context, server, statement string) (err error) {
	sqlServerCatalog.Lock()
	defer sqlServerCatalog.Unlock()
	for range 40 {
		if err = trySQLServer(ctx, server, statement); err == nil {
			return nil
		}
		time.Sleep(50 * time.Millisecond) // by the clock: the server sends no event when it is free
	}
	return err
}

// trySQLServer runs one statement on a connection of its own.
func trySQLServer(ctx context.Context, server, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	connector, err := mssql.NewConnector(server)
	if err != nil {
		return err
	}
	pool := sql.OpenDB(connector)
	defer func() { _ = pool.Close() }()
	_, err = pool.ExecContext(ctx, statement)
	return err
}
