package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// deadLetter is what a dead letter says.
type deadLetter struct {
	derived  string // the last token of its subject
	jobID    string
	reason   string
	resultID string // empty: no result is stored
	message  message
	at       time.Time
	err      error
}

func readDeadLetter(m *stored) *deadLetter {
	d := &deadLetter{
		derived: m.subject[strings.LastIndexByte(m.subject, '.')+1:], at: m.at, jobID: m.header.Get("Dbrunner-Job-Id"),
		reason: m.header.Get("Dbrunner-Reason"), resultID: m.header.Get("Dbrunner-Result-Id"),
	}
	d.message.sequence, d.err = strconv.ParseUint(m.header.Get("Dbrunner-Sequence"), 10, 64)
	if d.err == nil {
		d.message.at, d.err = time.Parse(time.RFC3339Nano, m.header.Get("Dbrunner-Queued-At"))
	}
	var body struct {
		Answer string `json:"answer"`
	}
	if json.Unmarshal(m.data, &body) == nil && body.Answer == "reply" {
		d.resultID = "" // its result was never stored
	}
	return d
}

// checkDeadLetters reads the dead letters of the database. A job's result is stored before its dead letter.
func (r *run) checkDeadLetters(ctx context.Context) error {
	if r.dead == nil {
		return nil
	}
	from := max(r.dead.State.FirstSeq, 1)
	if !r.Since.IsZero() {
		var err error
		if from, err = r.js.firstSince(ctx, r.names.dead(), r.dead, r.Since); err != nil {
			return err
		}
	}
	for next := from; next > 0; {
		var page []*deadLetter
		var err error
		read := 0
		next, err = r.js.page(ctx, r.names.dead(), next, r.dead.State.LastSeq, func(m *stored) error {
			if read++; strings.HasPrefix(m.subject, r.deadLetters()) {
				page = append(page, readDeadLetter(m))
			}
			return nil
		})
		for _, d := range page {
			if err == nil {
				err = r.checkDeadLetter(ctx, d)
			}
		}
		if err != nil {
			return err
		}
		r.report.DeadLetters += uint64(len(page))
		r.Progress("dead letters", r.report.DeadLetters, 0)
		if err := r.pace.take(ctx, read); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) checkDeadLetter(ctx context.Context, d *deadLetter) error {
	switch {
	case d.err != nil || d.jobID == "" || d.derived != d.message.derived():
		return r.note(newFinding(DeadLetterDiffers, d.jobID, d.message, fmt.Sprintf("the dead letter %s does not name its own message", d.derived)))
	case d.message.at.Before(keptSince(r.results)):
		r.report.NotJudged.DeadLetters++
		return nil
	case d.reason == codeIDReused:
		return r.confirm(ctx, d.at, func(ctx context.Context) (*Finding, error) { return r.checkRefused(ctx, d) })
	case d.resultID == "":
		return nil
	}
	return r.confirm(ctx, d.at, func(ctx context.Context) (*Finding, error) { return r.checkDeadLetterResult(ctx, d) })
}

// checkRefused looks whether a job that is said to be refused has an outcome of its own.
func (r *run) checkRefused(ctx context.Context, d *deadLetter) (*Finding, error) {
	s, _, err := r.resultOfMessage(ctx, d.jobID, d.message)
	if err != nil {
		return nil, err
	}
	if s != nil {
		return newFinding(RefusedButRecorded, d.jobID, d.message, fmt.Sprintf(
			"the dead letter of sequence %d says job_id_reused, and its result under %s says %s", d.message.sequence, s.key, s.head.Status)), nil
	}
	if r.Ledger == nil {
		return nil, nil
	}
	recorded, err := r.Ledger.read(ctx, d.jobID)
	if recorded == nil || err != nil || !recorded.message.equal(d.message) || recorded.start.Error.Code == codeIDReused {
		return nil, err
	}
	return newFinding(RefusedButRecorded, d.jobID, d.message, fmt.Sprintf(
		"the dead letter of sequence %d says job_id_reused, and the ledger row %s", d.message.sequence, recorded.status)), nil
}

// checkDeadLetterResult compares a dead letter with the result that it names.
func (r *run) checkDeadLetterResult(ctx context.Context, d *deadLetter) (*Finding, error) {
	s, other, err := r.resultOfMessage(ctx, d.resultID, d.message)
	if err != nil {
		return nil, err
	}
	if s == nil {
		if expired, err := r.mayHaveExpired(ctx, d.message); expired || err != nil {
			return nil, err
		}
	}
	switch {
	case s == nil && other != nil && other.err == nil:
		return newFinding(DeadLetterDiffers, d.jobID, d.message, fmt.Sprintf(
			"the dead letter of sequence %d names the result under %s, which is of sequence %d", d.message.sequence, d.resultID, other.head.Sequence)), nil
	case s == nil:
		return newFinding(DeadLetterAlone, d.jobID, d.message, fmt.Sprintf(
			"the dead letter of sequence %d (%s) names the result under %s, which is not stored", d.message.sequence, d.reason, d.resultID)), nil
	case s.head.Status == d.reason, s.head.Error.Code == d.reason:
		return nil, nil
	case d.reason == codeResultTaken && s.key == d.derived && s.head.JobID != s.key: // a failure keeps its own code
		return nil, nil
	}
	return newFinding(DeadLetterDiffers, d.jobID, d.message, fmt.Sprintf(
		"the dead letter of sequence %d says %s, its result under %s says %s", d.message.sequence, d.reason, s.key, s.head.Status)), nil
}

// leavesDeadLetter reports whether a result's job must have left a dead letter that cannot have been removed.
func (r *run) leavesDeadLetter(s *storedResult) bool {
	reason := s.head.Status
	if s.head.Error.Code == codeTooManyDeliveries {
		reason = codeTooManyDeliveries
	}
	if s.key != s.head.JobID && !slices.Contains(r.DeadLetters, codeResultTaken) {
		return false
	}
	return slices.Contains([]string{statusFailed, statusRejected, statusUnknown}, s.head.Status) &&
		slices.Contains(r.DeadLetters, reason) && untouched(r.dead) && s.head.QueuedAt.After(r.dead.Created)
}

// checkLeftDeadLetter looks for the dead letter of a result, which is stored before the job's message goes.
func (r *run) checkLeftDeadLetter(ctx context.Context, key string) (*Finding, error) {
	s, err := r.readResult(ctx, key)
	if s == nil || s.err != nil || err != nil || !r.leavesDeadLetter(s) {
		return nil, err
	}
	h := &s.head
	queued, err := r.queued(ctx, h.message())
	if queued || err != nil {
		return nil, err
	}
	m, err := r.js.get(ctx, r.names.dead(), getRequest{LastFor: r.deadLetter(h.Kind, h.message().derived())})
	if m != nil || err != nil {
		return nil, err
	}
	now, err := r.js.state(ctx, r.names.dead())
	if err != nil || !untouched(now) || now.Created.After(h.QueuedAt) {
		return nil, err
	}
	return newFinding(DeadLetterMissing, h.JobID, h.message(), fmt.Sprintf(
		"the result under %s says %s, and there is no dead letter of sequence %d", key, h.Status, h.Sequence)), nil
}
