package sqlserver_test

import "dbrunner/internal/db/dbtest"

// counted are ways to write rows, and how many they write.
func counted() []dbtest.WriteCase {
	return []dbtest.WriteCase{
		{Name: "CTE", Statements: []string{"WITH d AS (SELECT id FROM item WHERE id <= 2) DELETE FROM item WHERE id IN (SELECT id FROM d)"}, Rows: 2},
		{Name: "UPDATE FROM", Statements: []string{"UPDATE item SET amount = s.n FROM item JOIN (SELECT 2 AS n UNION ALL SELECT 3) s ON id = s.n"}, Rows: 2},
		{Name: "OUTPUT", Statements: []string{"DELETE FROM item OUTPUT deleted.id WHERE id > 2"}, Rows: 4},
		{Name: "TOP", Statements: []string{"DELETE TOP (3) FROM item"}, Rows: 3},
		{Name: "several statements", Statements: []string{"SELECT 1 AS n DELETE FROM item WHERE id = 1 UPDATE item SET amount = 2"}, Rows: 6},
		{Name: "rows read before OUTPUT", Statements: []string{"SELECT 1 AS n DELETE FROM item OUTPUT deleted.id WHERE id > 1"}, Rows: 6},
		{Name: "IF", Statements: []string{"IF EXISTS (SELECT 1 FROM item) DELETE FROM item"}, Rows: 6},
		{
			Name: "trigger", Trail: "trail", Setup: []string{
				"CREATE TABLE trail (id INTEGER)", "CREATE TRIGGER t ON item AFTER INSERT AS INSERT INTO trail SELECT id FROM inserted",
			},
			Statements: []string{"INSERT INTO item (id, name) VALUES (31, 'a'), (32, 'b')"}, Rows: 4,
		},
		{
			Name: "MERGE", Statements: []string{"MERGE INTO item USING (SELECT 5 AS n UNION ALL SELECT 6 UNION ALL SELECT 7) s ON id = n WHEN MATCHED THEN UPDATE SET amount = 1 " +
				"WHEN NOT MATCHED THEN INSERT (id, name) VALUES (n, 'new');"}, Rows: 3, Needs: dbtest.LacksMerge,
		},
	}
}

// notCountable are ways to change rows that are not counted.
func notCountable() []dbtest.WriteCase {
	return []dbtest.WriteCase{
		{Name: "TRUNCATE", Statements: []string{"TRUNCATE TABLE part"}, Names: "TRUNCATE TABLE"},
		{Name: "EXEC", Statements: []string{"EXEC ('UPDATE item SET amount = 1')"}, Names: "EXEC"},
		{Name: "EXECUTE", Statements: []string{"EXECUTE sp_executesql N'UPDATE item SET amount = 1'"}, Names: "EXECUTE"},
		{Name: "EXEC behind another statement", Statements: []string{"UPDATE item SET amount = 2 EXEC ('UPDATE item SET amount = 1')"}, Names: "EXEC"},
		{Name: "INSERT EXEC", Setup: []string{"CREATE TABLE trail (id INTEGER)"}, Statements: []string{"INSERT INTO trail EXEC ('SELECT id FROM item')"}, Names: "EXEC"},
		{Name: "NOCOUNT", Statements: []string{"SET NOCOUNT ON UPDATE item SET amount = 1"}, Names: "NOCOUNT"},
		{Name: "ALTER", Statements: []string{"ALTER TABLE item ADD more INTEGER"}, Names: "ALTER TABLE"},
		{Name: "CREATE INDEX", Statements: []string{"CREATE INDEX more ON item (amount)"}, Names: "CREATE INDEX"},
	}
}
