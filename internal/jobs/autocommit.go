package jobs

import (
	"context"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// AutocommitExecutor is the part of db.Database that runs statements outside of transactions.
type AutocommitExecutor interface {
	Execute(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once) (db.ResultSet, error)
}

// autocommit is the work of kind statement: one statement outside of any transaction, mostly one that cannot run inside.
type autocommit struct{ statement }

// decodeAutocommit reads sql and params.
func decodeAutocommit(r *reader, at []int) work {
	return &autocommit{r.statement(0, at[0], at[1], noTransaction)}
}

func (w *autocommit) size() int { return 1 }

func (w *autocommit) hash(dst []byte) []byte { return w.statement.hash(dst) }

// leavesPartialEffects: a statement outside of a transaction may leave what it had done when it was stopped.
func (w *autocommit) leavesPartialEffects() bool { return true }

func (w *autocommit) run(ctx context.Context, x *execution) (answer, error) {
	var once *db.Once
	if x.once != nil {
		once = &db.Once{Start: x.once.start, End: func(set db.ResultSet, err error) *db.Entry {
			return x.once.end(ctx, x.commandAnswer(&set), err)
		}}
	}
	database := x.opts.Outside
	if database == nil {
		database = x.opts.Database
	}
	set, err := database.Execute(ctx, x.call, w.compiled, x.rows, once)
	if err != nil && db.ClassOf(err) != db.ClassTookEffect {
		return answer{}, err
	}
	return x.commandAnswer(&set), err
}

// commandAnswer is the answer of a statement on its own: the server's tag, where it has one, and what any statement has.
func (x *execution) commandAnswer(set *db.ResultSet) answer {
	own := setOf(set)
	own.Command = set.Command
	return x.answerOf(contract.Answer{Set: own}, sizeOf(set)+len(set.Command), set.Free)
}
