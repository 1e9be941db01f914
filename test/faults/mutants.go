package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// edit changes a source file: old is there exactly once, or the mutant is out of date and says so.
type edit struct{ file, old, new string }

// mutant is a runner that is broken on purpose: the bench has to find it out. Nothing of it is in the product's code; its
// edits are laid over the source while it is built.
type mutant struct {
	name   string
	what   string
	edits  []edit
	only   []string // nemeses under which it shows
	caught []string // rules of which one has to report it

	drain time.Duration // for a runner whose queues are never empty: how long that is waited for; 0: as ever
}

// mutants are the mistakes that one makes in such a program.
func mutants() []mutant {
	return slices.Concat(laneMutants(), effectMutants(), sharedMutants(), resultMutants(), flowMutants(), approvalMutants(), orderedMutants())
}

// laneMutants are mistakes of lanes, leases and gates.
func laneMutants() []mutant {
	return []mutant{
		{
			name: "ack_before_commit", what: "the message is acknowledged before its work is done",
			edits: []edit{{
				"internal/worker/process.go", "\tstarted := time.Now()\n\tout := l.opts.Executor.Run(",
				"\tstarted := time.Now()\n\t_ = h.message.Ack()\n\tout := l.opts.Executor.Run(",
			}},
			only: []string{"runner_kill"}, caught: []string{"one_result"},
		},
		{
			name: "nak_after_lost_lease", what: "a message is requeued although its lease is lost",
			edits: []edit{{
				"internal/worker/settle.go", "\tif h.leaseLost() {\n\t\tl.ended(h, report.LeaseLost, nil)\n\t\treturn\n\t}\n", "",
			}},
			only: []string{"runner_stop"}, caught: []string{"requeued"},
		},
		{
			name: "reply_before_result", what: "the reply is sent before the result is stored",
			edits: []edit{
				{"internal/worker/settle.go", "\tcrash.At(\"before_store\")\n", "\tl.reply(h, &out)\n\tcrash.At(\"before_store\")\n"},
				{"internal/worker/settle.go", "\tl.reply(h, &out)\n\tcrash.At(\"after_reply\")\n", "\tcrash.At(\"after_reply\")\n"},
			},
			only: []string{"results_full"}, caught: []string{"reply"},
		},
		{
			name: "gate_closed_by_job", what: "a job that fails as if the database were down closes its gate, and is tried again when a probe opens it",
			edits: []edit{{
				"internal/worker/process.go", "\tif !l.opts.Gate.answers(ctx) {", "\tif l.opts.Gate.hold(out.Reason); true {",
			}},
			only: []string{"none"}, caught: []string{"one_result"}, drain: 15 * time.Second,
		},
	}
}

// effectMutants are mistakes around COMMIT, the ledger row and its fence.
func effectMutants() []mutant {
	return []mutant{
		{
			name: "ledger_row_outside", what: "the ledger row is written in a transaction of its own, after the job's",
			edits: []edit{{
				"internal/db/postgres/transact.go", "\tif err := t.finish(ctx, entry); err != nil {\n\t\treturn nil, err\n\t}",
				"\tif err := t.finish(ctx, nil); err != nil {\n\t\treturn nil, err\n\t}\n\tif entry != nil {\n" +
					"\t\tif _, _, err := t.record(entry); err != nil {\n\t\t\treturn nil, err\n\t\t}\n\t}",
			}},
			only: []string{"pg_cut_after"}, caught: []string{"effects"},
		},
		{
			name: "absent_row_is_rollback", what: "after a COMMIT without an answer an absent ledger row is taken for a rollback",
			edits: []edit{
				{
					"internal/delivery/executor.go", "\tcase db.ClassUnknown:\n\t\treturn r.effect != contract.AtMostOnce\n",
					"\tcase db.ClassUnknown:\n\t\treturn r.effect != contract.AtMostOnce && r.effect != contract.ExactlyOnce\n",
				},
				{
					"internal/delivery/executor.go", "\tif r.refused != nil {\n\t\tif errors.Is(",
					"\tif db.ClassOf(err) == db.ClassUnknown && r.effect == contract.ExactlyOnce {\n" +
						"\t\tif row, lookErr := r.lookup(ctx); lookErr == nil && row == nil {\n" +
						"\t\t\treturn r.outcome(r.complete(contract.Failed, &contract.Error{Code: \"connection_lost\", Message: \"rolled back\"}, jobs.Answer{})), true\n\t\t}\n\t}\n" +
						"\tif r.refused != nil {\n\t\tif errors.Is(",
				},
			},
			only: []string{"pg_late_commit"}, caught: []string{"effects"},
		},
		{
			name: "safe_to_retry_trusted", what: "a link that is lost at COMMIT is believed to have committed nothing, so that the repetition needs no fence",
			edits: []edit{
				{
					"internal/db/engine/errors.go", "\treturn db.Errorf(db.ClassUnknown, contract.CodeConnectionLost,\n",
					"\treturn db.Errorf(db.ClassLost, contract.CodeConnectionLost,\n",
				},
				{
					"internal/db/postgres/transact.go", "t.buf = appendParse(t.buf, \"\", fenceEntry, nil)",
					"t.buf = appendParse(t.buf, \"\", insertEntry+\" ON CONFLICT DO NOTHING\", nil)",
				},
			},
			only: []string{"pg_cut_after"}, caught: []string{"effects"},
		},
		{
			name: "names_trusted", what: "a session goes on in which a job has put other statements under the names of its prepared ones",
			edits: []edit{{
				"internal/db/postgres/session.go", "end.count != s.statement.have {", "end.count != s.statement.have && false {",
			}},
			only: []string{"pg_cut_after"}, caught: []string{"effects"},
		},
		{
			name: "limit_after_commit", what: "a transaction's limit on rows is compared after its COMMIT",
			edits: []edit{
				{
					"internal/db/postgres/transact.go", "\tentry, err := t.verify(ctx, &out)\n",
					"\texceeded := t.checkAffected(ctx, t.before)\n\tentry, err := t.verify(ctx, &out)\n",
				},
				{"internal/db/postgres/transact.go", "\tif err := t.checkAffected(ctx, t.before); err != nil {\n\t\treturn nil, err\n\t}\n", ""},
				{"internal/db/postgres/transact.go", "\treturn out.sets, nil\n", "\treturn out.sets, exceeded\n"},
			},
			only: []string{"none"}, caught: []string{"limits"},
		},
		{
			name: "failure_without_row", what: "a failure is answered without its ledger row",
			edits: []edit{{
				"internal/delivery/earlier.go", "\tif f := r.facts(); !f.recordsFirst() {", "\tif f := r.facts(); !f.recordsFirst() || status != contract.Unknown {",
			}},
			only: []string{"pg_late_commit"}, caught: []string{"effects", "ledger"},
		},
	}
}

