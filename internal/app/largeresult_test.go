package app_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestResultThatFitsNoMessage: the names of columns alone have more bytes than a message takes. What has taken effect
// says so without its rows; what can be rolled back is.
func TestResultThatFitsNoMessage(t *testing.T) {
	t.Parallel()
	w := setup(t)
	r := w.start(w.config("r1", withSQLite(t, "shop")))
	w.do("shop", "transaction", "create-a", `"statements":[{"sql":"CREATE TABLE a (n INTEGER)"}]`)
	columns := make([]string, 20)
	for i := range columns {
		columns[i] = fmt.Sprintf(`\"%s%d\"`, strings.Repeat(`\u0001`, 120), i)
	}
	w.do("shop", "transaction", "create-wide", `"statements":[{"sql":"CREATE TABLE wide (`+strings.Join(columns, ", ")+`)"}]`)
	body := func(n int, rest string) string {
		return rest + `"statements":[{"sql":"INSERT INTO a VALUES (` + fmt.Sprint(n) + `)"}` + strings.Repeat(`,{"sql":"SELECT * FROM wide"}`, 100) + `]`
	}
	done := w.do("shop", "transaction", "often", body(1, `"effect":"at_least_once",`))
	require.Equal(t, "succeeded", done.Status)
	require.Equal(t, "result_too_large", done.Error.Code)
	require.Empty(t, done.Sets)
	undone := w.do("shop", "transaction", "once", body(2, ""))
	require.Equal(t, "failed", undone.Status)
	require.Equal(t, "result_too_large", undone.Error.Code)
	require.Equal(t, "[[1]]", w.rowsOfA())
	require.Empty(t, r.logs.FilterMessageSnippet("result not stored").All())
}
