package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/app"
)

// stepTimeout bounds each step of the show: on a laptop they take milliseconds.
const stepTimeout = 20 * time.Second

// show is the demonstration: it publishes as any stock NATS client does, and prints what it sent and what came back.
type show struct {
	out   io.Writer
	style style
	url   string
	page  string // address of the operator's page; empty: there is none

	nc     *nats.Conn
	client *client.Client
	step   int
}

const (
	queryJob = `{
  "id": "demo-query",
  "sql": "SELECT id, owner, balance FROM accounts WHERE balance >= :least ORDER BY id",
  "params": {"least": 300}
}`
	transferJob = `{
  "id": "demo-transfer",
  "statements": [
    {"sql": "UPDATE accounts SET balance = balance - :amount WHERE id = :from",
     "params": {"amount": 100, "from": 1}, "expect_rows": 1},
    {"sql": "UPDATE accounts SET balance = balance + :amount WHERE id = :to",
     "params": {"amount": 100, "to": 4}, "expect_rows": 1},
    {"sql": "INSERT INTO transfers (source, target, amount) VALUES (:from, :to, :amount) RETURNING id",
     "params": {"from": 1, "to": 4, "amount": 100}}
  ]
}`
	balanceJob = `{
  "id": "demo-balance",
  "sql": "SELECT owner, balance, (SELECT count(*) FROM transfers) AS transfers FROM accounts WHERE id = 4"
}`
	mistakenJob = `{
  "id": "demo-mistaken",
  "sqll": "SELECT 1",
  "timeout": "soon"
}`
	migrationJob = `{
  "id": "demo-migration",
  "action": "up"
}`
	callJob = `{
  "id": "demo-pay",
  "params": {"from": 1, "to": 4, "amount": 50}
}`
	paidJob = `{
  "id": "demo-paid",
  "sql": "SELECT owner, balance, (SELECT count(*) FROM transfers) AS transfers FROM accounts WHERE id = 4"
}`
	failingJob = `{
  "id": "demo-failing",
  "statements": [
    {"sql": "UPDATE accounts SET balance = balance + 5000 WHERE id = 4"},
    {"sql": "UPDATE accounts SET balance = balance - 5000 WHERE id = 1"}
  ]
}`
)

// perform shows everything and reports what did not come out as promised.
func (s *show) perform(ctx context.Context) error {
	nc, err := nats.Connect(s.url, nats.Name("dbrunner demo"))
	if err != nil {
		return fmt.Errorf("connect to the demo's NATS: %w", err)
	}
	defer nc.Close()
	s.nc = nc
	if s.client, err = client.New(nc, client.Options{}); err != nil {
		return err
	}
	for i, step := range []func(context.Context) error{
		s.query, s.transaction, s.duplicate, s.call, s.approval, s.mistaken, s.failing, s.migration, s.reply, s.unknownDatabase,
	} {
		s.step = i + 1
		bounded, cancel := context.WithTimeout(ctx, stepTimeout)
		err := step(bounded)
		cancel()
		if err != nil {
			return fmt.Errorf("step %d: %w", s.step, err)
		}
	}
	s.line("")
	s.line(s.style.green("All results are as expected."))
	return nil
}

func (s *show) query(ctx context.Context) error {
	s.title("A query", "rows are returned in the database's own types, without loss")
	return s.try(ctx, "query", queryJob, "demo-query", contract.Succeeded, func(r *client.Result) bool { return r.RowCount == 2 })
}

func (s *show) transaction(ctx context.Context) error {
	s.title("A transaction", "all statements or none; expect_rows rolls back if other rows are affected than expected")
	return s.try(ctx, "transaction", transferJob, "demo-transfer", contract.Succeeded, func(r *client.Result) bool { return len(r.Statements) == 3 })
}

// duplicate sends the transfer again without Nats-Msg-Id, as it comes when the stream's own de-duplication is over,
// and asks for a reply: nothing is stored a second time, so only a reply can show it.
func (s *show) duplicate(ctx context.Context) error {
	s.title("The same transaction again", "as sent by a publisher that got no answer: it returns the first result, "+
		"and has no second effect")
	err := s.request(ctx, "transaction", "", func(inbox string) (body, shown string) {
		added := fmt.Sprintf("{\n  \"reply_to\": %q,\n", inbox)
		return strings.Replace(transferJob, "{\n", added, 1), added + "  … the rest as before\n}"
	}, func(r *client.Result) bool { return r.Duplicate })
	if err != nil {
		return err
	}
	s.line("")
	s.line("   The effect happened once: Barbara has 100, and there is one transfer.")
	return s.try(ctx, "query", balanceJob, "demo-balance", contract.Succeeded, func(r *client.Result) bool {
		return string(r.Rows) == `[{"owner":"Barbara","balance":100,"transfers":1}]`
	})
}

// call calls a named statement twice under one id.
func (s *show) call(ctx context.Context) error {
	s.title("A call", "no SQL: the publisher names a statement of the catalog and gives its parameters")
	err := s.try(ctx, "call.pay", callJob, "demo-pay", contract.Succeeded, func(r *client.Result) bool { return len(r.Statements) == 3 })
	if err != nil {
		return err
	}
	s.line("")
	s.line("   The same call again:")
	err = s.request(ctx, "call.pay", "", func(inbox string) (body, shown string) {
		added := fmt.Sprintf("{\n  \"reply_to\": %q,\n", inbox)
		return strings.Replace(callJob, "{\n", added, 1), added + "  … the rest as before\n}"
	}, func(r *client.Result) bool { return r.Duplicate })
	if err != nil {
		return err
	}
	s.line("")
	s.line("   The money moved once: Barbara has 50 more.")
	return s.try(ctx, "query", paidJob, "demo-paid", contract.Succeeded, func(r *client.Result) bool {
		return string(r.Rows) == `[{"owner":"Barbara","balance":150,"transfers":2}]`
	})
}

