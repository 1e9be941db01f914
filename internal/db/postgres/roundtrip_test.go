package postgres_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
	"dbrunner/internal/jsontext"
)

// sameValue compares what the server prints of both: there are types without equality.
func sameValue(param, expr, as string, typed bool) string {
	if !typed {
		param = "CAST(" + param + " AS " + as + ")"
	}
	return fmt.Sprintf("((%s)::text IS NOT DISTINCT FROM (%s)::text)::int", param, expr)
}

func literal(text, as string) string {
	if strings.Contains(text, `\`) {
		return " E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(text) + "'::" + as
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'::" + as
}

// texts draws the text of a type's value.
type texts func(t *rapid.T) string

func sampled(list ...string) texts {
	return func(t *rapid.T) string { return rapid.SampledFrom(list).Draw(t, "sample") }
}

func plainText(t *rapid.T) string {
	return rapid.OneOf(
		rapid.StringOf(rapid.Rune().Filter(func(r rune) bool { return r != 0 })),
		rapid.SampledFrom([]string{"", " ", "NULL", "null", "42", "true", `"x"`, `{}`, `{a,b}`, `\x00`, `\`, `a"b`, `'`, "a\nb", "{\"type\":\"text\",\"value\":\"x\"}"}),
	).Draw(t, "text")
}

func floatText(bits int) texts {
	return func(t *rapid.T) string {
		f := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.Inf(1), math.Inf(-1), math.NaN(), 5e-324, 42})).Draw(t, "float")
		if bits == 32 {
			f = float64(float32(f))
			if f != 0 && math.Abs(f) < 1e-38 {
				f = 1
			}
		}
		text := strconv.FormatFloat(f, 'g', -1, bits)
		return strings.NewReplacer("+Inf", "Infinity", "-Inf", "-Infinity").Replace(text)
	}
}

func numericText(t *rapid.T) string {
	return rapid.OneOf(rapid.StringMatching(`-?[0-9]{1,40}(\.[0-9]{1,30})?`), rapid.SampledFrom([]string{"NaN", "Infinity", "-Infinity", "1e400", "0.00"})).Draw(t, "numeric")
}

func intText(low, high int64) texts {
	return func(t *rapid.T) string { return strconv.FormatInt(rapid.Int64Range(low, high).Draw(t, "integer"), 10) }
}

func jsonText(depth int) texts {
	return func(t *rapid.T) string { return drawJSON(t, depth) }
}

func drawJSON(t *rapid.T, depth int) string {
	blank := rapid.SampledFrom([]string{"", "", " ", "\n"}).Draw(t, "blank")
	kinds := 7
	if depth == 0 {
		kinds = 5
	}
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		return blank + "null"
	case 1:
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, "bool") + blank
	case 2:
		return rapid.SampledFrom([]string{"0", "42", "-1.50", "1e5", "9007199254740993", "1.0", "123456789012345678901234567890"}).Draw(t, "number")
	case 3:
		return string(jsontext.AppendString(nil, plainText(t)))
	case 4:
		return rapid.SampledFrom([]string{`"42"`, `"null"`, `"\u00fc\ud83e\udd86"`, `"\\u0000"`, `"{\"a\":1}"`, `"\"42\""`, `" "`}).Draw(t, "string")
	case 5:
		return "[" + blank + drawJSON(t, depth-1) + "," + drawJSON(t, depth-1) + "]"
	default:
		return `{"a":` + drawJSON(t, depth-1) + "," + blank + `"type":` + drawJSON(t, depth-1) + `,"value":"x"}`
	}
}

// looseJSON is what only type json keeps as it is.
func looseJSON(t *rapid.T) string {
	return rapid.OneOf(rapid.Custom(func(t *rapid.T) string { return drawJSON(t, 3) }),
		rapid.SampledFrom([]string{`{"a":1,"a":2}`, `"\u0000"`, `["\ud83e"]`, `["\udd86\ud83e"]`, ` {} `, `"\ud83eA"`, "\t1", `{"\u0000":1}`})).Draw(t, "json")
}

func momentText(t *rapid.T) string {
	era, last := "", 12000
	if rapid.IntRange(0, 3).Draw(t, "era") == 0 {
		era, last = " BC", 4000
	}
	return fmt.Sprintf("%04d-%02d-%02d %s%s", rapid.IntRange(1, last).Draw(t, "year"), rapid.IntRange(1, 12).Draw(t, "month"),
		rapid.IntRange(1, 28).Draw(t, "day"), clockText(t), era)
}

