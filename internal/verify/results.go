package verify

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"
)

// checkResults reads all stored results, page by page, and after each page the ledger rows of its jobs: a row is committed
// before its result is stored, so that it has to be there.
func (r *run) checkResults(ctx context.Context) error {
	from := max(r.results.State.FirstSeq, 1)
	if !r.Since.IsZero() {
		var err error
		if from, err = r.js.firstSince(ctx, r.names.results(), r.results, r.Since); err != nil {
			return err
		}
	}
	last := r.results.State.LastSeq
	for next := from; next > 0; {
		var page []*storedResult
		var err error
		next, err = r.js.page(ctx, r.names.results(), next, last, func(m *stored) error {
			page = append(page, r.resultOf(m))
			return nil
		})
		if err != nil {
			return err
		}
		if err := r.checkPage(ctx, page); err != nil {
			return err
		}
		r.report.Results += uint64(len(page))
		r.Progress("results", r.report.Results, r.results.State.Messages)
		if err := r.pace.take(ctx, len(page)); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) checkPage(ctx context.Context, page []*storedResult) error {
	var ids []string
	for _, s := range page {
		if s.mayBeRecorded() {
			ids = append(ids, s.head.JobID)
		}
	}
	rows := map[string]*row{}
	if r.Ledger != nil {
		var err error
		slices.Sort(ids)
		if rows, err = r.Ledger.lookUp(ctx, slices.Compact(ids)); err != nil {
			return err
		}
	}
	for _, s := range page {
		if err := r.checkResult(ctx, s, rows[s.head.JobID]); err != nil {
			return err
		}
	}
	return nil
}

// mayBeRecorded reports whether a result's job can have a ledger row: by its effect, or because the effect is not known.
func (s *storedResult) mayBeRecorded() bool {
	return s.err == nil && (s.head.Effect == exactlyOnce || s.head.Effect == atMostOnce || s.head.Effect == "")
}

// mustBeRecorded reports whether a result's job has a ledger row: every outcome is recorded first, except that of a body that
// no runner can accept.
func (s *storedResult) mustBeRecorded() bool {
	return s.mayBeRecorded() && s.head.Effect != "" && s.head.Status != statusRejected
}

func (r *run) checkResult(ctx context.Context, s *storedResult, recorded *row) error {
	if f := r.judgeResult(s); f != nil {
		return r.note(f)
	}
	if r.messages.add(s.head.message().derived()) {
		if len(r.twice) < r.Limit {
			r.twice[s.head.message().derived()] = true
		}
	}
	r.report.NotJudged.Remembered = r.messages.full
	check := func(check func(context.Context, string) (*Finding, error)) error {
		return r.confirm(ctx, s.at, func(ctx context.Context) (*Finding, error) { return check(ctx, s.key) })
	}
	switch {
	case r.Ledger == nil || !s.mayBeRecorded():
	case recorded != nil && agrees(s, recorded):
		r.agreed.add(recorded.fingerprint())
	case recorded == nil && !s.mustBeRecorded():
	case recorded == nil && r.mayBeSwept(s.head.message()):
		r.report.NotJudged.SweptRows++
	default:
		if err := check(r.checkRecorded); err != nil {
			return err
		}
	}
	if s.head.Sequence > r.jobs.State.LastSeq {
		if err := check(r.checkMessage); err != nil {
			return err
		}
	}
	if !r.leavesDeadLetter(s) {
		return nil
	}
	return check(r.checkLeftDeadLetter)
}

// agrees reports whether a result is, byte by byte, the answer in its own message's row, and the row's columns say the same.
func agrees(s *storedResult, recorded *row) bool {
	return bytes.Equal(s.sum[:], recorded.digest) && recorded.message.equal(s.head.message()) &&
		recorded.status == s.head.Status && recorded.hash == s.head.Hash
}

// judgeResult judges a result by itself.
func (r *run) judgeResult(s *storedResult) *Finding {
	h := &s.head
	switch derived := h.message().derived(); {
	case s.err != nil:
		return newFinding(ResultUnreadable, s.key, message{}, fmt.Sprintf("%s at sequence %d of its stream: %s", r.result(s.key), s.seq, s.err))
	case h.Database != r.database:
		return newFinding(ResultMisplaced, h.JobID, h.message(), fmt.Sprintf("the result under %s is of database %s", s.key, h.Database))
	case s.key != h.JobID && s.key != derived, looksDerived(s.key) && s.key != derived:
		return newFinding(ResultMisplaced, h.JobID, h.message(), fmt.Sprintf(
			"the result under %s is of job %s; the derived id of its message is %s", s.key, h.JobID, derived))
	case h.Effect == exactlyOnce && h.Status == statusUnknown:
		return newFinding(OutcomeUnknown, h.JobID, h.message(), fmt.Sprintf("the result under %s has the status unknown", s.key))
	}
	return nil
}

// checkRecorded compares a result with its ledger row, both read now.
func (r *run) checkRecorded(ctx context.Context, key string) (*Finding, error) {
	s, err := r.readResult(ctx, key)
	if s == nil || s.err != nil || err != nil {
		return nil, err
	}
	h := &s.head
	recorded, err := r.Ledger.read(ctx, h.JobID)
	if err != nil {
		return nil, err
	}
	needed := s.mustBeRecorded() && !r.mayBeSwept(h.message())
	switch {
	case recorded == nil && needed:
		return newFinding(RowMissing, h.JobID, h.message(), fmt.Sprintf("the result reports %s (%s), and the ledger has no row", h.Status, h.Effect)), nil
	case recorded == nil:
		return nil, nil
	case recorded.message.equal(h.message()):
		f := compare(s, recorded)
		if f == nil {
			r.agreed.add(recorded.fingerprint())
		}
		return f, nil
	case h.Error.Code == codeTooLarge && recorded.status == h.Status && recorded.hash == h.Hash:
		return nil, nil // the row's rows did not fit any more when another message's delivery repeated its answer
	case needed:
		return newFinding(RowOfOtherMessage, h.JobID, h.message(), fmt.Sprintf(
			"the result reports %s (%s) for sequence %d, and the ledger row %s for sequence %d",
			h.Status, h.Effect, h.Sequence, recorded.status, recorded.message.sequence)), nil
	}
	return nil, nil
}

// compare compares a result with the whole ledger row of its message.
func compare(s *storedResult, recorded *row) *Finding {
	h, what := &s.head, ""
	switch {
	case recorded.status != h.Status:
		what = fmt.Sprintf("the ledger row has the status %s, the result %s", recorded.status, h.Status)
	case recorded.hash != h.Hash:
		what = fmt.Sprintf("the ledger row has the request hash %.12s…, the result %.12s…", recorded.hash, h.Hash)
	case !sameAnswer(s.body, recorded.answer, h.Error.Code):
		what = fmt.Sprintf("the stored result under %s is not the answer in the ledger row", s.key)
	default:
		return nil
	}
	return newFinding(RowDiffers, h.JobID, h.message(), what)
}

// checkMessage looks whether the jobs stream has ever had the message of a result.
func (r *run) checkMessage(ctx context.Context, key string) (*Finding, error) {
	s, err := r.readResult(ctx, key)
	if s == nil || s.err != nil || err != nil {
		return nil, err
	}
	now, err := r.js.state(ctx, r.names.jobs())
	if now == nil || err != nil || s.head.Sequence <= now.State.LastSeq || s.head.QueuedAt.Before(now.Created) {
		return nil, err
	}
	return newFinding(ResultOfNoMessage, s.head.JobID, s.head.message(), fmt.Sprintf(
		"the result under %s names sequence %d, and the last one of the jobs stream is %d", key, s.head.Sequence, now.State.LastSeq)), nil
}

// nameTwice finds out which results share a message, if there are such messages.
func (r *run) nameTwice(ctx context.Context) error {
	if len(r.twice) == 0 {
		return nil
	}
	first := map[string]*storedResult{}
	last := r.results.State.LastSeq
	for next := max(r.results.State.FirstSeq, 1); next > 0; {
		var pairs [][2]*storedResult
		read := 0
		var err error
		next, err = r.js.page(ctx, r.names.results(), next, last, func(m *stored) error {
			read++
			s := r.resultOf(m)
			if of := s.head.message().derived(); r.judgeResult(s) == nil && r.twice[of] {
				if first[of] != nil {
					pairs = append(pairs, [2]*storedResult{first[of], s})
				} else {
					first[of] = s
				}
			}
			return nil
		})
		for _, p := range pairs {
			if f := judgeTwo(p[0], p[1], untouched(r.results)); f != nil && err == nil {
				err = r.note(f)
			}
		}
		if err != nil {
			return err
		}
		if err := r.pace.take(ctx, read); err != nil {
			return err
		}
	}
	return nil
}

// judgeTwo judges two results of one message, in the order in which they were stored. A second one under the job's id is no
// finding if the first is under the derived id, unless the stream is complete: the result of another job, which was in the way then, may have expired
// since.
func judgeTwo(first, second *storedResult, complete bool) *Finding {
	of := second.head.message()
	if first.key == of.derived() && second.key == second.head.JobID && !complete {
		return nil
	}
	return newFinding(ResultTwice, second.head.JobID, of, fmt.Sprintf(
		"the results under %s (stored %s) and %s (stored %s) are both of sequence %d", first.key, first.at.Format(time.RFC3339),
		second.key, second.at.Format(time.RFC3339), of.sequence))
}
