package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os/exec"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
	"dbrunner/test/faults/check"
)

// feed is the ordered queue of each database: its jobs take effect one at a time, in the order of the stream.
const feed = "feed"

// feedTables are the tables that they write to.
var feedTables = map[string]string{
	shop: `CREATE TABLE feed (request TEXT NOT NULL, place BIGINT NOT NULL, started TIMESTAMPTZ NOT NULL, finished TIMESTAMPTZ)`,
	edge: `CREATE TABLE feed (request TEXT NOT NULL, place BIGINT NOT NULL, started TIMESTAMP NOT NULL, finished TIMESTAMP)`,
	depot: `CREATE TABLE feed (number bigint IDENTITY(1, 1) NOT NULL, request nvarchar(400) NOT NULL, place bigint NOT NULL,
		started datetime2 NOT NULL, finished datetime2)`,
}

// clocks are the databases' expressions for the time.
var clocks = map[string]string{shop: `clock_timestamp()`, edge: `strftime('%Y-%m-%dT%H:%M:%fZ', 'now')`, depot: `SYSUTCDATETIME()`}

// entering is the named statement of a database that does what a job of the queue does.
func entering(database string) string {
	return `description: Enter a job of an ordered queue
params:
  request: {type: text, schema: {type: string}}
  private: {type: text, schema: {type: string}}
statements:
  - sql: INSERT INTO effects (request, source, target, amount, private) VALUES (:request, 0, 0, 0, :private)
  - sql: INSERT INTO feed (request, place, started) VALUES (:request, (SELECT count(*) + 1 FROM feed), ` + clocks[database] + `)
  - sql: UPDATE feed SET finished = ` + clocks[database] + ` WHERE request = :request
    expect_rows: 1
`
}

// orderedClasses are the sorts of jobs of the ordered queue, and how many of each a run has; calm: none that fails and so keeps the others
// waiting.
func orderedClasses(calm bool) []class {
	list := []class{{"ordered", 30, fed}, {"ordered_called", 10, fedCalled}, {"ordered_twice", 5, fedTwice}, {"ordered_canceled", 2, fedCanceled}}
	if calm {
		return list
	}
	return append(list, class{"ordered_failing", 3, fedFailing}, class{"ordered_guarded", 2, fedGuarded}, class{"ordered_badly", 1, fedBadly}, class{"ordered_expiring", 2, fedExpiring})
}

// addOrdered adds the jobs of the ordered queues, and a pause of one.
func addOrdered(p *planner, calm bool) {
	for _, c := range orderedClasses(calm) {
		for range c.share {
			p.add(c)
		}
	}
	if !calm {
		at := p.when() / 2
		target := contract.PauseTarget{Database: primary(p), Queue: feed}
		p.acts = append(p.acts, act{at: at, what: "pause", pauses: []pausing{{at: at, target: target, length: pauseLength}}})
	}
}

// fedTo picks a database: most of the jobs are PostgreSQL's.
func fedTo(p *planner) string {
	if p.home != "" {
		return p.home
	}
	if p.rng.IntN(4) == 0 {
		return edge
	}
	return shop
}

// feedIt publishes a job of a database's ordered queue, as often as it is to have copies.
func feedIt(p *planner, database, name, class string, copies int, b body) *check.Request {
	r := p.request(name, class, database, "transaction", check.ExactlyOnce, 1, b)
	r.Queue = feed
	for range copies {
		at := p.when()
		if p.rng.IntN(2) == 0 {
			at = burst(p)
		}
		p.messages = append(p.messages, message{at: at, request: r, msgID: copies == 1 && p.rng.IntN(2) == 0})
	}
	return r
}

// entryOf is the statements of a job that leaves an effect, and records how many it has seen before it.
func entryOf(p *planner, database, name string, more ...body) []body {
	request := body{"request": name}
	list := []body{
		effect(name, 0, 0, 0),
		{"sql": `INSERT INTO feed (request, place, started) VALUES (:request, (SELECT count(*) + 1 FROM feed), ` + clocks[database] + `)`, "params": request},
		{"sql": `UPDATE feed SET finished = ` + clocks[database] + ` WHERE request = :request`, "params": request, "expect_rows": 1},
	}
	if database != edge {
		list = slices.Insert(list, 2, sleeping(database, 0.02*p.rng.Float64()))
	}
	return append(list, more...)
}

func fed(p *planner, name string) {
	database := fedTo(p)
	feedIt(p, database, name, "ordered", 1, body{"statements": entryOf(p, database, name)})
}

// fedCalled is a call of a named statement.
func fedCalled(p *planner, name string) {
	r := feedIt(p, fedTo(p), name, "ordered_called", 1+p.rng.IntN(2), body{"params": body{"request": name, "private": privateValue}})
	r.Kind, r.Call = "call", "enter"
}

func fedTwice(p *planner, name string) {
	database := fedTo(p)
	feedIt(p, database, name, "ordered_twice", 2+p.rng.IntN(2), body{"statements": entryOf(p, database, name)})
}

