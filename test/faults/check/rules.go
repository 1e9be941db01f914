package check

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Violation is a promise that was not kept.
type Violation struct {
	Rule    string `json:"rule"`
	Request string `json:"request,omitempty"` // whose history shows it; empty: no request's
	Text    string `json:"text"`
}

// rule is one promise: its name, and what of a history does not keep it.
type rule struct {
	name  string
	check func(ix *index, report func(request, format string, args ...any))
}

// rules are all promises. The numbers are those of the invariants in docs/reliability.md.
var rules = []rule{
	{"one_result", oneResult},
	{"known_result", knownResult},
	{"stored_once", storedOnce},
	{"seen_as_stored", seenAsStored},
	{"effects", effects},
	{"limits", limits},
	{"balances", balances},
	{"sum_read", sumRead},
	{"rows_object", rowsObjects},
	{"ends", ends},
	{"id_reuse", idReuse},
	{"ledger", ledger},
	{"reply", reply},
	{"response", response},
	{"dead_letters", deadLetters},
	{"refused", refused},
	{"migrations", migrations},
	{"requeued", requeued},
	{"exits", exits},
	{"memory", memory},
	{"connections", connections},
	{"secrets", secrets},
	{"drained", drained},
	{"fleet_slots", fleetSlots},
	{"outbox", outbox},
	{"ticks", ticks},
	{"pauses", pauses},
	{"approvals", approvals},
	{"ordered", ordered},
}

// Rules are the names of all promises that Check looks at.
func Rules() []string {
	names := make([]string, len(rules))
	for i, r := range rules {
		names[i] = r.name
	}
	return names
}

// Check returns what of the history does not keep a promise; nothing if all were kept.
func Check(h *History) []Violation {
	ix := newIndex(h)
	var found []Violation
	for _, r := range rules {
		r.check(ix, func(request, format string, args ...any) {
			found = append(found, Violation{Rule: r.name, Request: request, Text: fmt.Sprintf(format, args...)})
		})
	}
	return found
}

// oneResult: whatever the stream has acknowledged ends in one stored result.
func oneResult(ix *index, report func(string, string, ...any)) {
	for _, g := range ix.groups {
		if !g.acked || g.replyOnly() {
			continue
		}
		if g.result == nil {
			report(g.requests[0].Name, "job %s of %s was acknowledged by the stream (sequence %v) and has no result",
				g.key.id, g.key.database, g.sequences)
		}
	}
}

// knownResult: every result belongs to a request.
func knownResult(ix *index, report func(string, string, ...any)) {
	for i := range ix.Stored {
		a := &ix.Stored[i]
		g := ix.groupOf(a)
		switch name := a.Result.Request(); {
		case g == nil:
			report(name, "the result %s of %s belongs to no published job", a.Key, a.Database)
		case name != "" && !g.has(name):
			report(name, "the result %s of %s claims request %s", a.Key, a.Database, name)
		case a.Result.JobID != a.Key && !strings.HasPrefix(a.Key, "s"):
			report(name, "the result %s of %s claims job %s", a.Key, a.Database, a.Result.JobID)
		}
	}
}

// storedOnce: no result is stored over another. Each that was ever stored is still there, as nothing is purged here.
func storedOnce(ix *index, report func(string, string, ...any)) {
	for _, s := range ix.Results {
		if s.Messages != s.Last {
			report("", "stream %s took %d results and has %d", s.Name, s.Last, s.Messages)
		}
	}
}

// seenAsStored: subscribers see a result as it is stored, and once. A cluster whose servers crash may publish what it has
// stored a second time when it reads its log again.
func seenAsStored(ix *index, report func(string, string, ...any)) {
	times := map[jobKey]int{}
	for i := range ix.Seen {
		a := &ix.Seen[i]
		key := jobKey{a.Database, a.Key}
		if times[key]++; times[key] == 2 && !ix.Replayed {
			report(a.Result.Request(), "subscribers saw the result %s of %s more than once", a.Key, a.Database)
		}
		stored := ix.stored[key]
		if stored == nil || !bytes.Equal(stored.Body, a.Body) {
			report(a.Result.Request(), "subscribers saw another result %s of %s than the one that is stored", a.Key, a.Database)
		}
	}
}

