package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
	"dbrunner/test/faults/check"
)

// feed is the ordered queue of shop: its jobs take effect one at a time, in the order of the stream.
const feed = "feed"

const feedTable = `CREATE TABLE feed (request TEXT NOT NULL, place BIGINT NOT NULL, started TIMESTAMPTZ NOT NULL, finished TIMESTAMPTZ)`

// orderedClasses are the sorts of jobs of the ordered queue, and how many of each a run has; calm: none that fails and so keeps the others
// waiting.
func orderedClasses(calm bool) []class {
	list := []class{{"ordered", 30, fed}, {"ordered_twice", 5, fedTwice}, {"ordered_canceled", 2, fedCanceled}}
	if calm {
		return list
	}
	return append(list, class{"ordered_failing", 2, fedFailing}, class{"ordered_badly", 1, fedBadly}, class{"ordered_expiring", 2, fedExpiring})
}

// addOrdered adds the jobs of the ordered queue, and a pause of it.
func addOrdered(p *planner, calm bool) {
	for _, c := range orderedClasses(calm) {
		for range c.share {
			p.add(c)
		}
	}
	if !calm {
		at := p.when() / 2
		target := contract.PauseTarget{Database: shop, Queue: feed}
		p.acts = append(p.acts, act{at: at, what: "pause", pauses: []pausing{{at: at, target: target, length: pauseLength}}})
	}
}

// feedIt publishes a job of the ordered queue, as often as it is to have copies.
func feedIt(p *planner, name, class string, copies int, b body) *check.Request {
	r := p.request(name, class, shop, "transaction", check.ExactlyOnce, 1, b)
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
func entryOf(p *planner, name string, more ...body) []body {
	request := body{"request": name}
	return append([]body{
		effect(name, 0, 0, 0),
		{"sql": `INSERT INTO feed (request, place, started) VALUES (:request, (SELECT count(*) + 1 FROM feed), clock_timestamp())`, "params": request},
		{"sql": fmt.Sprintf("SELECT pg_sleep(%g)", 0.02*p.rng.Float64())},
		{"sql": `UPDATE feed SET finished = clock_timestamp() WHERE request = :request`, "params": request, "expect_rows": 1},
	}, more...)
}

func fed(p *planner, name string) {
	feedIt(p, name, "ordered", 1, body{"statements": entryOf(p, name)})
}

func fedTwice(p *planner, name string) {
	feedIt(p, name, "ordered_twice", 2+p.rng.IntN(2), body{"statements": entryOf(p, name)})
}

// fedCanceled is a job that is cancelled about when it runs: it does not keep the queue.
func fedCanceled(p *planner, name string) {
	r := feedIt(p, name, "ordered_canceled", 1, body{"statements": entryOf(p, name, body{"sql": "SELECT pg_sleep(0.1)"})})
	at := p.messages[len(p.messages)-1].at + time.Duration(p.rng.Int64N(int64(time.Second)))
	p.acts = append(p.acts, act{at: at, request: r, what: "cancel"})
}

// fedFailing is a job that fails, once or twice.
func fedFailing(p *planner, name string) {
	r := feedIt(p, name, "ordered_failing", 1+p.rng.IntN(2), body{"statements": entryOf(p, name,
		body{"sql": "UPDATE accounts SET balance = balance WHERE id = 0", "expect_rows": 1})})
	r.Statuses, r.Codes = []string{check.Failed}, []string{"expect_rows_failed"}
}

// fedBadly is a job that no runner accepts.
func fedBadly(p *planner, name string) {
	r := feedIt(p, name, "ordered_badly", 1, body{"statements": entryOf(p, name), "statments": 1})
	r.Statuses = []string{check.Rejected}
}

// fedExpiring is a job that may expire before its turn.
func fedExpiring(p *planner, name string) {
	times := []string{"5ms", "500ms", "2s"}
	r := feedIt(p, name, "ordered_expiring", 1, body{"statements": entryOf(p, name), "expires_in": times[p.rng.IntN(len(times))]})
	r.Statuses = []string{check.Succeeded, check.Expired}
}

// operate is an operator who watches the ordered queue: he lets a job that failed stay at its head for a moment, and resumes the queue for
// it then, by the command or by a record of his own, each record a second time, and now and then one that names no message.
func (c *clients) operate(ctx context.Context) {
	rng := newRand(c.r.seed, 4)
	for wait(ctx, 100*time.Millisecond) == nil {
		head := failedHead(ctx, c.r)
		if head == nil || wait(ctx, time.Duration(200+rng.IntN(300))*time.Millisecond) != nil {
			continue
		}
		if rng.IntN(4) == 0 {
			other := *head
			other.Sequence++
			storeResume(ctx, c.r, &other)
			_ = wait(ctx, 1500*time.Millisecond) // in which it releases nothing
		}
		c.mu.Lock()
		c.resumes = append(c.resumes, check.Resume{Queue: shop + "." + feed, Sequence: head.Sequence, At: time.Now()})
		c.mu.Unlock()
		if rng.IntN(2) == 0 {
			resumeByCommand(ctx, c.r, head.JobID)
		} else {
			storeResume(ctx, c.r, head)
		}
		_ = wait(ctx, time.Duration(rng.IntN(500))*time.Millisecond)
		storeResume(ctx, c.r, head)
	}
}

// failedHead is the first message of the ordered queue, if its job has failed; nil: it has not, or nothing answers.
func failedHead(ctx context.Context, r *round) *contract.QueueResume {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	stream, err := r.js.Stream(ctx, r.stream("JOBS", shop))
	if err != nil {
		return nil
	}
	m, err := stream.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(r.namespace+".queues."+shop+"."+feed+".>"))
	if err != nil {
		return nil
	}
	var job struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(m.Data, &job) != nil {
		return nil
	}
	result, err := r.client.LatestResult(ctx, shop, job.ID)
	if err != nil || result.Status == contract.Succeeded || result.Status == contract.Canceled {
		return nil
	}
	return &contract.QueueResume{Sequence: m.Sequence, QueuedAt: m.Time, JobID: job.ID, By: "faults"}
}