// fedCanceled is a job that is cancelled about when it runs: it does not keep the queue.
func fedCanceled(p *planner, name string) {
	database := primary(p)
	r := feedIt(p, database, name, "ordered_canceled", 1, body{"statements": entryOf(p, database, name, sleeping(database, 0.1))})
	at := p.messages[len(p.messages)-1].at + time.Duration(p.rng.Int64N(int64(time.Second)))
	p.acts = append(p.acts, act{at: at, request: r, what: "cancel"})
}

// fedFailing is a job that fails, once or twice.
func fedFailing(p *planner, name string) {
	database := fedTo(p)
	r := feedIt(p, database, name, "ordered_failing", 1+p.rng.IntN(2), body{"statements": entryOf(p, database, name,
		body{"sql": "UPDATE accounts SET balance = balance WHERE id = 0", "expect_rows": 1})})
	r.Statuses, r.Codes = []string{check.Failed}, []string{"expect_rows_failed"}
}

// fedGuarded is a job that fails before the operator has repaired what it needs and publishes it again, to no queue.
func fedGuarded(p *planner, name string) {
	r := feedIt(p, primary(p), name, "ordered_guarded", 1, body{"statements": []body{effect(name, 0, 0, 0), guard(primary(p))}})
	r.Statuses = []string{check.Succeeded, check.Failed}
	r.Codes, r.Redrive = []string{"expect_rows_failed"}, true
}

// fedBadly is a job that no runner accepts.
func fedBadly(p *planner, name string) {
	database := fedTo(p)
	r := feedIt(p, database, name, "ordered_badly", 1, body{"statements": entryOf(p, database, name), "statments": 1})
	r.Statuses = []string{check.Rejected}
}

// fedExpiring is a job that may expire before its turn.
func fedExpiring(p *planner, name string) {
	times := []string{"5ms", "500ms", "2s"}
	database := fedTo(p)
	r := feedIt(p, database, name, "ordered_expiring", 1, body{"statements": entryOf(p, database, name), "expires_in": times[p.rng.IntN(len(times))]})
	r.Statuses = []string{check.Succeeded, check.Expired}
}

// operate is an operator who watches the ordered queue of a database until the context ends.
func (c *clients) operate(ctx context.Context, database string) {
	rng := newRand(c.r.seed, 20+uint64(slices.Index(c.r.databases, database)))
	for wait(ctx, 100*time.Millisecond) == nil {
		if head := failedHead(ctx, c.r, database); head != nil && wait(ctx, time.Duration(200+rng.IntN(300))*time.Millisecond) == nil {
			release(ctx, c, rng, database, head)
		}
	}
}

// release resumes a queue whose first job has failed, by the command or by a record of his own, each record a second time. Before, there is now and
// then one that names no message, or a message whose turn has not come; and he repairs what can be repaired.
func release(ctx context.Context, c *clients, rng *rand.Rand, database string, head *contract.QueueResume) {
	if rng.IntN(4) == 0 {
		other := *head
		other.Sequence++
		storeResume(ctx, c.r, database, &other)
		_ = wait(ctx, 1500*time.Millisecond) // in which it releases nothing
	}
	if early := lastOf(ctx, c.r, database); early != nil && early.Sequence > head.Sequence && rng.IntN(3) == 0 {
		noteResume(c, database, early, time.Now())
		storeResume(ctx, c.r, database, early)
		_ = wait(ctx, 1500*time.Millisecond) // in which it does not release the first one
	}
	repair(ctx, c, database, c.r.plan.requests[head.JobID])
	noteResume(c, database, head, time.Now())
	if rng.IntN(2) == 0 {
		resumeByCommand(ctx, c, database, head.JobID)
	} else {
		storeResume(ctx, c.r, database, head)
	}
	_ = wait(ctx, time.Duration(rng.IntN(500))*time.Millisecond)
	storeResume(ctx, c.r, database, head)
}

// noteResume notes that a message is about to be released, or was from some time on.
func noteResume(c *clients, database string, of *contract.QueueResume, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resumes = append(c.resumes, check.Resume{Queue: database + "." + feed, Sequence: of.Sequence, At: at})
}

// repair opens the gate, publishes the job again to no queue, and waits until that one has ended: it runs while the queue stands still.
func repair(ctx context.Context, c *clients, database string, r *check.Request) {
	if r == nil || !r.Redrive {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, 8*time.Second)
	_ = openGate(bounded, c.r, database) // the server may be away
	again := c.redrive(bounded, r, "--now")
	cancel()
	for again.Acked && wait(ctx, 100*time.Millisecond) == nil {
		bounded, cancel := context.WithTimeout(ctx, 3*time.Second)
		_, err := c.r.client.LatestResult(bounded, database, again.ID)
		cancel()
		if err == nil {
			return
		}
	}
}

// failedHead is the first message of an ordered queue, if its job has failed; nil: it has not, or nothing answers.
func failedHead(ctx context.Context, r *round, database string) *contract.QueueResume {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	head := messageOf(ctx, r, database, func(s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
		return s.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
	})
	if head == nil {
		return nil
	}
	result, err := r.client.LatestResult(ctx, database, head.JobID)
	if err != nil || result.Status == contract.Succeeded || result.Status == contract.Canceled {
		return nil
	}
	return head
}

