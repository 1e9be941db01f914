package postgres_test

import "dbrunner/internal/db/dbtest"

const (
	createTagged = "CREATE TABLE tagged (id integer PRIMARY KEY, item integer REFERENCES item (id) ON DELETE CASCADE ON UPDATE CASCADE)"
	tagThem      = "INSERT INTO tagged SELECT 10 * i.id + n, i.id FROM item i, generate_series(1, 2) n"
	createTrail  = "CREATE TABLE trail (id integer)"
	createParted = "CREATE TABLE parted (id integer, at integer) PARTITION BY RANGE (at)"
	partLow      = "CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (10)"
	partHigh     = "CREATE TABLE parted_high PARTITION OF parted FOR VALUES FROM (10) TO (20)"
)

// counted are ways to write rows, and how many they write.
func counted() []dbtest.WriteCase {
	leave := "CREATE FUNCTION leave() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO trail VALUES (1), (2); RETURN NEW; END$$"
	return []dbtest.WriteCase{
		{Name: "CTE", Statements: []string{"WITH d AS (DELETE FROM item WHERE id <= 5 RETURNING *) SELECT count(*) FROM d"}, Rows: 5},
		{Name: "CTE that moves", Setup: []string{createTrail}, Statements: []string{"WITH d AS (DELETE FROM item RETURNING id) INSERT INTO trail SELECT id FROM d WHERE id = 1"}, Rows: 7},
		{Name: "MERGE", Statements: []string{"MERGE INTO item USING generate_series(4, 9) s (n) ON id = n WHEN MATCHED AND n = 4 THEN DELETE " +
			"WHEN MATCHED THEN UPDATE SET amount = 1 WHEN NOT MATCHED THEN INSERT (id, name) VALUES (n, n::text)"}, Rows: 6},
		{Name: "UPDATE FROM", Statements: []string{"UPDATE item SET amount = s.n FROM generate_series(2, 4) s (n) WHERE id = s.n"}, Rows: 3},
		{Name: "RETURNING", Statements: []string{"DELETE FROM item WHERE id > 2 RETURNING id"}, Rows: 4},
		{Name: "ON CONFLICT", Statements: []string{"INSERT INTO item (id, name) VALUES (1, 'x'), (21, 'y') ON CONFLICT (id) DO UPDATE SET amount = 5"}, Rows: 2},
		{
			Name: "trigger", Trail: "trail", Setup: []string{createTrail, leave, "CREATE TRIGGER t AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION leave()"},
			Statements: []string{"INSERT INTO item (id, name) VALUES (31, 'a'), (32, 'b')"}, Rows: 6,
		},
		{Name: "delete cascades", Setup: []string{createTagged, tagThem}, Statements: []string{"DELETE FROM item WHERE id <= 3"}, Rows: 9},
		{Name: "update cascades", Setup: []string{createTagged, tagThem}, Statements: []string{"UPDATE item SET id = 77 WHERE id = 3"}, Rows: 3},
		{
			Name: "partitions", Setup: []string{createParted, partLow, partHigh},
			Statements: []string{"INSERT INTO parted SELECT n, n FROM generate_series(1, 19) n", "DELETE FROM parted WHERE at > 15"}, Rows: 23,
		},
		{
			// A row that moves is deleted here and inserted there.
			Name: "between partitions", Setup: []string{createParted, partLow, partHigh, "INSERT INTO parted VALUES (1, 1), (2, 2)"},
			Statements: []string{"UPDATE parted SET at = at + 10"}, Rows: 4,
		},
		{
			Name: "function", Setup: []string{"CREATE FUNCTION spare() RETURNS integer LANGUAGE plpgsql AS $$BEGIN DELETE FROM item WHERE id <= 4; RETURN 1; END$$"},
			Statements: []string{"SELECT spare()"}, Rows: 4,
		},
		{Name: "DO", Statements: []string{"DO $$BEGIN FOR i IN 40..44 LOOP INSERT INTO item (id, name) VALUES (i, i::text); END LOOP; END$$"}, Rows: 5},
		{Name: "procedure", Setup: []string{"CREATE PROCEDURE clear() LANGUAGE sql AS 'DELETE FROM item WHERE id < 3'"}, Statements: []string{"CALL clear()"}, Rows: 2},
		{Name: "EXPLAIN ANALYZE", Statements: []string{"EXPLAIN ANALYZE DELETE FROM item"}, Rows: 6},
		{
			// The pieces of a large value are part of its row.
			Name: "large values", Statements: []string{"INSERT INTO wide SELECT n, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 1000)) FROM generate_series(1, 2) n"},
			Setup: []string{"CREATE TABLE wide (id integer, text text)"}, Rows: 2,
		},
		{Name: "large objects", Statements: []string{"SELECT lo_from_bytea(0, 'abc')"}, Rows: 2},
		{Name: "temporary tables", Setup: []string{
			"CREATE FUNCTION aside() RETURNS integer LANGUAGE plpgsql AS $$BEGIN CREATE TEMP TABLE aside (id integer PRIMARY KEY) ON COMMIT DROP; " +
				"INSERT INTO aside VALUES (1), (2); DELETE FROM item WHERE id IN (SELECT id FROM aside); RETURN 1; END$$",
		}, Statements: []string{"SELECT aside()"}, Rows: 4},
		{Name: "search_path", Statements: []string{
			"SELECT set_config('search_path', 'evil, public, pg_catalog', true)", "DELETE FROM item",
		}, Setup: []string{
			"CREATE SCHEMA evil", "CREATE FUNCTION evil.no(oid, oid) RETURNS boolean LANGUAGE sql AS 'SELECT false'",
			"CREATE OPERATOR evil.= (LEFTARG = oid, RIGHTARG = oid, FUNCTION = evil.no)",
			"CREATE VIEW evil.pg_locks AS SELECT 0 AS relation", "CREATE VIEW evil.pg_class AS SELECT 0 AS oid",
		}, Rows: 6},
		{Name: "savepoints of a function", Setup: []string{
			"CREATE FUNCTION tries() RETURNS integer LANGUAGE plpgsql AS $$BEGIN DELETE FROM item WHERE id = 1; BEGIN DELETE FROM item WHERE id = 2; " +
				"EXCEPTION WHEN division_by_zero THEN RETURN 0; END; RETURN 1; END$$",
		}, Statements: []string{"SELECT tries()"}, Rows: 2},
	}
}

