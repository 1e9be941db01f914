package jobs

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

func TestStatementWithSeveralAnswers(t *testing.T) {
	t.Parallel()
	set := func(rows string, n int64) db.ResultSet {
		return db.ResultSet{Columns: []contract.Column{{Name: "n", Type: "int"}}, Rows: []byte(rows), RowCount: n, RowsAffected: n}
	}
	first := set(`[{"n":1}]`, 1)
	first.More = []db.ResultSet{{RowsAffected: 5}, set(`[]`, 0)}
	x := &Execution{Database: &answering{}}
	got := (&contract.Result{Answer: x.statementsAnswer([]db.ResultSet{first, {RowsAffected: 2}}).Answer}).Append(nil)
	_, got, _ = bytes.Cut(got, []byte(`"finished_at":"0001-01-01T00:00:00Z",`))
	require.JSONEq(t, `{"x":0,"engine":"postgres","statements":[
		{"rows_affected":1,"columns":[{"name":"n","type":"int"}],"rows":[{"n":1}],"row_count":1,"more":[
			{"rows_affected":5},
			{"rows_affected":0,"columns":[{"name":"n","type":"int"}],"rows":[],"row_count":0}]},
		{"rows_affected":2}]}`, `{"x":0,`+string(got))
}
