package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dbrunner/test/faults/check"
)

// keep writes the history of a run with violations into a folder: everything, and beside it the story of each request
// whose history shows a violation.
func (r *round) keep(o *options, h *check.History, found []check.Violation) (string, error) {
	dir := o.keep
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dbrunner-violations-"); err != nil {
			return "", err
		}
	}
	dir = filepath.Join(dir, fmt.Sprintf("seed-%d-%s", r.seed, filepath.Base(r.binary)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	var all bytes.Buffer
	fmt.Fprintf(&all, "seed %d; it is repeated by: go run ./test/faults -seed %d -seeds 1 -jobs %d -length %s", r.seed, r.seed, o.jobs, o.length)
	if len(o.only) > 0 {
		fmt.Fprintf(&all, " -only %s", strings.Join(o.only, ","))
	}
	if o.mix {
		all.WriteString(" -mix")
	}
	all.WriteString("\n\n")
	reported := map[string]bool{}
	for _, v := range found {
		fmt.Fprintf(&all, "%s: %s %s\n", v.Rule, v.Request, v.Text)
		if v.Request != "" && !reported[v.Request] && len(reported) < 20 {
			reported[v.Request] = true
			r.story(&all, h, v.Request)
		}
	}
	files := map[string]any{
		"requests.json": h.Requests, "publications.json": h.Publications, "stored.json": h.Stored, "seen.json": h.Seen,
		"replies.json": h.Replies, "dead_letters.json": h.DeadLetters, "effects.json": h.Effects, "spans.json": h.Spans,
		"schedules.json": h.Schedules, "pauses.json": h.Pauses, "delays.json": h.Delays, "outbox.json": h.Outbox, "ledger.json": h.Ledger, "faults.json": h.Faults,
		"naks.json": h.Naks, "applied.json": h.Applied, "responses.json": h.Responses,
	}
	for name, what := range files {
		text, err := json.MarshalIndent(what, "", " ")
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			return "", err
		}
	}
	for _, t := range h.Texts {
		if name, ok := strings.CutPrefix(t.Where, "the log "); ok {
			if err := os.WriteFile(filepath.Join(dir, name), t.Body, 0o600); err != nil {
				return "", err
			}
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, "violations.txt"), all.Bytes(), 0o600)
}

// event is one line of a story.
type event struct {
	at   time.Time
	text string
}

// story returns all that is known of a request, in chronological order.
func (r *round) story(out *bytes.Buffer, h *check.History, name string) {
	q := h.Requests[name]
	if q == nil {
		return
	}
	fmt.Fprintf(out, "  request %s: %s on %s, %s, body %.300s\n", name, q.Kind, q.Database, q.Effect, q.Body)
	var events []event
	add := func(at time.Time, format string, args ...any) {
		events = append(events, event{at, fmt.Sprintf(format, args...)})
	}
	ids, sequences := map[string]bool{q.ID: q.ID != ""}, map[uint64]bool{}
	for _, p := range h.Publications {
		if p.Request == name || q.ID != "" && h.Requests[p.Request].ID == q.ID {
			add(p.From, "published (request %s): acknowledged %t, sequence %d, duplicate %t %s", p.Request, p.Acked, p.Sequence, p.Duplicate, p.Error)
			if p.Acked {
				sequences[p.Sequence] = true
			}
		}
	}
	answers := func(what string, list []check.Answer) {
		for i := range list {
			a := &list[i]
			if a.Result.Request() == name || q.ID != "" && a.Result.JobID == q.ID {
				add(a.At, "%s under %s: %.700s", what, a.Key, a.Body)
				ids[a.Result.JobID], sequences[a.Result.Sequence] = true, true
			}
		}
	}
	answers("result stored", h.Stored)
	answers("result seen", h.Seen)
	answers("reply", h.Replies)
	for _, f := range h.Faults {
		add(f.From, "fault %s %s starts", f.Name, f.Note)
		add(f.Until, "fault %s %s ends", f.Name, f.Note)
	}
	for _, n := range h.Naks {
		if n.Database == q.Database && sequences[n.Sequence] {
			add(n.At, "delivery %d of sequence %d requeued", n.Deliveries, n.Sequence)
		}
	}
	for _, t := range h.Texts {
		if strings.HasPrefix(t.Where, "the log ") {
			logLines(t, ids, sequences, q.Database, add)
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	for _, e := range events {
		fmt.Fprintf(out, "    %9.3f s  %s\n", e.at.Sub(r.started).Seconds(), e.text)
	}
	for _, l := range h.DeadLetters {
		if l.Database == q.Database && (ids[l.JobID] || sequences[l.Sequence]) {
			fmt.Fprintf(out, "    dead letter %s of job %s: %s, sequence %d\n", l.Key, l.JobID, l.Reason, l.Sequence)
		}
	}
	for _, row := range h.Ledger {
		if row.Database == q.Database && ids[row.JobID] {
			fmt.Fprintf(out, "    ledger: %s %s, sequence %d\n", row.JobID, row.Status, row.Sequence)
		}
	}
	for _, row := range h.Effects {
		if row.Request == name {
			fmt.Fprintf(out, "    effect: %+v\n", row)
		}
	}
}

// logLines finds the lines of a runner's log that name one of the jobs or messages.
func logLines(t check.Text, ids map[string]bool, sequences map[uint64]bool, database string, add func(time.Time, string, ...any)) {
	lines := bufio.NewScanner(bytes.NewReader(t.Body))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			TS       json.RawMessage `json:"ts"`
			Time     time.Time       `json:"time"`
			Database string          `json:"database"`
			JobID    string          `json:"job_id"`
			Sequence uint64          `json:"sequence"`
		}
		if json.Unmarshal(lines.Bytes(), &line) != nil || line.Database != database {
			continue
		}
		if ids[line.JobID] || sequences[line.Sequence] {
			at := line.Time
			_ = json.Unmarshal(line.TS, &at)
			add(at, "%s: %.600s", strings.TrimPrefix(t.Where, "the log "), lines.Bytes())
		}
	}
}
