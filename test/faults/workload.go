package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/test/faults/check"
)

const (
	accounts   = 100
	opening    = 10_000 // balance of each account
	migrations = 6      // files of the folder
)

// What no log may hold.
const (
	natsUser         = "faults"
	natsPassword     = "canary-nats-5b1f0a"
	postgresPassword = "canary-postgres-90c4d7"
	privateValue     = "canary-parameter-e21b68"
)

// databases of every run: the names are those of the runners' configuration.
const (
	shop  = "shop"  // PostgreSQL
	edge  = "edge"  // SQLite
	depot = "depot" // SQL Server, where one is named
)

// message is one publication that the plan wants.
type message struct {
	at      time.Duration // since the beginning
	request *check.Request
	msgID   bool // with the header of the stream's de-duplication
	header  nats.Header
	upload  *upload // nil: none
	plain   bool    // not to the queue that the request has
}

// act is something else that a client does.
type act struct {
	at        time.Duration
	request   *check.Request
	what      string // cancel, redrive, ask, enqueue, schedule, pause, approve
	row       *enqueuing
	schedule  *scheduling
	pauses    []pausing
	approving *approving
}

// plan is what the clients of one run do; a seed decides it.
type plan struct {
	requests  map[string]*check.Request
	messages  []message
	acts      []act
	killer    string // id of the job that kills its runner
	schedules []*scheduling
}

// planner makes a plan.
type planner struct {
	*plan
	rng       *rand.Rand
	namespace string
	length    time.Duration
	serial    int
	home      string // the database of all jobs; empty: they are those of shop and edge
}

// class is one sort of jobs: how many of a thousand are of it, and how one is made.
type class struct {
	name  string
	share int
	make  func(p *planner, name string)
}

// classes are the sorts of jobs.
func classes() []class {
	return []class{
		{"transfer", 520, (*planner).transfer},
		{"append", 120, (*planner).appendLoose},
		{"sum", 90, (*planner).sum},
		{"reply_only", 30, (*planner).replyOnly},
		{"rows", 20, (*planner).rows},
		{"failing", 35, (*planner).failing},
		{"limited", 20, (*planner).limited},
		{"duplicate", 40, (*planner).duplicate},
		{"reused", 20, (*planner).reused},
		{"asked", 15, (*planner).asked},
		{"expiring", 25, (*planner).expiring},
		{"canceled", 10, (*planner).canceled},
		{"once", 25, (*planner).once},
		{"often", 25, (*planner).often},
		{"often_statement", 10, (*planner).oftenStatement},
		{"bad_json", 8, (*planner).badJSON},
		{"bad_key", 8, (*planner).badKey},
		{"unknown_kind", 6, (*planner).unknownKind},
		{"health", 4, (*planner).health},
		{"batch", 15, (*planner).batch},
		{"bulk", 6, (*planner).bulk},
		{"object", 12, (*planner).object},
		{"object_write", 8, (*planner).objectWrite},
		{"renaming", 6, (*planner).renaming},
		{"called", 40, called},
		{"called_sum", 12, calledSum},
		{"called_badly", 8, calledBadly},
		{"queued", 25, queued},
		{"queued_twice", 10, queuedTwice},
		{"outboxed", 50, outboxed},
		{"approved", 40, approved},
	}
}

// rare are sorts of which a run has a few, whatever its size.
func rare() []class {
	return []class{
		{"slow", 6, (*planner).slow},
		{"large", 6, (*planner).large},
		{"poisoned_header", 2, (*planner).poisonedHeader},
		{"oversize", 1, (*planner).oversize},
		{"guarded", 6, (*planner).guarded},
		{"poison", 3, (*planner).poison},
		{"migration", 5, (*planner).migration},
	}
}

// newPlan makes the plan of a seed; calm: without pauses.
func newPlan(seed uint64, namespace string, jobs int, length time.Duration, calm bool) *plan {
	p := &planner{
		plan: &plan{requests: map[string]*check.Request{}}, rng: newRand(seed, 1), namespace: namespace, length: length,
	}
	fill(p, classes(), rare(), jobs, calm)
	return p.plan
}

// fill adds jobs of all sorts to a plan, and what operators and applications do meanwhile.
func fill(p *planner, list, few []class, jobs int, calm bool) {
	for _, c := range few {
		for range c.share {
			p.add(c)
		}
	}
	total := 0
	for _, c := range list {
		total += c.share
	}
	for p.serial < jobs {
		n := p.rng.IntN(total)
		for _, c := range list {
			if n -= c.share; n < 0 {
				p.add(c)
				break
			}
		}
	}
	addSchedules(p, calm)
	addPauses(p, calm)
	addOrdered(p, calm)
	slices.SortStableFunc(p.messages, func(a, b message) int { return int(a.at - b.at) })
	slices.SortStableFunc(p.acts, func(a, b act) int { return int(a.at - b.at) })
}

