package app_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestResultThatFitsNoMessage: names of columns and references to objects alone have more bytes than a message takes. The
// effect is there and cannot be rolled back, so the result says so without its answer.
func TestResultThatFitsNoMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "transaction", "create-a", `"statements":[{"sql":"CREATE TABLE a (n INTEGER)"}]`)
	wide := `,{"sql":"SELECT 1 AS \"` + strings.Repeat(`\u0001`, 125) + `\""}`
	done := w.do("shop", "transaction", "often",
		`"effect":"at_least_once","output":"object","statements":[{"sql":"INSERT INTO a VALUES (1)"}`+strings.Repeat(wide, 998)+`]`)
	require.Equal(t, "succeeded", done.Status, "%+v", done.Error)
	require.Equal(t, "result_too_large", done.Error.Code)
	require.Empty(t, done.Sets)
	require.Equal(t, "[[1]]", w.rowsOfA())
	require.Empty(t, r.logs.FilterMessageSnippet("result not stored").All())
}
