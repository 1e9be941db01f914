package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// checkJobs reads the messages of the jobs stream that runners have received, and looks for those whose job has its result. A
// work queue has no direct gets, so that they are read one by one.
func (r *run) checkJobs(ctx context.Context) error {
	last, err := r.lastDelivered(ctx)
	if err != nil {
		return err
	}
	for next := max(r.jobs.State.FirstSeq, 1); next <= last; {
		m, err := r.js.get(ctx, r.names.jobs(), getRequest{Seq: next, NextFor: ">"})
		if m == nil || err != nil {
			return err
		}
		if next = m.seq + 1; m.seq > last {
			return nil
		}
		r.report.Jobs++
		if of := (message{m.seq, m.at}); r.messages.has(of.derived()) {
			err = r.confirm(ctx, time.Time{}, func(ctx context.Context) (*Finding, error) { return r.checkSettled(ctx, m) })
			if err != nil {
				return err
			}
		}
		r.Progress("jobs", r.report.Jobs, 0)
		if err := r.pace.take(ctx, 1); err != nil {
			return err
		}
	}
	return nil
}

// checkSettled looks whether a message is still there although its result was stored long ago.
func (r *run) checkSettled(ctx context.Context, m *stored) (*Finding, error) {
	of := message{m.seq, m.at}
	s, _, err := r.resultOfMessage(ctx, jobID(m), of)
	if s == nil || err != nil {
		return nil, err
	}
	now, err := r.js.state(ctx, r.names.jobs())
	if now == nil || err != nil || now.At.Sub(s.at) < r.Grace {
		return nil, err
	}
	queued, err := r.queued(ctx, of)
	if !queued || err != nil {
		return nil, err
	}
	return newFinding(SettledNotRemoved, s.head.JobID, of, fmt.Sprintf("the result under %s was stored %s ago (%s), and sequence %d is still in the jobs stream",
		s.key, now.At.Sub(s.at).Round(time.Second), s.head.Status, of.sequence)), nil
}

// jobID is the id that a job's message names: in its body, or in its header, or else the derived one.
func jobID(m *stored) string {
	var body struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(m.data, &body) == nil && only(body.ID, idCharacters) {
		return body.ID
	}
	if id := m.header.Get("Nats-Msg-Id"); only(id, idCharacters) {
		return id
	}
	return message{m.seq, m.at}.derived()
}

const idCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
