package jobs

import (
	"context"
	"encoding/json"
	"strconv"

	"dbrunner/contract"
	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/effect"
	"dbrunner/internal/jsontext"
)

// maxShownRows is how many rows of each statement the result of a dry run has.
const maxShownRows = 100

// dryRun is the work of kind dry_run: a transaction whose effect is shown and rolled back.
type dryRun struct {
	*transaction                 // nil: it cannot run
	call         *call           // whose statement it is; nil: the statements are the job's own
	request      json.RawMessage // what it executes, as given
}

// decodeDryRun reads a transaction.
func decodeDryRun(r *reader, at []int) work {
	w := &dryRun{transaction: readTransaction(r, at)}
	values := make([]string, len(transactionKeys))
	for i := range values {
		values[i] = jsonOf(r, at[i])
	}
	w.request = effect.Request(transactionKeys, values)
	for i := range w.statements {
		checkRollback(r, at[transactionStatements], "["+strconv.Itoa(i)+"].sql", w.statements[i].source.SQL)
	}
	checkRequest(r, w)
	return w
}

// decodeDryRunOfCall reads a call, whose statement must be a transaction.
func decodeDryRunOfCall(r *reader, at []int) work {
	w := &dryRun{call: readCall(r, at)}
	switch of := w.call.work.(type) {
	case *transaction:
		params := "{}"
		if at[0] != 0 {
			params = jsonOf(r, at[0])
		}
		w.transaction, w.request = of, effect.RequestOf(r.called, params)
		for i := range r.called.Texts {
			checkRollback(r, 0, "", r.called.Texts[i].SQL)
		}
		checkRequest(r, w)
	case *query:
		r.rejectBelow(0, "", contract.CodeInvalidValue, "this statement is a query, which has no effect that could be rolled back: call it")
	}
	return w
}

// jsonOf is a value as JSON text; empty if it is absent.
func jsonOf(r *reader, at int) string {
	switch {
	case at == 0:
		return ""
	case r.Kind(at) == jsontext.String:
		return string(jsontext.AppendString(nil, r.Str(at)))
	default:
		return r.Raw(at)
	}
}

// checkRequest rejects a dry run whose result could not repeat what it executes.
func checkRequest(r *reader, w *dryRun) {
	if r.maxRequest > 0 && len(w.request) > r.maxRequest {
		r.rejectBelow(0, "", contract.CodeTooLarge, "statements and parameters of a dry run take "+strconv.Itoa(len(w.request))+
			" bytes, and at most "+strconv.Itoa(r.maxRequest)+" are possible, because its result repeats them")
	}
}

// checkRollback rejects a statement that cannot run in a transaction, and so cannot be rolled back.
func checkRollback(r *reader, owner int, path, sql string) {
	for _, part := range dialect.Split(r.dialect, sql) {
		if what := part.NonTransactional(r.dialect); what != "" {
			r.rejectBelow(owner, path, contract.CodeForbiddenStatement, what+" cannot run in a transaction, so that there is no dry run of it")
		}
	}
}

// hash keeps dry runs of named statements apart from those of statements of their own.
func (w *dryRun) hash(dst []byte) []byte {
	if w.call != nil {
		return w.call.hash(append(dst, 'c'))
	}
	return w.transaction.hash(append(dst, 's'))
}

func (w *dryRun) run(ctx context.Context, x *Execution) (Answer, error) {
	rows, digest := x.Rows, ""
	rows.Digest, rows.Keep, rows.MaxRows = true, maxShownRows, TighterLimit(rows.MaxRows, effect.MaxRows)
	w.tx.DryRun = true
	a, err := w.transact(ctx, x, rows, func(_ context.Context, sets []db.ResultSet) (*db.Entry, error) {
		digest = effect.Digest(x.job.Hash, x.job.revision(), sets)
		crash.At("in_dry_run")
		return nil, nil
	})
	if err == nil {
		a.Request, a.EffectDigest, a.Size = w.request, digest, a.Size+len(w.request)
	}
	return a, err
}

// revision is that of the definition of the statement that the job names; empty if it names none.
func (j *Job) revision() string {
	if j.Call == nil {
		return ""
	}
	return j.Call.Revision
}

// Reserve is what the job's result needs besides its statements and their rows, bytes, where that may be much.
func (j *Job) Reserve() int {
	if w, ok := j.work.(*dryRun); ok {
		return len(w.request)
	}
	return 0
}