// effects: what the table has of each request is what its results say.
func effects(ix *index, report func(string, string, ...any)) {
	for name, n := range ix.rows {
		if ix.Requests[name] == nil {
			report(name, "%d effects of %s, which was not requested", n, name)
		}
	}
	for name, r := range ix.Requests {
		rows, reported := ix.rows[name], ix.reported[name]
		least := reported[Succeeded] * r.Rows
		most := least
		switch r.Effect {
		case ExactlyOnce:
			if reported[Unknown] > 0 {
				report(name, "an exactly_once job ended unknown")
			}
		case AtMostOnce:
			most += reported[Unknown] * r.Rows
		case AtLeastOnce:
			continue
		default:
			least, most = 0, 0
		}
		if rows < least || rows > most {
			report(name, "%d rows of %s %s, with outcomes %v: from %d to %d are right", rows, r.Effect, name, reported, least, most)
		}
	}
	for name, r := range ix.Requests {
		if r.Effect == AtLeastOnce && ix.rows[name] < ix.reported[name][Succeeded]*r.Rows {
			report(name, "%d rows of %s %s, with outcomes %v", ix.rows[name], r.Effect, name, ix.reported[name])
		}
	}
}

// balances: each account has what it had, and what the rows of effects say; a transaction is there whole or not at all.
func balances(ix *index, report func(string, string, ...any)) {
	for database, accounts := range ix.Balances {
		want := map[int]int64{}
		for account := range accounts {
			want[account] = ix.Opening
		}
		for i := range ix.Effects {
			if e := &ix.Effects[i]; e.Database == database {
				want[e.From] -= e.Amount
				want[e.To] += e.Amount
			}
		}
		var sum int64
		for account, balance := range accounts {
			sum += balance
			if balance != want[account] {
				report("", "account %d of %s has %d, and by its movements %d", account, database, balance, want[account])
			}
		}
		if sum != ix.Opening*int64(len(accounts)) {
			report("", "the balances of %s sum up to %d, not to %d", database, sum, ix.Opening*int64(len(accounts)))
		}
	}
}

// sumRead: the sum of all balances never changes for any reader.
func sumRead(ix *index, report func(string, string, ...any)) {
	for _, list := range [][]Answer{ix.Stored, ix.Replies} {
		for i := range list {
			a := &list[i]
			r := ix.Requests[a.Result.Request()]
			if r == nil || !r.Sum || a.Result.Status != Succeeded {
				continue
			}
			want := fmt.Sprintf("%d", ix.Opening*int64(len(ix.Balances[r.Database])))
			if len(a.Result.Rows) != 1 || !strings.Contains(string(a.Result.Rows[0]), want) {
				report(r.Name, "it read %s, not a sum of %s", a.Result.Rows, want)
			}
		}
	}
}

// rowsObjects: the rows that a result names are complete, and no two results name the same ones.
func rowsObjects(ix *index, report func(string, string, ...any)) {
	named := map[string]jobKey{}
	for i := range ix.Stored {
		a := &ix.Stored[i]
		r := ix.Requests[a.Result.Request()]
		if r == nil || r.Outside == 0 || a.Result.Status != Succeeded {
			continue
		}
		says := a.Result.rowsObject()
		if says == nil {
			report(r.Name, "the result %s names no object with its rows", a.Key)
			continue
		}
		is, there := ix.Objects[says.Name]
		switch other, twice := named[says.Name]; {
		case !there:
			report(r.Name, "the result %s names %s, which is not there", a.Key, says.Name)
		case is.Problem != "":
			report(r.Name, "%s cannot be read: %s", says.Name, is.Problem)
		case is.Size != says.Size || is.Digest != says.Digest || is.Rows != says.Rows || is.Rows != r.Outside:
			report(r.Name, "the result %s says %+v, the object is %+v, and %d rows are right", a.Key, *says, is, r.Outside)
		case twice:
			report(r.Name, "the results %s and %s name the same object %s", other.id, a.Key, says.Name)
		}
		named[says.Name] = jobKey{a.Database, a.Key}
	}
}

// byFaults are the codes of failures that faults may lead to, for whatever job.
var byFaults = []string{
	"connection_lost", "lock_timeout", "deadlock", "serialization_failure", "timeout", "too_many_deliveries",
	"database_unavailable", "insufficient_resources", "transaction_aborted", "rows_store_unavailable", "params_unavailable",
}

// ends: every job ends in a way that it may end.
func ends(ix *index, report func(string, string, ...any)) {
	for i := range ix.Stored {
		a := &ix.Stored[i]
		g := ix.groupOf(a)
		if g == nil {
			continue
		}
		r := g.requests[0]
		if named := ix.Requests[a.Result.Request()]; named != nil {
			r = named
		}
		status, code := a.Result.Status, a.Result.Error.Code
		switch {
		case slices.Contains(r.Statuses, status) && (status != Failed || len(r.Codes) == 0 || slices.Contains(r.Codes, code)):
		case status == Failed && slices.Contains(byFaults, code):
		case status == Canceled && ix.Cancels[r.Name]:
		case status == Unknown && (r.Effect == AtMostOnce || r.Effect == AtLeastOnce || r.Kind == "migration"): // whose effect goes without saying
		default:
			report(r.Name, "%s %s ended %s %s", r.Class, a.Key, status, code)
		}
	}
}

