package sqlserver

import (
	"context"

	"dbrunner/internal/db/dialect"
)

// countingSQL has the server report how many rows a statement writes, whatever the job or the server's options have set.
const countingSQL = executing + "SET NOCOUNT OFF"

// startCounting has the next statement's rows counted, where the transaction has a limit on them.
func (t *transaction) startCounting(ctx context.Context) error {
	if t.tx.MaxAffected == 0 {
		return nil
	}
	return t.run(ctx, request{text: countingSQL}, &table{})
}

// addWritten adds what a statement has written, where the transaction has a limit: all counts, also those of triggers, and the
// rows of OUTPUT. Rows of a SELECT are none; the server does not report which of the two they are, so that where a text has the
// word OUTPUT all of them count.
func (t *transaction) addWritten(stmt *dialect.Compiled, out *collector) {
	if t.tx.MaxAffected == 0 {
		return
	}
	output := dialect.HasWord(t.d.dialect, stmt.SQL, "OUTPUT")
	for i := range out.parts {
		if out.parts[i].Columns == nil || output {
			t.written += out.parts[i].RowsAffected
		}
	}
}
