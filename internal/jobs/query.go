package jobs

import (
	"context"

	"dbrunner/contract"
)

// query is the work of kind query: one statement that only reads.
type query struct{ statement }

// decodeQuery reads sql and params.
func decodeQuery(r *reader, at []int) work {
	return &query{r.statement(0, at[0], at[1], reading)}
}

func (q *query) size() int { return 1 }

func (q *query) hash(dst []byte) []byte { return q.statement.hash(dst) }

func (q *query) run(ctx context.Context, x *Execution) (Answer, error) {
	set, err := x.Database.Read(ctx, x.Call, q.compiled, x.Rows)
	if err != nil {
		return Answer{}, err
	}
	return x.answerOf(contract.Answer{Set: rowsOf(&set)}, sizeOf(&set), set.Free), nil
}