// notCountable are ways to change rows that are not counted.
func notCountable() []dbtest.WriteCase {
	wiped := "CREATE FUNCTION wipe() RETURNS integer LANGUAGE plpgsql AS $$BEGIN TRUNCATE tagged; RETURN 1; END$$"
	return []dbtest.WriteCase{
		{Name: "TRUNCATE", Setup: []string{createTagged}, Statements: []string{"TRUNCATE tagged"}, Names: "TRUNCATE"},
		{Name: "GRANT", Statements: []string{"GRANT SELECT ON item TO PUBLIC"}, Names: "GRANT"},
		{Name: "COMMENT", Statements: []string{"COMMENT ON TABLE item IS 'x'"}, Names: "COMMENT"},
		{Name: "REFRESH", Setup: []string{"CREATE MATERIALIZED VIEW seen AS SELECT * FROM item"}, Statements: []string{"REFRESH MATERIALIZED VIEW seen"}, Names: "REFRESH"},
		{Name: "TRUNCATE in a function", Setup: []string{createTagged, wiped}, Statements: []string{"SELECT wipe()"}, Names: "tagged"},
		{Name: "TRUNCATE in a DO block", Setup: []string{createTagged}, Statements: []string{"DO $$BEGIN TRUNCATE tagged; END$$"}, Names: "tagged"},
		{Name: "TRUNCATE in the function of a CTE", Setup: []string{createTagged, wiped}, Statements: []string{"WITH w AS (SELECT wipe() AS n) SELECT n FROM w"}, Names: "tagged"},
		{Name: "TRUNCATE in a trigger", Setup: []string{
			createTagged, "CREATE FUNCTION wipes() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN TRUNCATE tagged; RETURN NULL; END$$",
			"CREATE TRIGGER t AFTER UPDATE ON item FOR EACH STATEMENT EXECUTE FUNCTION wipes()",
		}, Statements: []string{"UPDATE item SET amount = 1 WHERE id = 0"}, Names: "tagged"},
		{Name: "DROP in a DO block", Setup: []string{createTrail}, Statements: []string{"DO $$BEGIN DROP TABLE trail; END$$"}, Names: "a relation that was dropped"},
		{Name: "CREATE TABLE AS in a DO block", Statements: []string{"DO $$BEGIN CREATE TABLE copied AS SELECT * FROM item; END$$"}, Names: "copied"},
		{Name: "SELECT INTO", Statements: []string{"SELECT * INTO copied FROM item"}, Names: "copied"},
		{Name: "LOCK", Statements: []string{"LOCK TABLE item"}, Names: "item"},
		{Name: "TRUNCATE of a partition", Setup: []string{createParted, partLow}, Statements: []string{"DO $$BEGIN TRUNCATE parted; END$$"}, Names: "parted"},
		{Name: "foreign table", Setup: []string{
			"CREATE EXTENSION postgres_fdw", createTrail,
			"DO $$BEGIN EXECUTE format('CREATE SERVER here FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)', " +
				"host(inet_server_addr()), inet_server_port(), current_database()); END$$",
			"CREATE USER MAPPING FOR CURRENT_USER SERVER here OPTIONS (user 'postgres')",
			"CREATE FOREIGN TABLE afar (id integer) SERVER here OPTIONS (table_name 'trail')",
		}, Statements: []string{"INSERT INTO afar VALUES (1)"}, Names: "foreign table afar"},
	}
}