// resumeByCommand resumes the queue as an operator would. The command refuses a copy of a failed job while no runner has it.
func resumeByCommand(ctx context.Context, r *round, id string) {
	ctx, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.binary, "resume", shop, "--queue", feed, "--job", id, "--reason", "fault bench")
	cmd.Env = r.runnerEnvironment(r.world.cluster.urls())
	_ = cmd.Run() // the record that follows does the same
}

// storeResume stores a record, once: the queue is looked at again.
func storeResume(ctx context.Context, r *round, record *contract.QueueResume) {
	value, err := contract.EncodeResume(*record)
	if err != nil {
		return // a reason that is too long
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if bucket, err := r.js.KeyValue(ctx, r.bucket("STATE")); err == nil {
		_, _ = bucket.Put(ctx, contract.ResumeKey(shop, feed), value)
	}
}

// collectFeed reads what the jobs of the ordered queue have left, with the time of each COMMIT.
func collectFeed(ctx context.Context, h *check.History, db *sql.DB) error {
	return each(ctx, db, `SELECT request, place, started, pg_xact_commit_timestamp(xmin) FROM feed`, func(scan func(...any) error) error {
		row := check.Commit{Queue: shop + "." + feed}
		err := scan(&row.Request, &row.Place, &row.Started, &row.Committed)
		h.Commits = append(h.Commits, row)
		return err
	})
}

// queueDisordered has the consumer of the ordered queue deliver many jobs at a time, and to all runners, as an operator's mistake would.
func queueDisordered(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	if err := limitFeed(ctx, r, 10); err != nil {
		return "not changed", err
	}
	_ = wait(ctx, time.Second+time.Duration(rng.Int64N(int64(2*time.Second))))
	return "", eventually(ctx, settleTime, "the consumer of the ordered queue is as it was", func() bool { return limitFeed(ctx, r, 1) == nil })
}

func limitFeed(ctx context.Context, r *round, pending int) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	consumer, err := r.js.Consumer(ctx, r.stream("JOBS", shop), contract.QueueConsumer(feed))
	if err != nil {
		return err
	}
	config := consumer.CachedInfo().Config
	config.MaxAckPending = pending
	_, err = r.js.UpdateConsumer(ctx, r.stream("JOBS", shop), config)
	return err
}