func clockText(t *rapid.T) string {
	text := fmt.Sprintf("%02d:%02d:%02d", rapid.IntRange(0, 23).Draw(t, "hour"), rapid.IntRange(0, 59).Draw(t, "minute"), rapid.IntRange(0, 59).Draw(t, "second"))
	if us := rapid.SampledFrom([]int{0, 1, 500000, 999999, 120000}).Draw(t, "fraction"); us != 0 {
		text += fmt.Sprintf(".%06d", us)
	}
	return text
}

func zoneText(t *rapid.T) string {
	return rapid.SampledFrom([]string{"+00", "+02", "-05:30", "+05:45", "-00:25:21", "+14"}).Draw(t, "zone")
}

func instantText(t *rapid.T) string {
	text := momentText(t)
	moment, bc := strings.CutSuffix(text, " BC")
	if moment += zoneText(t); bc {
		moment += " BC"
	}
	return rapid.SampledFrom([]string{moment, moment, moment, "infinity", "-infinity"}).Draw(t, "instant")
}

func intervalText(t *rapid.T) string {
	n := func(name string) int { return rapid.IntRange(-5000, 5000).Draw(t, name) }
	return fmt.Sprintf("%d mons %d days %d:%02d:%02d.%06d", n("months"), n("days"), n("hours"), rapid.IntRange(0, 59).Draw(t, "minutes"),
		rapid.IntRange(0, 59).Draw(t, "seconds"), rapid.SampledFrom([]int{0, 1, 700000}).Draw(t, "fraction"))
}

func dateText(t *rapid.T) string {
	return rapid.SampledFrom([]string{strings.Fields(momentText(t))[0], "infinity", "-infinity", "0044-03-15 BC", "5874897-12-31", "4713-01-01 BC"}).Draw(t, "date")
}

func pairText(low, high string) texts {
	return sampled("["+low+","+high+")", "("+low+","+high+"]", "empty", "[,)", "["+low+",)", "(,"+high+"]")
}

// scalars are PostgreSQL's own types and some of the database's.
func scalars() map[string]texts {
	return map[string]texts{
		"boolean": sampled("true", "false"), "smallint": intText(math.MinInt16, math.MaxInt16), "integer": intText(math.MinInt32, math.MaxInt32),
		"bigint": intText(math.MinInt64, math.MaxInt64), "oid": intText(0, math.MaxUint32), "numeric": numericText,
		"real": floatText(32), "double precision": floatText(64), "money": sampled("$12.34", "-$1,000.00", "$0.00"),
		"text": plainText, "varchar": plainText, "bpchar": sampled("ab  ", "", "ü"), `"char"`: sampled("a", "\"", "'"), "name": sampled("abc", "A b"),
		"bytea": func(t *rapid.T) string { return fmt.Sprintf(`\x%x`, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) },
		"uuid": func(t *rapid.T) string {
			return fmt.Sprintf("%032x", rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "uuid"))
		},
		"json": looseJSON, "jsonb": jsonText(3), "jsonpath": sampled("$.a[*]", `$."a b" ? (@ > 1)`),
		"date": dateText, "time": clockText, "timetz": func(t *rapid.T) string { return clockText(t) + zoneText(t) },
		"timestamp": momentText, "timestamptz": instantText, "interval": intervalText,
		"inet": sampled("10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32"), "cidr": sampled("10.0.0.0/8", "2001:db8::/32"),
		"macaddr": sampled("08:00:2b:01:02:03"), "macaddr8": sampled("08:00:2b:01:02:03:04:05"),
		"bit": sampled("0", "1"), "bit varying": sampled("", "1010"), "xml": sampled("<a/>", "a &amp; b", "<a b='c'>ü</a>"),
		"point": sampled("(1,2.5)", "(1e300,-0)", "(NaN,Infinity)"), "lseg": sampled("[(0,0),(1,1)]"), "box": sampled("(1,1),(0,0)"),
		"path": sampled("[(0,0),(1,1)]", "((0,0),(1,1))"), "polygon": sampled("((0,0),(1,1),(1,0))"), "line": sampled("{1,2,3}"), "circle": sampled("<(1,2),3>"),
		"tsvector": sampled("'a':1 'b':2", "'it''s' 'a b':3A"), "tsquery": sampled("'a' & !'b'", "'a' <-> 'b':*"),
		"int4range": pairText("1", "5"), "int8range": pairText("1", "5"), "numrange": pairText("1.5", "2.50"),
		"daterange": pairText("2026-01-01", "2026-02-01"), "tsrange": pairText("2026-01-01 00:00", "2026-02-01 12:30:00.5"),
		"tstzrange":      pairText("2026-01-01 00:00+02", "2027-01-01 00:00:00.25-05"),
		"int4multirange": sampled("{[1,2),[5,9)}", "{}"), "tstzmultirange": sampled("{[2026-01-01 00:00+02,2026-02-01 00:00+02)}"),
		"pg_lsn": sampled("16/B374D848"), "xid": sampled("4711"), "xid8": sampled("4711"), "cid": sampled("7"), "tid": sampled("(0,1)"),
		"regclass": sampled("pg_class", "pg_catalog.pg_type"), "regtype": sampled("integer", "text[]"), "regproc": sampled("now"),
		"regprocedure": sampled("now()"), "int2vector": sampled("1 2 3"), "oidvector": sampled("1 2"), "refcursor": sampled("c"),
		"txid_snapshot": sampled("10:20:10,14,15"), "aclitem": sampled("=r/pg_monitor"),
		"mood": sampled("sad", "ha'p\"py"), `"My Schema".pair`: sampled(`(1,"a b")`, `(,)`, `(-1,"a""b\\c")`), "positive": sampled("5"), "floats": pairText("1.5", "2.5"),
		`"we""ird, [type]"`: sampled("x"), "bytes": sampled(`\x00ff`, `\x`), "doc": jsonText(2), "instants": pairText("2026-01-01 00:00+02", "2027-01-01 00:00Z"),
		"yards": sampled("(1,1),(0,0)"), "numbers": sampled("{1,2,NULL}", "{}"),
	}
}

