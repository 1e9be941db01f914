package check

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// approving is a history with dry runs and approvals in which the promises were kept: one approved, one whose effect has changed, one
// approved under another id, and a failed dry run.
func approving() *History {
	h := good()
	add := func(id, kind, approves, digest string, sequence uint64, status, more string) {
		r := request(id, "rolled_back", status)
		r.Kind, r.Rows, r.Approves, r.Digest = kind, 0, approves, digest
		a := answer(id, id, sequence, status, more)
		a.Result.Kind, a.Result.Effect = kind, "rolled_back"
		if kind == "approve" {
			r.Effect, a.Result.Effect, r.Rows = ExactlyOnce, ExactlyOnce, 2
			h.Ledger = append(h.Ledger, LedgerRow{Database: "shop", JobID: id, Status: status, Sequence: sequence, Answer: a.Body})
		}
		if status != Succeeded {
			h.DeadLetters = append(h.DeadLetters, DeadLetter{Database: "shop", Kind: kind, JobID: id, Reason: status, Sequence: sequence, Body: r.Body})
		}
		h.Requests[id] = r
		h.Publications = append(h.Publications, Publication{Request: id, Acked: true, Sequence: sequence})
		h.Stored = append(h.Stored, a)
		h.Results[0].Messages++
		h.Results[0].Last++
	}
	shown := `,"statements":[{"rows_affected":1,"rows":[{"amount":100}]},{"rows_affected":1}]`
	add("one", "dry_run", "", "", 201, Succeeded, shown+`,"effect_digest":"sha256:1"`)
	add("one_approved", "approve", "one", "sha256:1", 202, Succeeded, shown)
	add("one_again", "approve", "one", "sha256:1", 203, Rejected, `,"error":{"code":"invalid_id"}`)
	add("two", "dry_run", "", "", 204, Succeeded, shown+`,"effect_digest":"sha256:2"`)
	add("two_approved", "approve", "two", "sha256:2", 205, Failed, `,"error":{"code":"effect_changed"}`)
	add("three", "dry_run", "", "", 206, Failed, `,"error":{"code":"max_affected_exceeded"}`)
	h.Effects = append(h.Effects, Row{"shop", "one_approved", 0, 0, 100}, Row{"shop", "one_approved", 0, 0, 0})
	return h
}

// succeed lets an approval succeed, with its effect.
func succeed(h *History, id string) {
	a := stored(h, id)
	more := `,"statements":[{"rows_affected":1,"rows":[{"amount":100}]},{"rows_affected":1}]`
	*a = answer(id, id, a.Result.Sequence, Succeeded, more)
	h.Requests[id].Statuses = []string{Succeeded}
	h.Effects = append(h.Effects, Row{"shop", id, 0, 0, 100}, Row{"shop", id, 0, 0, 0})
	for i := range h.Ledger {
		if h.Ledger[i].JobID == id {
			h.Ledger[i].Status, h.Ledger[i].Answer = Succeeded, a.Body
		}
	}
	h.DeadLetters = slices.DeleteFunc(h.DeadLetters, func(l DeadLetter) bool { return l.JobID == id })
}

func TestBrokenPromisesOfApprovalsAreReported(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(approving()))
	for name, c := range map[string]struct {
		rule  string
		spoil func(h *History)
	}{
		"a dry run with an effect": {"effects", func(h *History) {
			h.Requests["one"].Name = "one"
			h.Effects = append(h.Effects, Row{"shop", "one", 0, 0, 1})
		}},
		"a dry run that wrote what its approval would": {"effects", func(h *History) {
			h.Effects = append(h.Effects, Row{"shop", "two_approved", 0, 0, 100}, Row{"shop", "two_approved", 0, 0, 0})
		}},
		"a dry run in the ledger": {"approvals", func(h *History) {
			a := stored(h, "one")
			h.Ledger = append(h.Ledger, LedgerRow{Database: "shop", JobID: "one", Status: Succeeded, Sequence: 201, Answer: a.Body})
		}},
		"a dry run without a digest":      {"approvals", func(h *History) { stored(h, "one").Result.EffectDigest = "" }},
		"a failed dry run with a digest":  {"approvals", func(h *History) { stored(h, "three").Result.EffectDigest = "sha256:3" }},
		"a digest in a refused approval":  {"approvals", func(h *History) { stored(h, "two_approved").Result.EffectDigest = "sha256:2" }},
		"an approval under another id":    {"approvals", func(h *History) { succeed(h, "one_again") }},
		"an approval with a wrong digest": {"approvals", func(h *History) { h.Requests["one_approved"].Digest = "sha256:0" }},
		"an approval of another effect":   {"approvals", func(h *History) { *stored(h, "one").Result.Statements[1].Affected = 2 }},
		"an approval of other rows":       {"approvals", func(h *History) { h.Effects[len(h.Effects)-2].Amount = 101 }},
		"an approval without its dry run": {"approvals", func(h *History) {
			h.Requests["one_approved"].Approves, h.Requests["one_approved"].ID = "no", "no_approved"
			stored(h, "one_approved").Key = "no_approved"
		}},
		"an approval of a failed dry run":  {"approvals", func(h *History) { stored(h, "one").Result.Status, stored(h, "one").Result.EffectDigest = Failed, "" }},
		"an approval with half its effect": {"effects", func(h *History) { h.Effects = h.Effects[:len(h.Effects)-1] }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := approving()
			c.spoil(h)
			var reported []string
			for _, v := range Check(h) {
				require.NotEmpty(t, v.Text)
				reported = append(reported, v.Rule)
			}
			require.Contains(t, reported, c.rule)
		})
	}
}
