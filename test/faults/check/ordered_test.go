package check

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// inOrder is a history of an ordered queue whose promises were kept: o1 succeeds, o2 fails and is published twice, o3 is cancelled, o4 succeeds.
func inOrder() *History {
	h := good()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	h.Ordered = []string{"shop.feed"}
	for i, name := range []string{"o1", "o2", "o3", "o4"} {
		status := []string{Succeeded, Failed, Canceled, Succeeded}[i]
		r := request(name, ExactlyOnce, Succeeded)
		r.Queue, r.Statuses = "feed", []string{status}
		h.Requests[name] = r
		a := answer(name, name, uint64(200+2*i), status, "")
		a.Result.StartedAt, a.Result.FinishedAt = at(1000*i), at(1000*i+100)
		h.Publications = append(h.Publications, Publication{Request: name, Acked: true, Sequence: uint64(200 + 2*i)})
		keepAnswer(h, &a)
		switch status {
		case Succeeded:
			h.Effects = append(h.Effects, Row{"shop", name, 0, 0, 0})
			h.Commits = append(h.Commits, Commit{"shop.feed", name, len(h.Commits) + 1, at(1000 * i), at(1000*i + 110)})
		case Failed:
			h.Publications = append(h.Publications, Publication{Request: name, Acked: true, Sequence: 203})
			for _, sequence := range []uint64{202, 203} {
				h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: name, Reason: Failed, Sequence: sequence, Body: r.Body})
				h.Resumes = append(h.Resumes, Resume{"shop.feed", sequence, at(1500)}, Resume{"shop.feed", sequence, at(9000)})
			}
		}
	}
	return h
}

func TestBrokenPromisesOfOrderAreReported(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(inOrder()))
	for name, spoil := range map[string]func(h *History){
		"COMMITs in another order":  func(h *History) { h.Commits[1].Committed = start },
		"two COMMITs of one job":    func(h *History) { h.Commits = append(h.Commits, h.Commits[1]) },
		"two jobs at a time":        func(h *History) { h.Commits[1].Place = 1 },
		"a start before the COMMIT": func(h *History) { h.Commits[1].Started = h.Commits[0].Started },
		"a start before the result": func(h *History) { stored(h, "o3").Result.StartedAt = start },
		"an end before the result":  func(h *History) { a := stored(h, "o3"); a.Result.StartedAt, a.Result.FinishedAt = time.Time{}, start },
		"no ledger row":             func(h *History) { h.Ledger = h.Ledger[:len(h.Ledger)-2] },
		"a failure that left":       func(h *History) { h.Resumes = h.Resumes[2:] },
		"a copy that left":          func(h *History) { h.Resumes = h.Resumes[:2] },
		"a job behind a failure":    func(h *History) { h.Resumes = h.Resumes[1:] },
		"a COMMIT behind a failure": func(h *History) { h.Resumes = h.Resumes[1:]; stored(h, "o3").Result.StartedAt = start.Add(time.Hour) },
		"a record for another queue": func(h *History) {
			for i := range h.Resumes {
				h.Resumes[i].Queue = "shop.other"
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := inOrder()
			spoil(h)
			var reported []string
			for _, v := range Check(h) {
				reported = append(reported, v.Rule)
			}
			require.Contains(t, reported, "ordered")
		})
	}
}

func TestWrongClocksOfRunnersProveNoOrder(t *testing.T) {
	t.Parallel()
	h := inOrder()
	h.Skewed = true
	stored(h, "o3").Result.StartedAt = start
	require.Empty(t, Check(h))
}

// A failed job that is published again, to no queue, has no place in the order; and of a database whose clock was wrong, the order of the rows is what counts.
func TestWhatHasNoPlaceInTheOrder(t *testing.T) {
	t.Parallel()
	h := inOrder()
	h.Publications = append(h.Publications, Publication{Request: "o2", ID: "o2_r1", Acked: true, Sequence: 201})
	a := answer("o2_r1", "o2", 201, Failed, "")
	a.Result.StartedAt, a.Result.FinishedAt = start, start.Add(time.Minute)
	keepAnswer(h, &a)
	h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", JobID: "o2_r1", Reason: Failed, Sequence: 201})
	for i := range h.Commits {
		h.Commits[i].Started, h.Commits[i].Committed = time.Time{}, time.Time{}
	}
	require.Empty(t, Check(h))
	h.Commits[0], h.Commits[1] = h.Commits[1], h.Commits[0]
	require.NotEmpty(t, Check(h))
}