// newRand is the chance of one part of a run.
func newRand(seed, part uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, part)) }

func (p *planner) add(c class) {
	c.make(p, nextName(p, c.name))
}

// when is a moment of the run.
func (p *planner) when() time.Duration { return time.Duration(p.rng.Int64N(int64(p.length))) }

// body is a job's body on its way.
type body map[string]any

// request puts a job together. Its name is its id as well, unless it shall have none.
func (p *planner) request(name, class, database, kind string, effect check.Effect, rows int, b body) *check.Request {
	r := &check.Request{
		Name: name, Class: class, Database: database, Kind: kind, ID: name, Effect: effect, Rows: rows,
		Statuses: []string{check.Succeeded},
	}
	b["labels"] = body{"request": name}
	b["id"] = name
	p.requests[name] = r
	p.encode(r, b)
	return r
}

// encode makes the body; a part of the jobs wants replies.
func (p *planner) encode(r *check.Request, b body) {
	if r.ReplyTo == "" && p.rng.IntN(5) == 0 {
		r.ReplyTo = p.namespace + ".replies." + r.Database + "." + r.Name
		b["reply_to"] = r.ReplyTo
	}
	var err error
	if r.Body, err = json.Marshal(b); err != nil {
		panic(err) // maps of texts and numbers
	}
}

// publish plans one publication.
func (p *planner) publish(r *check.Request) {
	p.messages = append(p.messages, message{at: p.when(), request: r, msgID: r.ID != ""})
}

// where picks a database: most jobs are PostgreSQL's.
func (p *planner) where() string {
	if p.home != "" {
		return p.home
	}
	if p.rng.IntN(10) == 0 {
		return edge
	}
	return shop
}

// movement is the statements of one transfer with its row of effects.
func (p *planner) movement(name string) []body {
	from := 1 + p.rng.IntN(accounts)
	to := 1 + p.rng.IntN(accounts)
	for to == from {
		to = 1 + p.rng.IntN(accounts)
	}
	amount := 1 + p.rng.IntN(9)
	take := body{
		"sql": "UPDATE accounts SET balance = balance - :n WHERE id = :id", "params": body{"n": amount, "id": from}, "expect_rows": 1,
	}
	give := body{
		"sql": "UPDATE accounts SET balance = balance + :n WHERE id = :id", "params": body{"n": amount, "id": to}, "expect_rows": 1,
	}
	if from > to && p.rng.IntN(10) > 0 { // the rest may meet in a deadlock
		take, give = give, take
	}
	return []body{effect(name, from, to, amount), take, give}
}

const insertEffect = `INSERT INTO effects (request, source, target, amount, private) VALUES `

// effect is the statement that leaves a row of effects.
func effect(name string, from, to, amount int) body {
	return body{"sql": insertEffect + `(:request, :from, :to, :amount, :private)`, "params": body{
		"request": name, "from": from, "to": to, "amount": amount, "private": privateValue,
	}}
}

func (p *planner) transfer(name string) {
	r := p.request(name, "transfer", p.where(), "transaction", check.ExactlyOnce, 1, sharing(p, body{"statements": p.movement(name)}))
	p.publish(r)
}

// appendLoose is a job without an id of its own.
func (p *planner) appendLoose(name string) {
	r := p.request(name, "append", p.where(), "transaction", check.ExactlyOnce, 1, body{"statements": []body{effect(name, 0, 0, 0)}})
	r.ID = ""
	b := sharing(p, body{"statements": []body{effect(name, 0, 0, 0)}, "labels": body{"request": name}})
	if r.ReplyTo != "" {
		b["reply_to"] = r.ReplyTo
	}
	p.encode(r, b)
	p.publish(r)
}

func (p *planner) sum(name string) {
	r := p.request(name, "sum", p.where(), "query", check.ReadOnly, 0, body{"sql": "SELECT sum(balance) AS sum FROM accounts"})
	r.Sum = true
	p.publish(r)
}

func (p *planner) replyOnly(name string) {
	database := primary(p)
	r := &check.Request{
		Name: name, Class: "reply_only", Database: database, Kind: "query", ID: name, Effect: check.ReadOnly, Sum: true,
		ReplyOnly: true, ReplyTo: p.namespace + ".replies." + database + "." + name,
	}
	p.requests[name] = r
	p.encode(r, body{
		"id": name, "labels": body{"request": name}, "sql": "SELECT sum(balance) AS sum FROM accounts", "answer": "reply", "reply_to": r.ReplyTo,
	})
	p.publish(r)
}

