package verify

import (
	"context"
	"fmt"
)

// checkRows reads the ledger in the order in which it was written, up to the messages that were there at the start, and for each row
// that no result agreed with, the result: it has to be there once the message is gone.
func (r *run) checkRows(ctx context.Context) error {
	if r.Ledger == nil {
		return nil
	}
	from := &cursor{recorded: r.Since}
	for from != nil {
		read := 0
		var err error
		from, err = r.Ledger.page(ctx, *from, r.jobs.At, func(recorded *row) error {
			read++
			return r.checkRow(ctx, recorded)
		})
		if err != nil {
			return err
		}
		r.report.LedgerRows += uint64(read)
		r.Progress("ledger rows", r.report.LedgerRows, 0)
		if err := r.pace.take(ctx, read); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) checkRow(ctx context.Context, recorded *row) error {
	if recorded.status == statusStarted {
		return r.confirm(ctx, recorded.recorded, func(ctx context.Context) (*Finding, error) { return r.checkStarted(ctx, recorded.id) })
	}
	if f := judgeRow(recorded); f != nil {
		return r.confirm(ctx, recorded.recorded, func(ctx context.Context) (*Finding, error) {
			again, err := r.Ledger.read(ctx, recorded.id)
			if again == nil || err != nil {
				return nil, err
			}
			return judgeRow(again), nil
		})
	}
	switch {
	case r.agreed.has(recorded.fingerprint()):
		return nil
	case recorded.message.at.Before(keptSince(r.results)):
		r.report.NotJudged.ExpiredResults++
		return nil
	}
	inProgress := false
	err := r.confirm(ctx, recorded.message.at, func(ctx context.Context) (f *Finding, err error) {
		f, inProgress, err = r.checkResultOf(ctx, recorded.id)
		return f, err
	})
	if inProgress {
		r.report.InProgress++
	}
	return err
}

// judgeRow compares the columns of a row with what its answer says.
func judgeRow(recorded *row) *Finding {
	h, what := &recorded.start, ""
	switch {
	case recorded.status == statusStarted:
		return nil
	case recorded.startErr != nil:
		what = "its answer is no result"
	case h.JobID != recorded.id:
		what = fmt.Sprintf("its answer is of job %s", h.JobID)
	case h.Status != recorded.status:
		what = fmt.Sprintf("its status is %s, in its answer %s", recorded.status, h.Status)
	case h.Hash != recorded.hash:
		what = fmt.Sprintf("its request hash is %.12s…, in its answer %.12s…", recorded.hash, h.Hash)
	case !h.message().equal(recorded.message):
		what = fmt.Sprintf("its message is %s, in its answer %s", recorded.message.derived(), h.message().derived())
	default:
		return nil
	}
	return newFinding(RowInconsistent, recorded.id, recorded.message, "the ledger row: "+what)
}

// checkStarted looks whether a row that records only a start will get an outcome: as long as its message is there.
func (r *run) checkStarted(ctx context.Context, id string) (*Finding, error) {
	recorded, err := r.Ledger.read(ctx, id)
	if recorded == nil || err != nil || recorded.status != statusStarted {
		return nil, err
	}
	queued, err := r.queued(ctx, recorded.message)
	if queued || err != nil {
		return nil, err
	}
	again, err := r.Ledger.read(ctx, id) // an outcome is recorded before the message goes
	if again == nil || err != nil || again.status != statusStarted || !again.message.equal(recorded.message) {
		return nil, err
	}
	return newFinding(StartedOnly, id, recorded.message, fmt.Sprintf(
		"the ledger row says started, and sequence %d is not in the jobs stream", recorded.message.sequence)), nil
}

// checkResultOf looks for the result of a row, both read now. inProgress: its message is still there, so that the result may
// yet be stored.
func (r *run) checkResultOf(ctx context.Context, id string) (f *Finding, inProgress bool, err error) {
	recorded, err := r.Ledger.read(ctx, id)
	if recorded == nil || err != nil || recorded.status == statusStarted || recorded.start.Error.Code == codeIDReused {
		return nil, false, err
	}
	f, missing, err := r.compareStored(ctx, recorded)
	if !missing || err != nil {
		return f, false, err
	}
	queued, err := r.queued(ctx, recorded.message)
	if queued || err != nil {
		return nil, queued, err
	}
	f, missing, err = r.compareStored(ctx, recorded) // it is stored before the message goes
	if !missing || err != nil {
		return f, false, err
	}
	expired, err := r.mayHaveExpired(ctx, recorded.message)
	if expired || err != nil {
		return nil, false, err
	}
	return newFinding(ResultMissing, id, recorded.message, fmt.Sprintf(
		"the ledger row of sequence %d has the status %s, and neither %s nor %s has its result",
		recorded.message.sequence, recorded.status, r.result(id), r.result(recorded.message.derived()))), false, nil
}

// compareStored compares a whole row with the result of its message. missing: it is not stored.
func (r *run) compareStored(ctx context.Context, recorded *row) (f *Finding, missing bool, err error) {
	s, other, err := r.resultOfMessage(ctx, recorded.id, recorded.message)
	switch {
	case err != nil:
		return nil, false, err
	case s != nil:
		return compare(s, recorded), false, nil
	case other != nil && other.err == nil && other.head.Error.Code == codeTooLarge && other.head.Status == recorded.status &&
		other.head.Hash == recorded.hash: // another message's delivery has repeated the answer without its rows
		return nil, false, nil
	}
	return nil, true, nil
}