// roundTrips returns all types and their arrays.
func roundTrips() []dbtest.RoundTrip {
	var list []dbtest.RoundTrip
	for _, name := range sortedNames(scalars()) {
		draw := scalars()[name]
		list = append(list, dbtest.RoundTrip{
			Type: name, Typed: true, Plain: name != "bytea" && name != "bytes",
			Expr: func(t *rapid.T) string {
				if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
					return "NULL::" + name
				}
				return literal(draw(t), name)
			},
		})
		if name == "numbers" {
			continue
		}
		list = append(list, dbtest.RoundTrip{
			Type: name + "[]", Typed: true, Plain: true,
			Expr: func(t *rapid.T) string {
				one, two := literal(draw(t), name), literal(draw(t), name)
				return rapid.SampledFrom([]string{
					"ARRAY[" + one + ",NULL," + two + "]", "ARRAY[[" + one + "],[" + two + "]]", "ARRAY[]::" + name + "[]", "NULL::" + name + "[]",
				}).Draw(t, "array")
			},
		})
	}
	return list
}

func sortedNames(m map[string]texts) []string {
	return slices.Sorted(maps.Keys(m))
}

const ownTypes = `CREATE SCHEMA "My Schema";
	CREATE TYPE mood AS ENUM ('sad', 'ha''p"py');
	CREATE TYPE "My Schema".pair AS (a int, b text);
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TYPE floats AS RANGE (subtype = float8);
	CREATE TYPE "we""ird, [type]" AS ENUM ('x');
	CREATE DOMAIN bytes AS bytea;
	CREATE DOMAIN doc AS jsonb;
	CREATE DOMAIN instants AS tstzrange;
	CREATE DOMAIN yards AS box;
	CREATE DOMAIN numbers AS integer[];`

// roundTripHarness is the harness of round trips, with types of the database's own.
func roundTripHarness(settings ...string) dbtest.Harness {
	h := harness()
	h.Options = func(t testing.TB) db.Options {
		opts := options(t)
		conn := connect(t, opts.ConnectionString)
		_, err := conn.Exec(t.Context(), ownTypes)
		require.NoError(t, err)
		for _, setting := range settings {
			_, err := conn.Exec(t.Context(), "DO $do$ BEGIN EXECUTE format($s$ALTER DATABASE %I SET "+setting+"$s$, current_database()); END $do$")
			require.NoError(t, err)
		}
		return opts
	}
	h.Open = postgres.Open
	return h
}

