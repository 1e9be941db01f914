package sqlite_test

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"

	"pgregory.net/rapid"

	"dbrunner/internal/db/dbtest"
)

// sameValue compares storage class and value.
func sameValue(param, expr, _ string, _ bool) string {
	return fmt.Sprintf("(typeof(%[1]s) = typeof(%[2]s) AND %[1]s IS %[2]s AND quote(%[1]s) = quote(%[2]s))", param, expr)
}

// roundTrips are the storage classes: a value of a result says by itself what it is.
func roundTrips() []dbtest.RoundTrip {
	roundTrip := func(expr func(t *rapid.T) string) dbtest.RoundTrip {
		return dbtest.RoundTrip{Plain: true, Expr: func(t *rapid.T) string {
			if rapid.IntRange(0, 9).Draw(t, "null") == 0 {
				return "NULL"
			}
			return expr(t)
		}}
	}
	bytes := rapid.SliceOf(rapid.Byte())
	return []dbtest.RoundTrip{
		roundTrip(func(t *rapid.T) string {
			n := rapid.Int64().Draw(t, "integer")
			if n == math.MinInt64 {
				return "(-9223372036854775807 - 1)"
			}
			return fmt.Sprintf("(%d)", n)
		}),
		roundTrip(func(t *rapid.T) string {
			f := rapid.OneOf(rapid.Float64(), rapid.Just(math.Inf(1)), rapid.Just(math.Inf(-1))).Draw(t, "real")
			if math.IsInf(f, 0) {
				return fmt.Sprintf("(%s9e999)", map[bool]string{true: "-"}[f < 0])
			}
			return "CAST('" + strconv.FormatFloat(f, 'e', -1, 64) + "' AS REAL)"
		}),
		roundTrip(func(t *rapid.T) string {
			return "CAST(x'" + hex.EncodeToString([]byte(rapid.String().Draw(t, "text"))) + "' AS TEXT)"
		}),
		roundTrip(func(t *rapid.T) string { return "CAST(x'" + hex.EncodeToString(bytes.Draw(t, "text")) + "' AS TEXT)" }),
		roundTrip(func(t *rapid.T) string {
			return "CAST(x'61" + rapid.SampledFrom([]string{"00", "0062", "eda080", "efbfbd", "f4908080"}).Draw(t, "odd text") + "' AS TEXT)"
		}),
		roundTrip(func(t *rapid.T) string { return "x'" + hex.EncodeToString(bytes.Draw(t, "blob")) + "'" }),
		roundTrip(func(t *rapid.T) string {
			return rapid.SampledFrom([]string{`'42'`, `'null'`, `'true'`, `'"x"'`, `'{"type":"blob","value":"AA=="}'`, `json('"42"')`, `json('null')`, `1 = 1`}).
				Draw(t, "looks like another")
		}),
	}
}
