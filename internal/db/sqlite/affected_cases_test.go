package sqlite_test

import "dbrunner/internal/db/dbtest"

// counted are ways to write rows, and how many they write.
func counted() []dbtest.WriteCase {
	tagged := []string{
		"CREATE TABLE tagged (id INTEGER PRIMARY KEY, item INTEGER REFERENCES item (id) ON DELETE CASCADE ON UPDATE CASCADE)",
		"INSERT INTO tagged SELECT 10 * id + n, id FROM item, (SELECT 1 AS n UNION ALL SELECT 2)",
	}
	return []dbtest.WriteCase{
		{Name: "CTE", Statements: []string{"WITH d AS (SELECT 1 AS id UNION ALL SELECT 2) DELETE FROM item WHERE id IN (SELECT id FROM d)"}, Rows: 2},
		{Name: "UPDATE FROM", Statements: []string{"UPDATE item SET amount = s.n FROM (SELECT 2 AS n UNION ALL SELECT 3) s WHERE id = s.n"}, Rows: 2},
		{Name: "RETURNING", Statements: []string{"DELETE FROM item WHERE id > 2 RETURNING id"}, Rows: 4},
		{Name: "ON CONFLICT", Statements: []string{"INSERT INTO item (id, name) VALUES (1, 'x'), (21, 'y') ON CONFLICT (id) DO UPDATE SET amount = 5"}, Rows: 2},
		{Name: "REPLACE", Statements: []string{"REPLACE INTO item (id, name) VALUES (31, 'a'), (32, 'b')"}, Rows: 2},
		{Name: "all rows at once", Statements: []string{"DELETE FROM item"}, Rows: 6},
		{
			Name: "trigger", Trail: "trail", Setup: []string{
				"CREATE TABLE trail (id INTEGER)", "CREATE TRIGGER t AFTER INSERT ON item BEGIN INSERT INTO trail VALUES (1), (2); END",
			},
			Statements: []string{"INSERT INTO item (id, name) VALUES (31, 'a'), (32, 'b')"}, Rows: 6,
		},
		{Name: "delete cascades", Setup: tagged, Statements: []string{"DELETE FROM item WHERE id <= 3"}, Rows: 9},
		{Name: "update cascades", Setup: tagged, Statements: []string{"UPDATE item SET id = 77 WHERE id = 3"}, Rows: 3},
		{
			Name: "view", Setup: []string{
				"CREATE VIEW seen AS SELECT id FROM item", "CREATE TRIGGER t INSTEAD OF DELETE ON seen BEGIN DELETE FROM item WHERE id = OLD.id; END",
			},
			Statements: []string{"DELETE FROM seen WHERE id < 5"}, Rows: 4,
		},
	}
}

// notCountable are ways to change rows that are not counted.
func notCountable() []dbtest.WriteCase {
	return []dbtest.WriteCase{
		{Name: "ALTER", Statements: []string{"ALTER TABLE item ADD COLUMN more INTEGER DEFAULT 1"}, Names: "ALTER TABLE"},
		{Name: "CREATE INDEX", Statements: []string{"CREATE INDEX more ON item (amount)"}, Names: "CREATE INDEX"},
		{Name: "CREATE TABLE AS", Statements: []string{"CREATE TABLE copied AS SELECT * FROM item"}, Names: "CREATE TABLE"},
		{Name: "ANALYZE", Statements: []string{"ANALYZE"}, Names: "ANALYZE"},
		{Name: "REINDEX", Statements: []string{"REINDEX"}, Names: "REINDEX"},
	}
}
