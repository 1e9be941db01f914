package model

import (
	"bytes"
	"maps"
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// published records what plain subscribers of the results stream receive. The mutex is held.
func (w *world) published(id string, body []byte) {
	if w.seen[id] != nil {
		w.problem("%s: a second result was published", id)
	}
	w.seen[id] = body
	head, err := contract.ReadHead(body)
	if err != nil {
		w.problem("%s: what was stored is no result: %v", id, err)
		return
	}
	row := w.server.rows[id]
	if m := w.messages[head.Sequence-1]; m.request.effect == string(contract.ExactlyOnce) && head.Status != contract.Rejected &&
		id == m.id() && (row == nil || row.Status != string(head.Status)) {
		w.problem("%s: a result %s was stored without its ledger row", id, head.Status)
	}
}

// storeDeadLetter stores a dead letter. The mutex is held.
func (w *world) storeDeadLetter(m *message, reason string) {
	own := w.ownEnd(m)
	switch {
	case reason == contract.ReasonJobIDReused:
	case own == nil:
		w.problem("%v: a dead letter (%s) before its stored result", m, reason)
	case reason != string(own.Status) && reason != contract.ReasonResultIDTaken && reason != own.ErrorCode:
		w.problem("%v: a dead letter (%s) for a result that says %s", m, reason, own.Status)
	}
	if w.deadLetters[m.derived()] == "" {
		w.deadLetters[m.derived()] = reason
	}
}

// ownEnd is a stored result that answers this very message; nil: there is none.
func (w *world) ownEnd(m *message) *contract.Head {
	for _, id := range []string{m.derived(), m.id()} {
		if head, err := contract.ReadHead(w.results[id]); err == nil && head.SameMessage(m.sequence, m.stored) {
			return &head
		}
	}
	return nil
}

// answered reports whether a stored result answers a message: its own, or that of another one with the same request.
func (w *world) answered(m *message) bool {
	return slices.ContainsFunc(w.messages, func(other *message) bool {
		return other.request.same(&m.request) && (m.request.id != "" || other == m) && w.ownEnd(other) != nil
	})
}

// promised reports whether the ledger has the answer of another message with the same request, which will store it.
func (w *world) promised(m *message) bool {
	row := w.server.rows[m.id()]
	if row == nil || row.SameMessage(m.sequence, m.stored) {
		return false
	}
	other := w.messages[row.Sequence-1]
	return other.request.same(&m.request) && !other.gone
}

func (w *world) reused(m *message) bool {
	return w.deadLetters[m.derived()] == contract.ReasonJobIDReused
}

// checkAck is called before a message may leave the stream: all that hangs on it is durable. The mutex is held.
func (w *world) checkAck(m *message) {
	if !w.answered(m) && !w.promised(m) && !w.reused(m) {
		w.problem("%v: acknowledged without a stored result", m)
	}
	own := w.ownEnd(m)
	if own == nil {
		return
	}
	switch own.Status {
	case contract.Failed, contract.Rejected, contract.Unknown:
		if w.deadLetters[m.derived()] == "" {
			w.problem("%v: acknowledged without a dead letter for %s", m, own.Status)
		}
	default:
	}
}

// checkReply is called for each reply. What it says is stored, or on record where another result is in its place. The mutex
// is held.
func (w *world) checkReply(body []byte) {
	head, err := contract.ReadHead(body)
	if err != nil {
		w.problem("a reply that is no result: %v", err)
		return
	}
	if head.ErrorCode == string(contract.CodeIDReused) {
		return
	}
	marked := contract.MarkDuplicate(body)
	for _, stored := range w.results {
		if bytes.Equal(contract.MarkDuplicate(stored), marked) {
			return
		}
	}
	row := w.server.rows[head.JobID]
	if row != nil && w.results[head.JobID] != nil && bytes.Equal(contract.MarkDuplicate(row.Answer), marked) {
		return
	}
	w.problem("%s: a reply (%s) that is not what is stored", head.JobID, head.Status)
}

// fenced reports whether the ledger watches over a message's effect.
func (m *message) fenced() bool {
	return m.request.effect == string(contract.ExactlyOnce) || m.request.effect == string(contract.AtMostOnce)
}

// effectsOf counts the effects of a message.
func (w *world) effectsOf(m *message) (n int) {
	for _, e := range w.server.effects {
		if m.fenced() && e.sequence == m.sequence || !m.fenced() && e.name == m.request.name && e.jobID == m.id() && e.sequence == 0 {
			n++
		}
	}
	return n
}

// check holds what is there against what must be true at any moment.
func (w *world) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(w.seen)) {
		if !bytes.Equal(w.results[id], w.seen[id]) {
			w.problem("%s: its stored result has changed", id)
		}
	}
	fenced := map[string]int{}
	for _, m := range w.messages {
		if m.fenced() {
			n := w.effectsOf(m)
			fenced[m.id()] += n
			w.checkTruth(m, n)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(fenced)) {
		if fenced[id] > 1 {
			w.problem("%s: %d effects", id, fenced[id])
		}
	}
}

// checkTruth compares what a message's own result says with its effects.
func (w *world) checkTruth(m *message, effects int) {
	if w.reused(m) && effects > 0 {
		w.problem("%v: refused because its id is another's, and %d effects", m, effects)
	}
	own := w.ownEnd(m)
	if own == nil {
		return
	}
	switch {
	case own.Status == contract.Unknown && m.request.effect == string(contract.ExactlyOnce):
		w.problem("%v: exactly_once ended unknown", m)
	case own.Status == contract.Unknown:
	case own.Status == contract.Succeeded && effects != 1:
		w.problem("%v: succeeded with %d effects", m, effects)
	case own.Status != contract.Succeeded && effects != 0:
		w.problem("%v: %s with %d effects", m, own.Status, effects)
	}
}

// alone reports whether only the one delivery of a message can have had its effect.
func (w *world) alone(m *message) bool {
	twin := func(other *message) bool { return other != m && other.request.same(&m.request) }
	return m.ever == 1 && !slices.ContainsFunc(w.messages, twin)
}

// judge looks at the end of a history: every message has its answer, and every effect has been reported.
func (w *world) judge() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.messages {
		if !w.answered(m) && !w.reused(m) {
			w.problem("%v: left the stream without an answer", m)
		}
		own := w.ownEnd(m)
		n := w.effectsOf(m)
		switch {
		case m.fenced() && n > 0 && own == nil:
			w.problem("%v: an effect without a result", m)
		case !m.fenced() && m.request.kind != "query" && own != nil && own.Status == contract.Succeeded && n == 0:
			w.problem("%v: succeeded without an effect", m)
		case !m.fenced() && own != nil && (own.Status == contract.Canceled || own.Status == contract.Expired) && n > 0 && w.alone(m):
			w.problem("%v: %s with %d effects", m, own.Status, n)
		case m.request.kind == "query" && n > 0:
			w.problem("%v: a query with an effect", m)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.server.rows)) {
		if w.server.rows[id].Status == db.StatusStarted {
			w.problem("%s: its ledger row has no outcome", id)
		}
	}
}
