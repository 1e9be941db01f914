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

func (w *autocommit) run(ctx context.Context, x *Execution) (Answer, error) {
	var once *db.Once
	if x.Once != nil {
		once = &db.Once{Start: x.Once.Start, End: func(set db.ResultSet, err error) *db.Entry {
			return x.Once.End(ctx, x.commandAnswer(&set), err)
		}}
	}
	database := x.Outside
	if database == nil {
		database = x.Database
	}
	set, err := database.Execute(ctx, x.Call, w.compiled, x.Rows, once)
	if err != nil && db.ClassOf(err) != db.ClassTookEffect {
		return Answer{}, err
	}
	return x.commandAnswer(&set), err
}

// commandAnswer is the answer of a statement on its own: the server's tag, where it has one, and what any statement has.
func (x *Execution) commandAnswer(set *db.ResultSet) Answer {
	own := setOf(set)
	own.Command = set.Command
	return x.answerOf(contract.Answer{Set: own}, sizeOf(set)+len(set.Command), set.Free)
}