func (p *planner) rows(name string) {
	p.publish(p.request(name, "rows", primary(p), "query", check.ReadOnly, 0, body{
		"sql": numberedRows[primary(p)], "params": body{"n": 1 + p.rng.IntN(300)},
	}))
}

// large has a result of up to the inline limit.
func (p *planner) large(name string) {
	p.publish(p.request(name, "large", primary(p), "query", check.ReadOnly, 0, body{
		"sql": largeText[primary(p)], "params": body{"n": 1000 * (1 + p.rng.IntN(750))},
	}))
}

func (p *planner) failing(name string) {
	r := p.request(name, "failing", p.where(), "transaction", check.ExactlyOnce, 1, sharing(p, body{"statements": []body{
		effect(name, 0, 0, 0), {"sql": "UPDATE accounts SET balance = balance WHERE id = 0", "expect_rows": 1},
	}}))
	r.Statuses, r.Codes = []string{check.Failed}, []string{"expect_rows_failed"}
	p.publish(r)
}

// slow takes longer than the ack wait. It comes early, so that it is not what the end waits for.
func (p *planner) slow(name string) {
	defer func() { p.messages[len(p.messages)-1].at /= 2 }()
	p.publish(p.request(name, "slow", primary(p), "transaction", check.ExactlyOnce, 1, body{"timeout": "20s", "statements": []body{
		effect(name, 0, 0, 0), sleeping(primary(p), (ackWait + ackWait/4).Seconds()),
	}}))
}

// duplicate is one request that is published several times past the stream's de-duplication.
func (p *planner) duplicate(name string) {
	r := p.request(name, "duplicate", p.where(), "transaction", check.ExactlyOnce, 1, sharing(p, body{"statements": p.movement(name)}))
	for range 2 + p.rng.IntN(3) {
		p.messages = append(p.messages, message{at: p.when(), request: r})
	}
}

// reused is two requests with one id.
func (p *planner) reused(name string) {
	database := p.where()
	for _, variant := range []string{"a", "b"} {
		r := p.request(name+variant, "reused", database, "transaction", check.ExactlyOnce, 1, body{"statements": p.movement(name + variant)})
		r.ID = name
		p.encode(r, body{"id": name, "labels": body{"request": r.Name}, "statements": p.movement(r.Name)})
		for range 1 + p.rng.IntN(2) {
			p.messages = append(p.messages, message{at: p.when(), request: r})
		}
	}
}

// asked sends the run endpoint one or two different requests with one id, each once or twice, within the duplicate window. Some
// of the first are published to the stream as well.
func (p *planner) asked(name string) {
	database, at := p.where(), p.when()/2
	for _, variant := range []string{"a", "b"}[:1+min(1, p.rng.IntN(4))] {
		r := p.request(name+variant, "asked", database, "transaction", check.ExactlyOnce, 1, body{})
		r.ID, r.ReplyTo = name, ""
		b := body{"labels": body{"request": r.Name}, "statements": p.movement(r.Name)}
		if p.rng.IntN(2) == 0 {
			b["id"] = name // otherwise only the header has it
		}
		p.encode(r, b)
		if variant == "a" && p.rng.IntN(3) == 0 {
			p.messages = append(p.messages, message{at: at, request: r, msgID: true})
		}
		for range 1 + p.rng.IntN(2) {
			p.acts = append(p.acts, act{at: at + time.Duration(p.rng.Int64N(int64(p.length/4))), request: r, what: "ask"})
		}
	}
}

func (p *planner) expiring(name string) {
	times := []string{"5ms", "50ms", "500ms", "2s"}
	r := p.request(name, "expiring", p.where(), "transaction", check.ExactlyOnce, 1, body{
		"statements": p.movement(name), "expires_in": times[p.rng.IntN(len(times))],
	})
	r.Statuses = []string{check.Succeeded, check.Expired}
	p.publish(r)
}

// canceled is a job that is cancelled about when it runs.
func (p *planner) canceled(name string) {
	r := p.request(name, "canceled", primary(p), "transaction", check.ExactlyOnce, 1, body{"statements": []body{
		effect(name, 0, 0, 0), sleeping(primary(p), 0.2),
	}})
	p.publish(r)
	at := p.messages[len(p.messages)-1].at + time.Duration(p.rng.Int64N(int64(time.Second)))
	p.acts = append(p.acts, act{at: at, request: r, what: "cancel"})
}

// statement is a statement outside of transactions that leaves a row of effects.
func (p *planner) statement(name, class string, e check.Effect, more body) {
	b := effect(name, 0, 0, 0)
	for k, v := range more {
		b[k] = v
	}
	p.publish(p.request(name, class, p.where(), "statement", e, 1, b))
}

