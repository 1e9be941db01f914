package main

import (
	"context"
	"fmt"
	"strings"
)

// engines are the types of the databases.
var engines = map[string]string{shop: "postgres", edge: "sqlite", depot: "sqlserver"}

// The same statements in the words of each database.
var (
	numberedRows = map[string]string{
		shop: `SELECT i, 'row ' || i AS name FROM generate_series(1, :n::int) AS i`,
		edge: `WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r WHERE i < :n) SELECT i, 'row ' || i AS name FROM r`,
		depot: `SELECT i, CONCAT('row ', i) AS name FROM (SELECT CAST(ROW_NUMBER() OVER (ORDER BY a.id, b.id) AS int) AS i
	FROM accounts a CROSS JOIN accounts b) r WHERE i <= :n ORDER BY i`,
	}
	insertNumbered = map[string]string{
		shop: insertNumberedRows + `i, :private FROM generate_series(1, :n::int) AS i RETURNING amount AS i, 'row ' || amount AS name`,
		depot: insertNumberedRows + `i, :private FROM (SELECT CAST(ROW_NUMBER() OVER (ORDER BY a.id, b.id) AS int) AS i FROM accounts a CROSS JOIN accounts b) r
	WHERE i <= :n SELECT amount AS i, CONCAT('row ', amount) AS name FROM effects WHERE request = :request ORDER BY amount`,
	}
	largeText = map[string]string{
		shop:  `SELECT repeat('x', :n::int) AS text`,
		depot: `SELECT REPLICATE(CAST('x' AS varchar(max)), :n) AS text`,
	}
	insertOwnRow = map[string]string{
		shop: `INSERT INTO dbrunner.ledger (namespace, database_name, job_id, status, answer, sequence, message_time, runner)
	VALUES (:namespace, :database, :id, 'succeeded', '{}', 1, 0, 'other')`,
		depot: `INSERT INTO dbrunner.ledger (namespace, database_name, job_id, status, answer, sequence, message_time, runner)
	VALUES (:namespace, :database, :id, 'succeeded', CAST('{}' AS varbinary(max)), 1, 0, 'other')`,
	}
	migrationText = map[string]string{
		shop:  "CREATE TABLE migrated_%d (n integer);\nSELECT pg_sleep(0.2);\n",
		depot: "CREATE TABLE migrated_%d (n integer);\nEXEC sleep_for '00:00:00.200';\n",
	}
)

const insertNumberedRows = `INSERT INTO effects (request, source, target, amount, private) SELECT :request, 0, 0, `

// guard is a statement that fails until the gate of its database is open.
func guard(database string) body {
	if database == depot {
		return body{"sql": "SELECT 1 AS one FROM gates WHERE yes = 1", "expect_rows": 1}
	}
	return body{"sql": "SELECT 1 FROM gates WHERE open", "expect_rows": 1}
}

// openGate opens the gate of a database.
func openGate(ctx context.Context, r *round, database string) error {
	db, done, err := openDatabase(r, database)
	if err != nil {
		return err
	}
	defer done()
	yes := map[string]string{shop: "true", depot: "1"}[database]
	_, err = db.ExecContext(ctx, `INSERT INTO gates SELECT `+yes+` WHERE NOT EXISTS (SELECT 1 FROM gates)`)
	return err
}

// sleeping is a statement that takes a time.
func sleeping(database string, seconds float64) body {
	if database == depot {
		return body{"sql": fmt.Sprintf("EXEC sleep_for '00:00:%06.3f'", seconds)}
	}
	return body{"sql": fmt.Sprintf("SELECT pg_sleep(%g)", seconds)}
}

// placeholder is what precedes the number of a parameter.
func placeholder(database string) string {
	if database == depot {
		return "@p"
	}
	return "$"
}

// inWords puts the types of a named statement's parameters into the words of a database.
func inWords(database, text string) string {
	if database == depot {
		text = strings.NewReplacer("{type: text, schema", "{type: nvarchar, schema", "{type: integer, schema", "{type: int, schema").Replace(text)
	}
	return text
}
