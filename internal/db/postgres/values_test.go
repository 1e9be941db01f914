package postgres_test

import (
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
)

// values has at least one case of every family of built-in types: the JSON text of a result's value and the
// name of its type.
func values() []dbtest.ValueCase {
	v := func(name, expr, typ, json string) dbtest.ValueCase {
		return dbtest.ValueCase{Name: name, SQL: "SELECT " + expr + " AS v", Type: typ, JSON: json}
	}
	return []dbtest.ValueCase{
		v("null", "NULL::integer", "integer", `null`),
		v("smallint", "(-32768)::smallint", "smallint", `-32768`),
		v("integer", "2147483647", "integer", `2147483647`),
		v("bigint", "9223372036854775807", "bigint", `"9223372036854775807"`),
		v("bigint small", "1::bigint", "bigint", `"1"`),
		v("oid", "4294967295::oid", "oid", `"4294967295"`),
		v("numeric", "1.10::numeric", "numeric", `"1.10"`),
		v("numeric long", "123456789012345678901234567890.123456789", "numeric", `"123456789012345678901234567890.123456789"`),
		v("numeric NaN", "'NaN'::numeric", "numeric", `"NaN"`),
		v("numeric infinity", "'-Infinity'::numeric", "numeric", `"-Infinity"`),
		v("real", "1.1::real", "real", `1.1`),
		v("double", "0.1::float8 + 0.2::float8", "double precision", `0.30000000000000004`),
		v("double large", "1e300::float8", "double precision", `1e+300`),
		v("double small", "5e-324::float8", "double precision", `5e-324`),
		v("double negative zero", "'-0'::float8", "double precision", `-0`),
		v("double NaN", "'NaN'::float8", "double precision", `"NaN"`),
		v("double infinity", "'Infinity'::float8", "double precision", `"Infinity"`),
		v("real negative infinity", "'-Infinity'::real", "real", `"-Infinity"`),
		v("money", "12345.67::numeric::money", "money", `"$12,345.67"`),
		v("boolean", "true", "boolean", `true`),
		v("boolean false", "false", "boolean", `false`),
		v("text", `E'a"b\\c\nd\u0001'`, "text", `"a\"b\\c\nd\u0001"`),
		v("text astral", `U&'\+01F986'`, "text", `"🦆"`),
		v("text empty", "''", "text", `""`),
		v("varchar", "'abc'::varchar(10)", "character varying", `"abc"`),
		v("char", "'abc'::char(5)", "character", `"abc  "`),
		v("one-byte char", `'a'::"char"`, `"char"`, `"a"`),
		v("name", "'abc'::name", "name", `"abc"`),
		v("bytea", `'\x00ff10'::bytea`, "bytea", `"AP8Q"`),
		v("bytea empty", `''::bytea`, "bytea", `""`),
		v("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'::uuid", "uuid", `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`),
		v("json", `'{"b": 1,  "a": 9007199254740993, "b": 1.10}'::json`, "json", `{"b": 1,  "a": 9007199254740993, "b": 1.10}`),
		v("jsonb", `'{"a": 9007199254740993, "b": 1.10, "c": 1e400}'::jsonb - 'c'`, "jsonb", `{"a": 9007199254740993, "b": 1.10}`),
		v("jsonb null", `'null'::jsonb`, "jsonb", `null`),
		v("json string", `'"x"'::json`, "json", `"x"`),
		v("jsonpath", `'$.a'::jsonpath`, "jsonpath", `"$.\"a\""`),
		v("date", "'2024-02-29'::date", "date", `"2024-02-29"`),
		v("date BC", "'0044-03-15 BC'::date", "date", `"0044-03-15 BC"`),
		v("date infinity", "'infinity'::date", "date", `"infinity"`),
		v("time", "'23:59:59.999999'::time", "time without time zone", `"23:59:59.999999"`),
		v("timetz", "'12:00:00+02'::timetz", "time with time zone", `"12:00:00+02"`),
		v("timestamp", "'2024-02-29 12:34:56.789'::timestamp", "timestamp without time zone", `"2024-02-29 12:34:56.789"`),
		v("timestamptz", "'2024-02-29 12:34:56+02'::timestamptz", "timestamp with time zone", `"2024-02-29 10:34:56+00"`),
		v("timestamptz infinity", "'-infinity'::timestamptz", "timestamp with time zone", `"-infinity"`),
		v("timestamp BC", "'0044-03-15 01:00:00 BC'::timestamp", "timestamp without time zone", `"0044-03-15 01:00:00 BC"`),
		v("interval", "'1 year 2 mons 3 days 04:05:06.7'::interval", "interval", `"P1Y2M3DT4H5M6.7S"`),
		v("interval mixed", "'-1 day +2 hours'::interval", "interval", `"P-1DT2H"`),
		v("interval zero", "'0'::interval", "interval", `"PT0S"`),
		v("array", "ARRAY[1, NULL, 3]", "integer[]", `"{1,NULL,3}"`),
		v("array 2d", "ARRAY[[1,2],[3,4]]", "integer[]", `"{{1,2},{3,4}}"`),
		v("array bounds", "'[0:1]={1,2}'::int4[]", "integer[]", `"[0:1]={1,2}"`),
		v("array text", `ARRAY['a', 'b"c', 'd,e', 'NULL', '']`, "text[]", `"{a,\"b\\\"c\",\"d,e\",\"NULL\",\"\"}"`),
		v("array empty", "'{}'::text[]", "text[]", `"{}"`),
		v("range", "'[1,5)'::int4range", "int4range", `"[1,5)"`),
		v("range empty", "'empty'::numrange", "numrange", `"empty"`),
		v("range time", "'[2024-01-01,)'::tstzrange", "tstzrange", `"[\"2024-01-01 00:00:00+00\",)"`),
		v("record", "(1, 'a b', NULL)", "record", `"(1,\"a b\",)"`),
		v("inet", "'192.168.0.1/24'::inet", "inet", `"192.168.0.1/24"`),
		v("cidr", "'2001:db8::/32'::cidr", "cidr", `"2001:db8::/32"`),
		v("macaddr", "'08:00:2b:01:02:03'::macaddr", "macaddr", `"08:00:2b:01:02:03"`),
		v("macaddr8", "'08:00:2b:01:02:03:04:05'::macaddr8", "macaddr8", `"08:00:2b:01:02:03:04:05"`),
		v("bit", "B'1010'", "bit", `"1010"`),
		v("varbit", "B'101'::varbit", "bit varying", `"101"`),
		v("point", "'(1,2.5)'::point", "point", `"(1,2.5)"`),
		v("box array", "ARRAY['(1,1),(0,0)'::box]", "box[]", `"{(1,1),(0,0)}"`),
		v("circle", "'<(1,2),3>'::circle", "circle", `"<(1,2),3>"`),
		v("tsvector", "'a:1 b:2'::tsvector", "tsvector", `"'a':1 'b':2"`),
		v("tsquery", "'a & b'::tsquery", "tsquery", `"'a' & 'b'"`),
		v("xml", "'<a/>'::xml", "xml", `"<a/>"`),
		v("pg_lsn", "'16/B374D848'::pg_lsn", "pg_lsn", `"16/B374D848"`),
		v("regclass", "'pg_class'::regclass", "regclass", `"pg_class"`),
		v("void", "pg_sleep(0)", "void", `""`),
		v("tid", "'(0,1)'::tid", "tid", `"(0,1)"`),
		v("xid8", "'5'::xid8", "xid8", `"5"`),
		v("system enum", "(SELECT deptype FROM pg_depend LIMIT 0)", `"char"`, `null`),
		v("composite of the database", "(SELECT t FROM information_schema.sql_features t LIMIT 0)",
			"information_schema.sql_features", `null`),
		v("domain", "'YES'::information_schema.yes_or_no", "character varying", `"YES"`),
	}
}

