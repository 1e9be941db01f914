package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"strings"

	_ "github.com/microsoft/go-mssqldb" // its drivers for database/sql
)

const (
	// sqlServerURL names the SQL Server that is measured as well, if it is set: sqlserver://user:password@host:port?…, of a
	// login that may create a database.
	sqlServerURL = "RUNNER_TEST_SQLSERVER_URL"
	// sqlServerDatabase is recreated, and stays afterwards.
	sqlServerDatabase = "dbrunner_bench"
	// sqlServerDriver is the driver's old name, under which it takes a question mark for a parameter, as the runner does.
	sqlServerDriver = "mssql"
	// sqlServerRows is how many rows one INSERT may have.
	sqlServerRows = 1000
)

func hasSQLServer() bool { return os.Getenv(sqlServerURL) != "" }

// sqlServerWorks are b and c on SQL Server.
func sqlServerWorks() []work {
	if !hasSQLServer() {
		return nil
	}
	return []work{
		{"sqlserver-b", sqlserver, "query", 20_000, selectItem("?"), itemRows},
		{"sqlserver-c", sqlserver, "transaction", 5_000, transfer("?", "?"), transferRows},
	}
}

// createSQLServer makes the database with its tables and returns its connection string; empty without a server.
func createSQLServer(ctx context.Context) (string, error) {
	if !hasSQLServer() {
		return "", nil
	}
	u, err := url.Parse(os.Getenv(sqlServerURL))
	if err != nil {
		return "", fmt.Errorf("%s is not a URL", sqlServerURL)
	}
	err = execSQLServer(ctx, u.String(), "DROP DATABASE IF EXISTS "+sqlServerDatabase, "CREATE DATABASE "+sqlServerDatabase)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("database", sqlServerDatabase)
	u.RawQuery = q.Encode()
	statements := []string{
		"CREATE TABLE items (id INT NOT NULL PRIMARY KEY, name NVARCHAR(100) NOT NULL, amount INT NOT NULL)",
		"CREATE TABLE accounts (id INT NOT NULL PRIMARY KEY, balance INT NOT NULL)",
		"CREATE TABLE effects (job INT NOT NULL, account INT NOT NULL)",
	}
	for first := 1; first <= items; first += sqlServerRows {
		var item, account strings.Builder
		for i := first; i < first+sqlServerRows; i++ {
			fmt.Fprintf(&item, ",(%d,'item %d',%d)", i, i, i%1000)
			fmt.Fprintf(&account, ",(%d,0)", i)
		}
		statements = append(statements, "INSERT INTO items VALUES "+item.String()[1:], "INSERT INTO accounts VALUES "+account.String()[1:])
	}
	return u.String(), execSQLServer(ctx, u.String(), statements...)
}

func execSQLServer(ctx context.Context, target string, statements ...string) error {
	return execSQL(ctx, sqlServerDriver, target, statements...)
}

// openBareSQLServer is the bare worker's: one pool, statements prepared by database/sql.
func openBareSQLServer(target string) (bareDatabase, error) {
	pool, err := sql.Open(sqlServerDriver, target)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	return &bareSQL{prepared: map[string]*sql.Stmt{}, readers: pool, writer: pool}, nil
}