// TestRoundTripSettings sends values back in databases with settings of their own, and through a pooler's transactions.
func TestRoundTripSettings(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"DMY":          {"DateStyle = 'SQL, DMY'", "TimeZone = 'Europe/Berlin'", "IntervalStyle = 'postgres_verbose'"},
		"sql_standard": {"IntervalStyle = 'sql_standard'", "TimeZone = 'America/St_Johns'", "extra_float_digits = -5", "bytea_output = 'escape'"},
		"off":          {"search_path = public, pg_catalog", "standard_conforming_strings = off"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dbtest.RunRoundTrip(t, roundTripHarness(settings...))
		})
	}
}

// TestOwnArrays sends JSON arrays and objects for types of the database's own: the elements' type decides.
func TestOwnArrays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.sql(ownTypes)
	b.sql(`CREATE FUNCTION colon_in(cstring) RETURNS colon LANGUAGE internal IMMUTABLE STRICT AS 'int4in';
		CREATE FUNCTION colon_out(colon) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'int4out';
		CREATE TYPE colon (INPUT = colon_in, OUTPUT = colon_out, LIKE = integer, DELIMITER = ':')`)
	raw := func(kind dialect.ValueKind, typ, text string) dialect.Value {
		return dialect.Value{Kind: kind, Type: typ, Text: text}
	}
	for _, c := range []struct {
		value dialect.Value
		want  string
	}{
		{raw(dialect.Array, "box[]", `["(1,1),(0,0)",null,"(2,2),(1,1)"]`), "ARRAY['(1,1),(0,0)'::box,NULL,'(2,2),(1,1)']"},
		{raw(dialect.Array, "box[]", `[["(1,1),(0,0)"],["(2,2),(1,1)"]]`), "ARRAY[['(1,1),(0,0)'::box],['(2,2),(1,1)'::box]]"},
		{raw(dialect.Array, "yards[]", `["(1,1),(0,0)","(2,2),(1,1)"]`), "ARRAY['(1,1),(0,0)'::yards,'(2,2),(1,1)']"},
		{raw(dialect.Array, "colon[]", `[1,"2",null]`), "ARRAY['1'::colon,'2',NULL]"},
		{raw(dialect.Array, "public.colon[]", `[[1],[2]]`), "ARRAY[['1'::colon],['2'::colon]]"},
		{raw(dialect.Array, "numbers", `[1,null,3]`), "'{1,NULL,3}'::numbers"},
		{raw(dialect.Array, "bytes[]", `["AP8=",null]`), `ARRAY['\x00ff'::bytes,NULL]`},
		{raw(dialect.String, "bytes", `AP8=`), `'\x00ff'::bytes`},
		{raw(dialect.Array, "doc[]", `[{"a":1},[2],3,null]`), `ARRAY['{"a":1}'::doc,'[2]','3',NULL]`},
		{raw(dialect.Array, "doc", `[1,"x"]`), `'[1,"x"]'::doc`},
		{raw(dialect.Object, "doc", `{"a":[1]}`), `'{"a":[1]}'::doc`},
		{raw(dialect.Array, "mood[]", `["sad","ha'p\"py"]`), `ARRAY['sad'::mood,'ha''p"py']`},
		{raw(dialect.Array, "positive[]", `[1.0,2]`), `ARRAY[1::positive,2]`},
	} {
		set, err := b.db.Read(t.Context(), call(), &dialect.Compiled{
			SQL: "SELECT $1::text AS sent, (" + c.want + ")::text AS want, pg_typeof($1)::text AS type", Args: []dialect.Value{c.value},
		}, db.RowOptions{Format: db.Arrays})
		require.NoError(t, err, c.value.Type)
		var rows [][]string
		require.NoError(t, json.Unmarshal(set.Rows, &rows))
		require.Equal(t, rows[0][1], rows[0][0], c.value.Type)
	}
	for _, bad := range []dialect.Value{
		raw(dialect.Array, "positive", `[1]`), raw(dialect.Object, "positive", `{}`), raw(dialect.Object, "positive[]", `{}`), raw(dialect.Array, "positive[]", `[{}]`),
		raw(dialect.String, "bytes", `?`), raw(dialect.String, "geometry(Point,4326)", "x"), raw(dialect.String, "nothing", "x"),
	} {
		_, err := b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT $1::text AS v", Args: []dialect.Value{bad}}, objects())
		requireError(t, err, db.ClassPermanent, contract.CodeParameter)
	}
}