func (s *show) mistaken(ctx context.Context) error {
	s.title("A job with errors", "nothing is executed, and all errors are reported together")
	return s.try(ctx, "query", mistakenJob, "demo-mistaken", contract.Rejected, func(r *client.Result) bool {
		return r.Error != nil && len(r.Error.Faults) > 1
	})
}

func (s *show) failing(ctx context.Context) error {
	s.title("A transaction that the database refuses", "Ada has no 5000: the first statement is rolled back with the second")
	return s.try(ctx, "transaction", failingJob, "demo-failing", contract.Failed, func(r *client.Result) bool {
		return r.Error != nil && r.Error.Code == "check_violation"
	})
}

// migration shows the last message that reports where a migration is: this one takes less time than lies between two.
func (s *show) migration(ctx context.Context) error {
	s.title("A migration", "the database's pending files, each in one transaction with its history row")
	sub, err := s.nc.SubscribeSync("dbrunner.health.migration." + app.DemoDatabase)
	if err != nil {
		return fmt.Errorf("subscribe to the progress: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	err = s.try(ctx, "migration", migrationJob, "demo-migration", contract.Succeeded, func(r *client.Result) bool {
		return r.VersionBefore == "1" && r.VersionAfter == "2" && len(r.Files) == 1
	})
	if err != nil {
		return err
	}
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			return fmt.Errorf("await the progress of the migration: %w", err)
		}
		if strings.Contains(string(msg.Data), `"state":"succeeded"`) {
			s.line("   progress " + msg.Subject + "  " + s.style.dim("the last one; at least every few seconds during a migration"))
			s.line("            " + s.style.dim(string(msg.Data)))
			return nil
		}
	}
}

func (s *show) reply(ctx context.Context) error {
	s.title("A query with reply_to", "the result is published to the publisher's own subject and stored")
	return s.request(ctx, "query", "demo-reply", func(inbox string) (body, shown string) {
		body = fmt.Sprintf("{\n  \"id\": \"demo-reply\",\n  \"sql\": \"SELECT sum(balance) AS total FROM accounts\",\n  \"reply_to\": %q\n}", inbox)
		return body, body
	}, func(r *client.Result) bool { return r.RowCount == 1 })
}

// unknownDatabase shows why publishers publish to JetStream.
func (s *show) unknownDatabase(ctx context.Context) error {
	s.title("A typo in the subject", "no stream accepts it, so a JetStream publish fails immediately")
	js, err := jetstream.New(s.nc)
	if err != nil {
		return fmt.Errorf("open JetStream: %w", err)
	}
	subject := "dbrunner.jobs.demmo.query"
	_, err = js.Publish(ctx, subject, []byte(`{"sql": "SELECT 1"}`), jetstream.WithRetryAttempts(0))
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("a publish to %s was expected to be refused, got: %w", subject, err)
	}
	s.line("   publish  " + subject)
	s.line("   " + s.style.red("refused") + "  " + err.Error())
	return nil
}

func (s *show) title(what, why string) {
	s.line("")
	s.line(s.style.bold(fmt.Sprintf("%d  %s", s.step, what)))
	s.line("   " + why)
}

// try publishes a job, prints its stored result and returns an error if that is not as expected.
func (s *show) try(ctx context.Context, kind, body, id string, status contract.Status, expected func(*client.Result) bool) error {
	start := time.Now()
	if err := s.publish(ctx, kind, body, body, id); err != nil {
		return err
	}
	r, err := s.client.Await(ctx, app.DemoDatabase, id)
	if err != nil {
		return err
	}
	took := time.Since(start).Round(100 * time.Microsecond).String()
	s.line("   result   " + contract.Subjects{Namespace: contract.DefaultNamespace}.Result(app.DemoDatabase, id) + "  " + s.style.dim("after "+took))
	return s.check(r, status, expected)
}

// request publishes a job whose body names an inbox, prints the reply and returns an error if that is not as expected.
func (s *show) request(ctx context.Context, kind, id string, job func(inbox string) (body, shown string), expected func(*client.Result) bool) error {
	inbox := s.nc.NewInbox()
	sub, err := s.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("subscribe to the reply: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	body, shown := job(inbox)
	if err = s.publish(ctx, kind, body, shown, id); err != nil {
		return err
	}
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return fmt.Errorf("await the reply: %w", err)
	}
	s.line("   reply    " + msg.Subject)
	r, err := contract.ReadResult(msg.Data)
	if err != nil {
		return err
	}
	return s.check(&client.Result{Result: *r, Body: msg.Data}, contract.Succeeded, expected)
}

// check prints a result and returns an error if it is not as expected.
func (s *show) check(r *client.Result, status contract.Status, expected func(*client.Result) bool) error {
	if err := printResult(s.out, s.style, "            ", r); err != nil {
		return err
	}
	if r.Status == status && expected(r) {
		return nil
	}
	return fmt.Errorf("the job %s did not finish as expected: %s", r.JobID, r.Body)
}

// publish publishes a job and prints it as it is to be shown. id is the message's; empty: it has none.
func (s *show) publish(ctx context.Context, kind, body, shown, id string) error {
	s.line("   publish  " + contract.Subjects{Namespace: contract.DefaultNamespace}.Job(app.DemoDatabase, kind))
	for line := range strings.SplitSeq(shown, "\n") {
		s.line("            " + s.style.dim(line))
	}
	kind, name, _ := strings.Cut(kind, ".")
	_, err := s.client.Submit(ctx, &client.Job{Database: app.DemoDatabase, Kind: kind, Name: name, ID: id, Body: []byte(body)})
	return err
}
