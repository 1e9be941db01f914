package delivery

import (
	"context"

	"dbrunner/internal/crash"
)

// readDryRun reads what an approval needs to run: the stored result of its dry run, from the stream's leader. false: the job does
// not run. Its outcome is then undecided; or it has none yet, and is rejected. Another runner may have read at another moment:
// so the rejection is recorded first, as every one that another runner could decide otherwise.
func (r *run) readDryRun(ctx context.Context) (Outcome, bool) {
	id := r.job.Approves()
	if id == "" {
		return Outcome{}, true
	}
	stored, err := r.storedResultOf(ctx, id)
	if err != nil {
		return Outcome{Action: Undecided}, false
	}
	rejection := r.e.decoder.Approve(r.job, &r.d.Message, stored)
	if rejection == nil {
		return Outcome{}, true
	}
	r.verdict = invalidVerdict(rejection)
	r.verdict.cause = invalid // its own text is valid
	crash.At("after_rejection")
	return Outcome{}, false
}