func (p *planner) once(name string) { p.statement(name, "once", check.AtMostOnce, nil) }

func (p *planner) oftenStatement(name string) {
	p.statement(name, "often_statement", check.AtLeastOnce, body{"effect": "at_least_once"})
}

func (p *planner) often(name string) {
	p.publish(p.request(name, "often", p.where(), "transaction", check.AtLeastOnce, 1, body{
		"effect": "at_least_once", "statements": []body{effect(name, 0, 0, 0)},
	}))
}

// unread is a job whose body cannot be decoded; its header says its id.
func (p *planner) unread(name, class string, text string) *check.Request {
	r := &check.Request{
		Name: name, Class: class, Database: p.where(), Kind: "transaction", ID: name, Unread: true, Body: []byte(text),
		Statuses: []string{check.Rejected},
	}
	p.requests[name] = r
	p.publish(r)
	return r
}

func (p *planner) badJSON(name string) {
	texts := []string{`{"statements":[`, `not a job`, `[]`, "{\"sql\":\"\xff\"}", `{"a":1}{"b":2}`, strings.Repeat("[", 200)}
	p.unread(name, "bad_json", texts[p.rng.IntN(len(texts))])
}

func (p *planner) badKey(name string) {
	r := p.request(name, "bad_key", p.where(), "transaction", check.ExactlyOnce, 1, body{
		"statements": []body{effect(name, 0, 0, 0)}, "statments": 1,
	})
	r.Statuses = []string{check.Rejected}
	p.publish(r)
}

// poisonedHeader is a message that looks like one of the server's own.
func (p *planner) poisonedHeader(name string) {
	p.unread(name, "poisoned_header", "")
	m := &p.messages[len(p.messages)-1]
	m.header = nats.Header{"Status": {"409"}, "Description": {"Consumer Deleted"}}
}

func (p *planner) unknownKind(name string) {
	r := p.request(name, "unknown_kind", primary(p), "wish", "", 0, body{})
	r.Refused = true
	p.publish(r)
}

func (p *planner) oversize(name string) {
	r := p.request(name, "oversize", primary(p), "query", check.ReadOnly, 0, body{"sql": "SELECT '" + strings.Repeat("x", 1000<<10) + "'"})
	r.Refused = true
	p.publish(r)
}

// guarded fails until the gate is open, which may never happen; half way its dead letter is redriven.
func (p *planner) guarded(name string) {
	r := p.request(name, "guarded", primary(p), "transaction", check.ExactlyOnce, 1, body{"statements": []body{effect(name, 0, 0, 0), guard(primary(p))}})
	r.Statuses = []string{check.Succeeded, check.Failed}
	r.Codes, r.Redrive = []string{"expect_rows_failed"}, true
	p.messages = append(p.messages, message{at: p.when() / 4, request: r, msgID: true})
	p.acts = append(p.acts, act{at: p.length/2 + p.when()/2, request: r, what: "redrive"})
}

// poison makes its own execution fail in a way that looks like the database's failure: it inserts its own ledger row in its
// transaction, so that the fence finds the key taken and a lookup finds no row. Other jobs succeed meanwhile.
func (p *planner) poison(name string) {
	r := p.request(name, "poison", primary(p), "transaction", check.ExactlyOnce, 1, body{"statements": []body{
		effect(name, 0, 0, 0), {"sql": insertOwnRow[primary(p)], "params": body{"namespace": p.namespace, "database": primary(p), "id": name}},
	}})
	r.Statuses, r.Codes = []string{check.Failed}, []string{"database_error"}
	p.publish(r)
}

// renaming is a job that puts other statements, of the same parameters, under the names of all prepared ones of its session.
func (p *planner) renaming(name string) {
	p.publish(p.request(name, "renaming", shop, "transaction", check.ExactlyOnce, 1, body{"statements": []body{
		effect(name, 0, 0, 0), {"sql": replaceStatements},
	}}))
}

const replaceStatements = `DO $$ DECLARE p record; BEGIN
	FOR p IN SELECT name, array_to_string(parameter_types, ',') AS types FROM pg_prepared_statements LOOP
		EXECUTE format('DEALLOCATE %I', p.name);
		EXECUTE format('PREPARE %I %s AS INSERT INTO gates SELECT true WHERE false', p.name, '(' || nullif(p.types, '') || ')');
	END LOOP; END $$`

func (p *planner) migration(name string) {
	target := 1 + p.rng.IntN(migrations)
	r := p.request(name, "migration", primary(p), "migration", "", 0, body{"action": "up", "target": fmt.Sprint(target)})
	r.Target = target
	p.publish(r)
}

func (p *planner) health(name string) {
	p.publish(p.request(name, "health", p.where(), "health", check.ReadOnly, 0, body{}))
}