// idReuse: of two requests under one id the later one leaves a dead letter that says so, and nothing else.
func idReuse(ix *index, report func(string, string, ...any)) {
	for _, g := range ix.groups {
		if len(g.requests) < 2 || g.result == nil {
			continue
		}
		winner := g.first()
		for _, p := range g.publications {
			if !p.Acked || p.Duplicate || p.Request == winner {
				continue
			}
			deadLetter := ix.deadLetters[messageKey{g.key.database, p.Sequence}]
			if deadLetter == nil || deadLetter.Reason != "job_id_reused" {
				report(p.Request, "%s used the id %s of %s, and no dead letter says so", p.Request, g.key.id, winner)
			}
		}
	}
}

// first is the request that a group's result is of. The result of a job that was delivered too often, whose body no
// runner decodes, has no labels, but names its message.
func (g *group) first() string {
	result := &g.result.Result
	if name := result.Request(); name != "" {
		return name
	}
	for _, p := range g.publications {
		if p.Acked && !p.Duplicate && p.Sequence == result.Sequence {
			return p.Request
		}
	}
	return ""
}

// ledger: the ledger says of every job what its stored result says.
func ledger(ix *index, report func(string, string, ...any)) {
	for i := range ix.Ledger {
		row := &ix.Ledger[i]
		a := ix.stored[jobKey{row.Database, row.JobID}]
		switch {
		case row.Status == "started":
			report(ix.requestOf(row), "the ledger's row of %s of %s was started and has no outcome", row.JobID, row.Database)
		case a == nil:
			report(ix.requestOf(row), "the ledger has %s of %s as %s, and no result is stored", row.JobID, row.Database, row.Status)
		case a.Result.Status != row.Status || !same(a.Body, row.Answer):
			report(a.Result.Request(), "the ledger has %s of %s as %s, and another result is stored: %s",
				row.JobID, row.Database, row.Status, a.Result.Status)
		}
	}
	for key, a := range ix.stored {
		status := a.Result.Status
		if a.Result.Effect == ExactlyOnce && (status == Succeeded || status == Failed) && !ix.inLedger[key] {
			report(a.Result.Request(), "%s of %s %s, and the ledger does not know it", key.id, key.database, status)
		}
	}
}

// reply: what was replied is what is stored.
func reply(ix *index, report func(string, string, ...any)) {
	for i := range ix.Replies {
		a := &ix.Replies[i]
		name := a.Key[strings.LastIndexByte(a.Key, '.')+1:] // a job that its runners may have died of is answered without its labels
		r := ix.Requests[name]
		if of := a.Result.Request(); r == nil || of != "" && of != name {
			report(of, "a reply to %s is of another request", a.Key)
			continue
		}
		if r.ReplyOnly || a.Result.Error.Code == "job_id_reused" {
			continue
		}
		stored := ix.stored[jobKey{r.Database, a.Result.JobID}]
		if stored == nil || !same(stored.Body, a.Body) {
			report(r.Name, "the reply of %s says something else than the stored result", a.Result.JobID)
		} else if early := stored.At.Sub(a.At); early > clockGrain {
			report(r.Name, "the reply of %s came %s before its result was stored", a.Result.JobID, early)
		}
	}
}

// response: the run endpoint answers a request with the stored result of that very request, or with an error.
func response(ix *index, report func(string, string, ...any)) {
	for i := range ix.Responses {
		p := &ix.Responses[i]
		r := ix.Requests[p.Request]
		key := jobKey{r.Database, r.ID}
		of, stored := p.Answer.Result.Request(), ix.stored[key]
		switch {
		case p.Error == "job_id_reused":
			if len(ix.groups[key].requests) == 1 {
				report(r.Name, "it was refused because of another request under %s, and there is none", r.ID)
			}
		case p.Error != "":
		case of != "" && of != r.Name:
			report(r.Name, "it was answered with the result of %s", of)
		case stored == nil || !same(stored.Body, p.Answer.Body):
			report(r.Name, "it was answered with another result than the one that is stored under %s", r.ID)
		}
	}
}

