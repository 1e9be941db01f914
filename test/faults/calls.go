package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"dbrunner/test/faults/check"
)

// kinds are what the databases run: all that are enabled without being named, calls, dry runs and approvals.
const kinds = "query,transaction,statement,migration,health,call,dry_run,approve"

// catalog is the named statements that all databases have, by name.
var catalog = map[string]string{
	"pay": `description: Move an amount from one account to another
params:
  request: {type: text, schema: {type: string}}
  from: {type: integer, schema: {type: integer, minimum: 0}}
  to: {type: integer, schema: {type: integer, minimum: 0}}
  amount: {type: integer, schema: {type: integer, minimum: 0, maximum: 9}}
  private: {type: text, schema: {type: string}}
max_affected: 3
statements:
  - sql: INSERT INTO effects (request, source, target, amount, private) VALUES (:request, :from, :to, :amount, :private)
  - sql: UPDATE accounts SET balance = balance - :amount WHERE id = :from
    expect_rows: 1
  - sql: UPDATE accounts SET balance = balance + :amount WHERE id = :to
    expect_rows: 1
`,
	"total": `description: The sum of all balances
sql: SELECT sum(balance) AS sum FROM accounts
`,
}

func catalogFolder(r *round, database string) string {
	return filepath.Join(r.dir, "catalog-"+database)
}

// writeCatalogs writes the folders of named statements.
func writeCatalogs(r *round) (err error) {
	for _, database := range r.databases {
		folder := catalogFolder(r, database)
		err = errors.Join(err, os.MkdirAll(folder, 0o700), os.WriteFile(filepath.Join(folder, "enter.yaml"), []byte(inWords(database, entering(database))), 0o600))
		for name, text := range catalog {
			text = inWords(database, text)
			err = errors.Join(err, os.WriteFile(filepath.Join(folder, name+".yaml"), []byte(text), 0o600))
		}
	}
	return err
}

// newCall is a call with parameters.
func newCall(p *planner, name, class, statement string, params body) *check.Request {
	b := body{}
	if params != nil {
		b["params"] = params
	}
	effect, rows := check.ExactlyOnce, 1
	if statement == "total" {
		effect, rows = check.ReadOnly, 0
	}
	r := p.request(name, class, p.where(), "call", effect, rows, b)
	r.Call = statement
	return r
}

// payment is the parameters of a movement between accounts.
func payment(p *planner, name string) body {
	from := 1 + p.rng.IntN(accounts)
	return body{"request": name, "from": from, "to": from%accounts + 1, "amount": 1 + p.rng.IntN(9), "private": privateValue}
}

// called is a call that is made several times under one id, some through the run endpoint: it has one effect and one result.
func called(p *planner, name string) {
	r := newCall(p, name, "called", "pay", payment(p, name))
	for range 1 + p.rng.IntN(4) {
		p.messages = append(p.messages, message{at: p.when(), request: r, msgID: p.rng.IntN(2) == 0})
	}
	if r.ReplyTo == "" && p.rng.IntN(4) == 0 {
		p.acts = append(p.acts, act{at: p.when() / 2, request: r, what: "ask"})
	}
}

func calledSum(p *planner, name string) {
	r := newCall(p, name, "called_sum", "total", nil)
	r.Sum = true
	p.publish(r)
}

// calledBadly is a call that no runner accepts: an unknown name, a parameter that is missing, unknown or out of its bounds.
func calledBadly(p *planner, name string) {
	statement, params := "pay", payment(p, name)
	switch p.rng.IntN(4) {
	case 0:
		statement = "pey"
	case 1:
		delete(params, "to")
	case 2:
		params["amont"] = 1
	default:
		params["amount"] = 1000
	}
	r := newCall(p, name, "called_badly", statement, params)
	r.Statuses = []string{check.Rejected}
	for range 1 + p.rng.IntN(2) {
		p.messages = append(p.messages, message{at: p.when(), request: r})
	}
}

// The queue of shop and depot: together the runners have more slots than the fleet may use.
const (
	bulk       = "bulk"
	queueSlots = 2
	fleetSlots = 4
)

// flowTables are what shop has besides.
var flowTables = []string{
	`CREATE TABLE spans (request TEXT NOT NULL, started TIMESTAMPTZ NOT NULL, finished TIMESTAMPTZ)`,
	feedTables[shop],
}

// flowEnvironment is the configuration of calls and queues.
func flowEnvironment(r *round) []string {
	return []string{
		"SHOP_KINDS=" + kinds, "EDGE_KINDS=" + kinds, "SHOP_CATALOG_FOLDER=" + catalogFolder(r, shop), "EDGE_CATALOG_FOLDER=" + catalogFolder(r, edge),
		"EDGE_QUEUES=" + feed, "EDGE_QUEUES_FEED_ORDERED=true",
		"SHOP_QUEUES=" + bulk + "," + feed, "SHOP_QUEUES_FEED_ORDERED=true", fmt.Sprintf("SHOP_QUEUES_BULK_SLOTS=%d", queueSlots), fmt.Sprintf("SHOP_QUEUES_BULK_FLEET_SLOTS=%d", fleetSlots),
	}
}

// consumers are the lanes of a database that are under fault injection.
func consumers(database string) []string {
	if database != edge {
		return []string{"work", "call", "queue_" + bulk, "queue_" + feed}
	}
	return []string{"work", "call", "queue_" + feed}
}

// burst is a moment shortly after one of three, so that the queue is full now and then.
func burst(p *planner) time.Duration {
	return p.length*time.Duration(1+3*p.rng.IntN(3))/10 + time.Duration(p.rng.Int64N(int64(p.length/20)))
}

// inQueue is a transaction of the queue.
func inQueue(p *planner, name, class string, statements []body) *check.Request {
	r := p.request(name, class, primary(p), "transaction", check.ExactlyOnce, 1, body{"statements": statements})
	r.Queue = bulk
	return r
}

// spanOf is the statements of a job that leaves an effect, and records when it was executed.
func spanOf(p *planner, database, name string) []body {
	request := body{"request": name}
	return []body{
		effect(name, 0, 0, 0),
		{"sql": `INSERT INTO spans (request, started) VALUES (:request, ` + clocks[database] + `)`, "params": request},
		sleeping(database, 0.05+0.15*p.rng.Float64()),
		{"sql": `UPDATE spans SET finished = ` + clocks[database] + ` WHERE request = :request`, "params": request, "expect_rows": 1},
	}
}

// queued is a job of the queue, published once or twice.
func queued(p *planner, name string) {
	r := inQueue(p, name, "queued", spanOf(p, primary(p), name))
	for range 1 + p.rng.IntN(2) {
		p.messages = append(p.messages, message{at: burst(p), request: r})
	}
}

// queuedTwice is a job that is published both to the queue and to none.
func queuedTwice(p *planner, name string) {
	r := inQueue(p, name, "queued_twice", p.movement(name))
	r.Plain = true
	p.messages = append(p.messages, message{at: burst(p), request: r}, message{at: p.when(), request: r, plain: true})
}
