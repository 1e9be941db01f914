package jobs

import (
	"context"

	"dbrunner/internal/db"
)

// query is the work of kind query: one statement that only reads.
type query struct{ statement }

// decodeQuery reads sql and params.
func decodeQuery(r *reader, at []int) work {
	return &query{r.statement(0, at[0], at[1], true)}
}

func (q *query) size() int { return 1 }

func (q *query) hash(dst []byte) []byte { return q.statement.hash(dst) }

func (q *query) run(
	ctx context.Context, database db.Database, call db.Call, opts db.RowOptions, _ sealAnswer,
) (answer, error) {
	set, err := database.Read(ctx, call, q.compiled, opts)
	if err != nil {
		return answer{}, err
	}
	return answer{
		append: func(dst []byte) []byte { return appendColumns(append(dst, ','), &set) },
		size:   sizeOf(&set),
		free:   set.Free,
	}, nil
}
