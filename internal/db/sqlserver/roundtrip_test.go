package sqlserver_test

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"pgregory.net/rapid"

	"dbrunner/internal/db/dbtest"
)

// sameValue compares what both are as text and in length, since there are types without equality and texts that are equal
// but for blanks at their end.
func sameValue(param, expr, as string, typed bool) string {
	if !typed {
		param = "CAST(" + param + " AS " + as + ")"
	}
	text := func(x string) string {
		switch {
		case strings.HasPrefix(as, "varbinary"), strings.HasPrefix(as, "float"), strings.HasPrefix(as, "real"):
			return x
		case strings.HasPrefix(as, "date"), strings.HasPrefix(as, "time"):
			return "CONVERT(nvarchar(60), " + x + ", 121)"
		}
		return "CAST(" + x + " AS nvarchar(max)) COLLATE Latin1_General_BIN2"
	}
	return fmt.Sprintf("CASE WHEN %[1]s IS NULL AND %[2]s IS NULL OR %[3]s = %[4]s AND DATALENGTH(CAST(%[1]s AS %[5]s)) = DATALENGTH(%[2]s) THEN 1 ELSE 0 END",
		param, expr, text(param), text(expr), as)
}

func literal(s, as string) string {
	parts := []string{}
	for _, part := range strings.Split(s, "\x00") {
		parts = append(parts, "N'"+strings.ReplaceAll(part, "'", "''")+"'")
	}
	return "CAST(" + strings.Join(parts, " + NCHAR(0) + ") + " AS " + as + ")"
}

func roundTrips() []dbtest.RoundTrip {
	roundTrip := func(as string, plain bool, text func(t *rapid.T) string) dbtest.RoundTrip {
		return dbtest.RoundTrip{Type: as, Typed: true, Plain: plain, Expr: func(t *rapid.T) string {
			if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
				return "CAST(NULL AS " + as + ")"
			}
			return text(t)
		}}
	}
	of := func(as string, list ...string) dbtest.RoundTrip {
		return roundTrip(as, true, func(t *rapid.T) string { return literal(rapid.SampledFrom(list).Draw(t, as), as) })
	}
	integer := func(as string, low, high int64) dbtest.RoundTrip {
		return roundTrip(as, true, func(t *rapid.T) string {
			return literal(strconv.FormatInt(rapid.Int64Range(low, high).Draw(t, as), 10), as)
		})
	}
	float := func(as string, bits int) dbtest.RoundTrip {
		return roundTrip(as, false, func(t *rapid.T) string {
			f := rapid.SampledFrom([]float64{0, 0.1, 42, -1.5, 1e21, 1e-7, 123456.789, 5e30}).Draw(t, as)
			return literal(strconv.FormatFloat(f, 'e', -1, bits), as)
		})
	}
	return []dbtest.RoundTrip{
		integer("tinyint", 0, 255), integer("smallint", math.MinInt16, math.MaxInt16), integer("int", math.MinInt32, math.MaxInt32),
		integer("bigint", math.MinInt64, math.MaxInt64), of("bit", "0", "1"),
		of("decimal(38,0)", "12345678901234567890123456789012345678", "-1"), of("decimal(38,20)", "123456789012345678.12345678901234567890", "0.1"),
		of("decimal(5,2)", "123.45", "-0.10"), of("money", "922337203685477.5807", "-1.5"), of("smallmoney", "214748.3647", "0"),
		float("float", 64), float("real", 32),
		roundTrip("nvarchar(max)", true, func(t *rapid.T) string {
			return literal(rapid.OneOf(rapid.String().Filter(func(s string) bool { return !strings.Contains(s, "\x00") }),
				rapid.SampledFrom([]string{"", " ", "a ", "42", "null", `{"type":"x","value":"y"}`, "🦆"})).Draw(t, "nvarchar"), "nvarchar(max)")
		}),
		of("nvarchar(50)", "a\x00b", "\x00"), of("varchar(50)", "abc", "", "a b "), of("nchar(4)", "ü"), of("char(4)", "ab"),
		roundTrip("varbinary(50)", false, func(t *rapid.T) string {
			return fmt.Sprintf("CAST(0x%x AS varbinary(50))", rapid.SliceOfN(rapid.Byte(), 0, 20).Draw(t, "bytes"))
		}),
		of("uniqueidentifier", "6f9619ff-8b86-d011-b42d-00c04fc964ff"),
		of("date", "2026-03-04", "0001-01-01", "9999-12-31"), of("time(7)", "23:59:59.1234567", "00:00:00"), of("time(0)", "01:02:03"),
		of("datetime", "2026-03-04T01:02:03.997", "1753-01-01T00:00:00"), of("smalldatetime", "2026-03-04T01:02:00"),
		of("datetime2(7)", "0001-01-01T00:00:00.0000001", "9999-12-31T23:59:59.9999999"), of("datetime2(0)", "2026-03-04T01:02:03"),
		of("datetimeoffset(7)", "2026-03-04T01:02:03.1234567+05:30", "0001-01-02T00:00:00-14:00"), of("xml", "<a>ü</a>", "<a b=\"1\" />"),
	}
}