// deadLetters: what was not done leaves a dead letter with its body, what was done leaves none.
func deadLetters(ix *index, report func(string, string, ...any)) {
	for i := range ix.Stored {
		a := &ix.Stored[i]
		if ix.redriven[jobKey{a.Database, a.Key}] {
			continue
		}
		switch a.Result.Status {
		case Failed, Rejected, Unknown:
			if ix.deadLetters[messageKey{a.Database, a.Result.Sequence}] == nil {
				report(a.Result.Request(), "%s of %s ended %s and left no dead letter", a.Key, a.Database, a.Result.Status)
			}
		}
	}
	for i := range ix.DeadLetters {
		l := &ix.DeadLetters[i]
		if a := ix.stored[jobKey{l.Database, l.JobID}]; a != nil && a.Result.Sequence == l.Sequence && a.Result.Status == Succeeded &&
			l.Reason != "result_id_taken" {
			report(a.Result.Request(), "%s of %s succeeded and left a dead letter: %s", l.JobID, l.Database, l.Reason)
		}
		if p := ix.published[messageKey{l.Database, l.Sequence}]; p != nil {
			if r := ix.Requests[p.Request]; r != nil && p.ID == "" && !bytes.Equal(r.Body, l.Body) {
				report(r.Name, "the dead letter of sequence %d has another body than what was published", l.Sequence)
			}
		}
	}
}

// refused: what no stream may take was not taken.
func refused(ix *index, report func(string, string, ...any)) {
	for i := range ix.Publications {
		if p := &ix.Publications[i]; p.Acked && ix.Requests[p.Request].Refused {
			report(p.Request, "a stream took it")
		}
	}
}

// migrations: each file was applied once, in order, and exactly the applied ones have taken effect.
func migrations(ix *index, report func(string, string, ...any)) {
	applied := map[string][]int{}
	for _, a := range ix.Applied {
		applied[a.Database] = append(applied[a.Database], a.Version)
	}
	for database, versions := range applied {
		for i, v := range versions {
			if v != i+1 {
				report("", "the migrations of %s were applied in the order %v", database, versions)
				break
			}
		}
	}
	for database, tables := range ix.Tables {
		if !slices.Equal(tables, applied[database]) {
			report("", "migrations %v of %s are recorded, and %v have taken effect", applied[database], database, tables)
		}
	}
	for i := range ix.Stored {
		a := &ix.Stored[i]
		r := ix.Requests[a.Result.Request()]
		if r == nil || r.Target == 0 || a.Result.Status != Succeeded {
			continue
		}
		if versions := applied[r.Database]; len(versions) < r.Target {
			report(r.Name, "it brought %s to version %d, and %v are recorded", r.Database, r.Target, versions)
		}
	}
}

// clockGrain is how far apart two processes' notes of one moment may be.
const clockGrain = 300 * time.Millisecond

// exits: a runner that is asked to end does so in time and without complaint.
func exits(ix *index, report func(string, string, ...any)) {
	for _, e := range ix.Exits {
		if e.Took > e.Grace || e.Code != 0 {
			report("", "runner %s ended with code %d, %s after it was asked to; %s are granted", e.Runner, e.Code, e.Took, e.Grace)
		}
	}
}

// connections: runners that have ended leave nothing open at the servers.
func connections(ix *index, report func(string, string, ...any)) {
	for server, n := range ix.Connections {
		if n > 0 {
			report("", "%d connections are left at %s", n, server)
		}
	}
}

// secrets: no secret is anywhere, and no value of a parameter where it is not asked for.
func secrets(ix *index, report func(string, string, ...any)) {
	look := func(where, request string, text []byte, words []string) {
		for _, word := range words {
			if bytes.Contains(text, []byte(word)) {
				report(request, "%s holds the secret %s", where, word)
			}
		}
	}
	private := append(slices.Clone(ix.Secrets), ix.Private...)
	for _, t := range ix.Texts {
		look(t.Where, "", t.Body, private)
	}
	for _, list := range [][]Answer{ix.Stored, ix.Replies} {
		for i := range list {
			look("a result of "+list[i].Key, list[i].Result.Request(), list[i].Body, private)
		}
	}
	for i := range ix.Responses {
		look("a response of the run endpoint", ix.Responses[i].Request, ix.Responses[i].Answer.Body, private)
	}
	for i := range ix.DeadLetters {
		l := &ix.DeadLetters[i]
		look("a dead letter of "+l.JobID, "", l.Body, ix.Secrets)
		for name, values := range l.Headers {
			look("the header "+name+" of a dead letter of "+l.JobID, "", []byte(strings.Join(values, "\n")), private)
		}
	}
}

// drained: when the faults have ended, all that waits is done soon, and nothing stays behind.
func drained(ix *index, report func(string, string, ...any)) {
	for _, s := range ix.Jobs {
		if s.Messages > 0 {
			report("", "%d jobs are left in stream %s", s.Messages, s.Name)
		}
	}
	if ix.Drain > ix.DrainBound {
		report("", "the queues were empty %s after the last fault, not within %s", ix.Drain, ix.DrainBound)
	}
}
