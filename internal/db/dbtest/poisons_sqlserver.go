package dbtest

// execute is T-SQL that the runner sees only as a string; quotes in it are written twice.
func execute(sql string) string { return "EXEC ('" + sql + "')" }

// ledgerTrigger puts a trigger on the ledger, in the job's own transaction.
func ledgerTrigger(name, kind, body string) Poison {
	return poison(name, "CREATE TRIGGER dbrunner.in_the_way ON dbrunner.ledger "+kind+" INSERT AS BEGIN "+body+" END")
}

// SQLServerPoisons are those of SQL Server, for a login that may do everything.
func SQLServerPoisons() []Poison {
	list := []Poison{
		poison("ledger dropped", "DROP TABLE dbrunner.ledger"),
		poison("ledger dropped, dynamic", execute("DROP TABLE dbrunner.ledger")),
		poison("ledger and schema dropped", "DROP TABLE dbrunner.ledger", "DROP SCHEMA dbrunner"),
		poison("ledger renamed", "EXEC sp_rename 'dbrunner.ledger', 'gone'"),
		poison("ledger moved", "ALTER SCHEMA dbo TRANSFER dbrunner.ledger"),
		poison("column renamed", "EXEC sp_rename 'dbrunner.ledger.status', 'gone', 'COLUMN'"),
		poison("column dropped", "ALTER TABLE dbrunner.ledger DROP COLUMN answer"),
		poison("column altered", "ALTER TABLE dbrunner.ledger ALTER COLUMN status varchar(1) NOT NULL"),
		poison("column that nothing fills", "ALTER TABLE dbrunner.ledger ADD extra integer NOT NULL"),
		poison("check that nothing passes", "ALTER TABLE dbrunner.ledger WITH NOCHECK ADD CONSTRAINT nothing CHECK (sequence < 0)"),
		poison("view in its place", "EXEC sp_rename 'dbrunner.ledger', 'real_one'", "CREATE VIEW dbrunner.ledger AS SELECT 1 AS n"),
		poison("table in its place", "DROP TABLE dbrunner.ledger", "CREATE TABLE dbrunner.ledger (n integer)"),
		poison("synonym in its place", "DROP TABLE dbrunner.ledger", "CREATE SYNONYM dbrunner.ledger FOR dbo.item"),
		poison("synonym of nothing in its place", "EXEC sp_rename 'dbrunner.ledger', 'real_one'", "CREATE SYNONYM dbrunner.ledger FOR nosuch.dbo.ledger"),
		poison("rights denied", "DENY INSERT ON dbrunner.ledger TO public"),
		ledgerTrigger("trigger that refuses", "AFTER", "RAISERROR ('no', 16, 1)"),
		ledgerTrigger("trigger that throws", "AFTER", "THROW 50000, 'no', 1"),
		ledgerTrigger("trigger that rolls back", "AFTER", execute("ROLLBACK")),
		ledgerTrigger("trigger that commits", "AFTER", execute("COMMIT")),
		ledgerTrigger("trigger that deletes the row", "AFTER", "DELETE FROM dbrunner.ledger"),
		ledgerTrigger("trigger that does nothing instead", "INSTEAD OF", "SET NOCOUNT ON"),
		ledgerTrigger("trigger that answers", "AFTER", "SELECT CAST(1 AS bigint)"),
		ledgerTrigger("trigger that divides by zero", "AFTER", "SELECT 1 / 0 AS n"),
		ledgerTrigger("trigger that needs what is not there", "AFTER", "INSERT INTO nosuch (n) VALUES (1)"),
		ledgerTrigger("trigger that looks like a taken key", "AFTER", "INSERT INTO dbo.item (id, name) VALUES (1, ''), (1, '')"),
		ledgerTrigger("trigger that ends the session", "AFTER", "RAISERROR ('end', 20, 1) WITH LOG"),
		poison("ledger locked", "SELECT COUNT(*) AS n FROM dbrunner.ledger WITH (TABLOCKX, HOLDLOCK)"),
		poison("lock timeout", "SET LOCK_TIMEOUT 0"),
		poison("own session killed", "DECLARE @sql varchar(50) = 'KILL ' + CAST(@@SPID AS varchar(10)) EXEC (@sql)"),
		poison("error that ends the session", "RAISERROR ('end', 20, 1) WITH LOG"),
		poison("error that ends the session, dynamic", execute("RAISERROR (''end'', 25, 1) WITH LOG")),
		poison("error that goes on", "SET XACT_ABORT OFF RAISERROR ('no', 16, 1)"),
		poison("error that is not shown", "SET XACT_ABORT OFF BEGIN TRY SELECT 1 / 0 AS n END TRY BEGIN CATCH SELECT 1 AS n END CATCH"),
		poison("doomed", "SET XACT_ABORT ON BEGIN TRY SELECT CAST('x' AS integer) AS n END TRY BEGIN CATCH SELECT 1 AS n END CATCH"),
		poison("division", "SELECT 1 / 0 AS n"),
		poison("recursion", execute("CREATE PROCEDURE dbo.again AS EXEC dbo.again"), "EXEC dbo.again"),
		poison("wait", "WAITFOR DELAY '00:00:30'"),
		poison("another database", execute("USE master")),
		poison("another user", execute("EXECUTE AS USER = ''guest''")),
		poison("application role", "EXEC sp_setapprole 'nosuch', 'x'"),
		poison("committed", execute("COMMIT")),
		poison("committed twice", execute("COMMIT COMMIT")),
		poison("rolled back", execute("ROLLBACK")),
		poison("started once more", execute("BEGIN TRAN")),
		poison("temporary table before it", "CREATE TABLE #ledger (n integer)", "CREATE TABLE dbo.ledger (n integer)"),
		poison("cursor left open", "DECLARE c CURSOR GLOBAL FOR SELECT 1 AS n", "OPEN c"),
		{Name: "query that fails while it runs", Query: true, SQL: []string{"SELECT 1 / 0 AS n"}},
		{
			Name: "query of a broken view", Query: true, SQL: []string{"SELECT * FROM dbo.broken"},
			Before: []string{"CREATE TABLE dbo.one (n integer)", "CREATE VIEW dbo.broken AS SELECT 1 / n AS n FROM dbo.one", "INSERT INTO dbo.one VALUES (0)"},
		},
	}
	for _, option := range []string{
		"NOEXEC ON", "PARSEONLY ON", "FMTONLY ON", "SHOWPLAN_ALL ON", "SHOWPLAN_TEXT ON", "SHOWPLAN_XML ON", "ROWCOUNT 1", "IMPLICIT_TRANSACTIONS ON",
		"XACT_ABORT OFF", "NOCOUNT ON", "ANSI_DEFAULTS ON", "ANSI_WARNINGS OFF", "QUOTED_IDENTIFIER OFF", "ARITHABORT OFF", "TEXTSIZE 1",
		"STATISTICS XML ON", "LANGUAGE German", "DATEFORMAT dmy", "DEADLOCK_PRIORITY LOW", "QUERY_GOVERNOR_COST_LIMIT 1", "IDENTITY_INSERT dbrunner.ledger ON",
	} {
		list = append(list, poison("SET "+option, "SET "+option),
			Poison{Name: "query with SET " + option, Query: true, SQL: []string{"SELECT 1 AS n SET " + option}})
	}
	return list
}