// params has cases of binding typed and untyped values.
func params() []dbtest.ParamCase {
	str := func(typ, s string) db.Value { return db.Value{Kind: db.String, Type: typ, Text: s} }
	raw := func(k db.ValueKind, typ, s string) db.Value { return db.Value{Kind: k, Type: typ, Text: s} }
	p := func(name, sql string, v db.Value, json string) dbtest.ParamCase {
		return dbtest.ParamCase{Name: name, SQL: sql, Value: v, JSON: json}
	}
	bad := func(name string, v db.Value, code db.Code) dbtest.ParamCase {
		return dbtest.ParamCase{Name: name, SQL: "SELECT :value AS v", Value: v, Code: code}
	}
	const self = "SELECT :value AS v"
	return []dbtest.ParamCase{
		p("text inferred", "SELECT :value || 'x' AS v", str("", "a'b"), `"a'bx"`),
		p("number inferred", "SELECT :value + 1 AS v", raw(db.Number, "", "41"), `42`),
		p("number exact", "SELECT :value::numeric AS v", raw(db.Number, "", "9007199254740993.10"), `"9007199254740993.10"`),
		p("boolean inferred", "SELECT NOT :value AS v", raw(db.Bool, "", "true"), `false`),
		p("null", "SELECT :value::integer AS v", db.Value{Kind: db.Null}, `null`),
		p("null typed", self, db.Value{Kind: db.Null, Type: "uuid"}, `null`),
		p("smallint", self, raw(db.Number, "smallint", "7"), `7`),
		p("int4", self, raw(db.Number, "int4", "7"), `7`),
		p("INTEGER", self, raw(db.Number, "INTEGER", "7"), `7`),
		p("bigint as text", self, str("bigint", "9223372036854775807"), `"9223372036854775807"`),
		p("numeric with precision", self, raw(db.Number, "numeric(10,2)", "1.50"), `"1.50"`),
		p("float8", self, raw(db.Number, "double precision", "1.5"), `1.5`),
		p("float8 NaN", self, str("float8", "NaN"), `"NaN"`),
		p("boolean", self, raw(db.Bool, "boolean", "true"), `true`),
		p("uuid", self, str("uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"), `"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`),
		p("bytea base64", self, str("bytea", "AP8Q"), `"AP8Q"`),
		p("bytea hex", self, str("bytea", `\x00ff10`), `"AP8Q"`),
		p("date", self, str("date", "2024-02-29"), `"2024-02-29"`),
		p("timestamptz", self, str("timestamp(3) with time zone", "2024-02-29T12:34:56.789Z"), `"2024-02-29 12:34:56.789+00"`),
		p("interval", self, str("interval", "P1DT2H"), `"P1DT2H"`),
		p("inet", self, str("inet", "10.0.0.1"), `"10.0.0.1"`),
		p("jsonb object", self, raw(db.Object, "jsonb", `{"a": [1, 2.50]}`), `{"a": [1, 2.50]}`),
		p("jsonb array", self, raw(db.Array, "jsonb", `[1, "x", null]`), `[1, "x", null]`),
		p("json text", self, str("json", `{"a":1}`), `{"a":1}`),
		p("json number", self, raw(db.Number, "json", `1.10`), `1.10`),
		p("int4[]", self, raw(db.Array, "int4[]", `[1, null, 3]`), `"{1,NULL,3}"`),
		p("integer[] 2d", self, raw(db.Array, "integer[]", `[[1,2],[3,4]]`), `"{{1,2},{3,4}}"`),
		p("empty array", self, raw(db.Array, "text[]", `[ ]`), `"{}"`),
		p("text[]", self, raw(db.Array, "text[]", `["a","b\"c","d\\e","{}","NULL",""]`),
			`"{a,\"b\\\"c\",\"d\\\\e\",\"{}\",\"NULL\",\"\"}"`),
		p("text[] escapes", self, raw(db.Array, "varchar[]", `["\u00fc\ud83e\udd86"]`), `"{ü🦆}"`),
		p("boolean[]", self, raw(db.Array, "boolean[]", `[true,false]`), `"{t,f}"`),
		p("bytea[]", self, raw(db.Array, "bytea[]", `["AP8Q"]`), `"{\"\\\\x00ff10\"}"`),
		p("jsonb[]", self, raw(db.Array, "jsonb[]", `[{"a": [1]}, [2], 3]`), `"{\"{\\\"a\\\": [1]}\",[2],3}"`),
		p("array literal", self, str("int4[]", "[0:1]={1,2}"), `"[0:1]={1,2}"`),
		p("box[]", self, raw(db.Array, "box[]", `["(1,1),(0,0)","(2,2),(1,1)"]`), `"{(1,1),(0,0);(2,2),(1,1)}"`),
		p("any array", "SELECT 2 = ANY(:value) AS v", raw(db.Array, "int4[]", `[1,2]`), `true`),
		p("type of the database", self, str("information_schema.yes_or_no", "YES"), `"YES"`),
		bad("no such type", str("no_such_type", "x"), db.CodeParameter),
		bad("not a type name", str("int4; DROP TABLE item", "x"), db.CodeParameter),
		bad("array untyped", raw(db.Array, "", "[1]"), db.CodeParameter),
		bad("array for scalar", raw(db.Array, "int4", "[1]"), db.CodeParameter),
		bad("object for scalar", raw(db.Object, "int4", "{}"), db.CodeParameter),
		bad("object in array", raw(db.Array, "int4[]", "[{}]"), db.CodeParameter),
		bad("seven dimensions", raw(db.Array, "int4[]", "[[[[[[[1]]]]]]]"), db.CodeParameter),
		bad("bytea not base64", str("bytea", "?"), db.CodeParameter),
		bad("NUL", str("text", "a\x00b"), db.CodeParameter),
		bad("not an integer", str("int4", "secret"), db.CodeData),
		bad("integer out of range", raw(db.Number, "int4", "99999999999"), db.CodeData),
		bad("ragged array", raw(db.Array, "int4[]", "[[1],[2,3]]"), db.CodeData),
	}
}