// resultMutants are mistakes around stored results.
func resultMutants() []mutant {
	return []mutant{
		{
			name: "result_overwritten", what: "a result is stored over the one that is there",
			edits: []edit{
				{"internal/bus/results/results.go", "first:  nats.Header{bus.HeaderExpectedSequence: {\"0\"}},", "first:  nats.Header{},"},
				{
					"internal/bus/topology/topology.go", "s.Discard, s.DiscardNewPerSubject, s.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1",
					"s.Discard, s.DiscardNewPerSubject, s.MaxMsgsPerSubject = jetstream.DiscardNew, false, 1",
				},
			},
			only: []string{"runner_stop"}, caught: []string{"stored_once", "seen_as_stored"},
		},
		{
			name: "endpoint_compares_nothing", what: "the run endpoint answers a request with whatever result its id has",
			edits: []edit{
				{"internal/api/runendpoint.go", "\tif !j.sameJob(&other) {", "\tif !j.sameJob(&other) && false {"},
				{"internal/api/runendpoint.go", "first.Timestamp), j.answeredBy(&head, result):", "first.Timestamp), j.answeredBy(&head, result), true:"},
				{"internal/api/runendpoint.go", "\tif j.answeredBy(head, result) {", "\tif true {"},
			},
			only: []string{"none"}, caught: []string{"response"},
		},
	}
}

// mutantSeeds is how many seeds a mutant may take to be found out.
const mutantSeeds = 12

// runMutants builds each mutant and runs seeds until a rule that is there for it reports it.
func (o *options) runMutants(ctx context.Context, w *world) error {
	serial := 1000
	var missed []error
	for _, m := range mutants() {
		if o.mutant != "" && o.mutant != m.name {
			continue
		}
		binary, err := w.buildMutant(ctx, m)
		if err != nil {
			return err
		}
		caught := ""
		for i := range mutantSeeds {
			one := *o
			one.only, one.drain = m.only, cmp.Or(m.drain, o.drain)
			serial++
			s, err := w.runSeed(ctx, &one, binary, o.seed+uint64(i), serial)
			if err != nil {
				return fmt.Errorf("mutant %s, seed %d: %w", m.name, o.seed+uint64(i), err)
			}
			if o.verbose {
				progress("%s", s)
			}
			if caught = s.rules(); slices.ContainsFunc(m.caught, func(rule string) bool { return strings.Contains(caught, rule) }) {
				fmt.Printf("%-24s caught at seed %d under %s by %s\n", m.name, s.Seed, s.Nemeses, caught)
				break
			}
			caught = ""
		}
		if caught == "" {
			fmt.Printf("%-24s NOT CAUGHT: %s\n", m.name, m.what)
			missed = append(missed, fmt.Errorf("%s is not found out", m.name))
		}
	}
	return errors.Join(missed...)
}

// rules are the names of the rules that reported something, and how often each did.
func (s *summary) rules() string {
	times := map[string]int{}
	var names []string
	for _, v := range s.Violations {
		if times[v.Rule]++; times[v.Rule] == 1 {
			names = append(names, v.Rule)
		}
	}
	for i, name := range names {
		names[i] = fmt.Sprintf("%s (%d)", name, times[name])
	}
	return strings.Join(names, ", ")
}

// buildMutant builds a runner from the source with the mutant's edits laid over it.
func (w *world) buildMutant(ctx context.Context, m mutant) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	overlay, err := m.overlay(root, filepath.Join(w.dir, "mutant-"+m.name))
	if err != nil {
		return "", err
	}
	return w.build(ctx, m.name, overlay)
}

// moduleRoot is the folder of the sources.
func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// overlay writes the edited files into a folder, and the file that the go command wants of them.
func (m mutant) overlay(root, dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	replace := map[string]string{}
	texts := map[string]string{}
	for _, e := range m.edits {
		original := filepath.Join(root, e.file)
		text, ok := texts[original]
		if !ok {
			read, err := os.ReadFile(original)
			if err != nil {
				return "", err
			}
			text = string(read)
		}
		if n := strings.Count(text, e.old); n != 1 {
			return "", fmt.Errorf("mutant %s is out of date: %s has its place %d times, not once: %q", m.name, e.file, n, e.old)
		}
		texts[original] = strings.Replace(text, e.old, e.new, 1)
		replace[original] = filepath.Join(dir, strings.ReplaceAll(e.file, "/", "_"))
	}
	for original, copied := range replace {
		if err := os.WriteFile(copied, []byte(texts[original]), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}