// lastOf is the last message of an ordered queue; nil: it is empty, or nothing answers.
func lastOf(ctx context.Context, r *round, database string) *contract.QueueResume {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return messageOf(ctx, r, database, func(s jetstream.Stream, subject string) (*jetstream.RawStreamMsg, error) {
		return s.GetLastMsgForSubject(ctx, subject)
	})
}

// messageOf reads a message of an ordered queue as a record of an operator names it.
func messageOf(ctx context.Context, r *round, database string, get func(jetstream.Stream, string) (*jetstream.RawStreamMsg, error)) *contract.QueueResume {
	stream, err := r.js.Stream(ctx, r.stream("JOBS", database))
	if err != nil {
		return nil
	}
	m, err := get(stream, r.namespace+".queues."+database+"."+feed+".>")
	if err != nil {
		return nil
	}
	var job struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(m.Data, &job) != nil {
		return nil
	}
	return &contract.QueueResume{Sequence: m.Sequence, QueuedAt: m.Time, JobID: job.ID, By: "faults"}
}

// byCommand is who resumes with the command.
const byCommand = "operator"

// resumeByCommand resumes the queue as an operator would. The command refuses a copy of a failed job while no runner has it; where a record before it has
// just released the message, it releases the copy that is first by then.
func resumeByCommand(ctx context.Context, c *clients, database, id string) {
	from := time.Now()
	bounded, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	cmd := exec.CommandContext(bounded, c.r.binary, "resume", database, "--queue", feed, "--job", id, "--by", byCommand, "--reason", "fault bench")
	cmd.Env = c.r.runnerEnvironment(c.r.world.cluster.urls())
	_ = cmd.Run() // the record that follows does the same
	for {
		record, err := lastResume(ctx, c.r, database)
		if err == nil && record.By == byCommand {
			noteResume(c, database, &record, from)
		}
		if err == nil || errors.Is(err, jetstream.ErrKeyNotFound) || wait(ctx, 100*time.Millisecond) != nil {
			return
		}
	}
}

// lastResume is the last record of an ordered queue.
func lastResume(ctx context.Context, r *round, database string) (record contract.QueueResume, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	bucket, err := r.js.KeyValue(ctx, r.bucket("STATE"))
	if err != nil {
		return record, err
	}
	entry, err := bucket.Get(ctx, contract.ResumeKey(database, feed))
	if err != nil {
		return record, err
	}
	return contract.ReadResume(entry.Value())
}

// storeResume stores a record, once: the queue is looked at again.
func storeResume(ctx context.Context, r *round, database string, record *contract.QueueResume) {
	value, err := contract.EncodeResume(*record)
	if err != nil {
		return // a reason that is too long
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if bucket, err := r.js.KeyValue(ctx, r.bucket("STATE")); err == nil {
		_, _ = bucket.Put(ctx, contract.ResumeKey(database, feed), value)
	}
}

// collectFeed reads what the jobs of the ordered queue have left, with the time of each COMMIT. SQLite and SQL Server note none: their rows are in the
// order in which they were inserted, and in SQL Server the number that a row was given before it has to fit. SQLite's clock is the runners', in milliseconds.
func collectFeed(ctx context.Context, h *check.History, db *sql.DB, database string) error {
	committed, order := `pg_xact_commit_timestamp(xmin)`, ``
	switch database {
	case edge:
		committed, order = `finished`, ` ORDER BY rowid`
	case depot:
		committed, order = `finished`, ` ORDER BY number`
	}
	return each(ctx, db, `SELECT request, place, started, `+committed+` FROM feed`+order, func(scan func(...any) error) error {
		row := check.Commit{Queue: database + "." + feed}
		err := scan(&row.Request, &row.Place, &row.Started, &row.Committed)
		if database == edge {
			row.Started = row.Started.Add(time.Millisecond)
		}
		if database == edge && h.Skewed {
			row.Started, row.Committed = time.Time{}, time.Time{}
		}
		h.Commits = append(h.Commits, row)
		return err
	})
}

// queueDisordered has the consumer of the ordered queue deliver many jobs at a time, and to all runners, as an operator's mistake would.
func queueDisordered(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	database := r.databases[rng.IntN(len(r.databases))]
	if err := limitFeed(ctx, r, database, 10); err != nil {
		return "not changed", err
	}
	_ = wait(ctx, time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
	return database, eventually(ctx, settleTime, "the consumer of the ordered queue is as it was", func() bool { return limitFeed(ctx, r, database, 1) == nil })
}

func limitFeed(ctx context.Context, r *round, database string, pending int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	consumer, err := r.js.Consumer(ctx, r.stream("JOBS", database), contract.QueueConsumer(feed))
	if err != nil {
		return err
	}
	config := consumer.CachedInfo().Config
	config.MaxAckPending = pending
	_, err = r.js.UpdateConsumer(ctx, r.stream("JOBS", database), config)
	return err
}
