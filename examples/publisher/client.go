package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// lookAgain is the pause between two looks for a stored result. The subscription is the fast way; the looks find
// what was stored while nobody listened: a lost connection, a lagging replica.
const lookAgain = 3 * time.Second

// Job is a message for the runners, ready to be published.
type Job struct {
	ID   string          `json:"id"`
	Kind string          `json:"kind"`
	Body json.RawMessage `json:"body"`
}

// Result is what a publisher commonly reads of a result; docs/messages.md has all of it.
type Result struct {
	JobID     string            `json:"job_id"`
	Status    string            `json:"status"`
	Duplicate bool              `json:"duplicate"`
	Columns   []Column          `json:"columns"`
	Rows      []json.RawMessage `json:"rows"`
	RowCount  int64             `json:"row_count"`
	Object    *RowsObject       `json:"rows_object"`
	Error     *ResultError      `json:"error"`
}

// Column is a column of a query's answer, with the database's own name of its type.
type Column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// RowsObject is where the rows are that have no room in the result.
type RowsObject struct {
	Bucket string `json:"bucket"`
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Digest string `json:"digest"`
	Format string `json:"format"`
}

// ResultError says why a job did not succeed.
type ResultError struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	Retryable bool    `json:"retryable"`
	Faults    []Fault `json:"faults"`
}

// Fault is one thing wrong with a job's body.
type Fault struct {
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Client publishes jobs for one database and awaits their answers.
type Client struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	namespace string
	database  string
}

// NewClient returns a client that uses the connection, which stays the caller's.
func NewClient(nc *nats.Conn, namespace, database string) (*Client, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Client{nc: nc, js: js, namespace: namespace, database: database}, nil
}

// Publish returns when the stream has the job. It is a JetStream publish: a core publish would not notice that no
// stream takes the subject. The id is in the header too, so that a repeated publish is de-duplicated by the server
// already; later than that the runner knows the id.
func (c *Client) Publish(ctx context.Context, job *Job) error {
	msg := nats.NewMsg(strings.Join([]string{c.namespace, "jobs", c.database, job.Kind}, "."))
	msg.Data = job.Body
	_, err := c.js.PublishMsg(ctx, msg, jetstream.WithMsgID(job.ID), jetstream.WithRetryAttempts(5))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes %s: is there such a database, and does it take this kind? %w", msg.Subject, err)
	case err != nil:
		return fmt.Errorf("publish job %s: %w", job.ID, err)
	}
	return nil
}

// Await returns the stored result of a job: subscribe first, then look, then look again every few seconds. In this
// order no result slips through between the two, and nothing depends on having been there when it was stored.
func (c *Client) Await(ctx context.Context, id string) (*Result, error) {
	sub, err := c.nc.SubscribeSync(c.resultSubject(id))
	if err != nil {
		return nil, fmt.Errorf("subscribe to the result of %s: %w", id, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	for ctx.Err() == nil {
		body, err := c.stored(ctx, id)
		if err == nil && body == nil {
			body, err = next(ctx, sub)
		}
		if err != nil {
			return nil, fmt.Errorf("await the result of %s: %w", id, err)
		}
		if body != nil {
			return parseResult(body)
		}
	}
	return nil, fmt.Errorf("await the result of %s: %w", id, ctx.Err())
}

// stored gets the stored result by direct get, nil if there is none or no server answers now.
func (c *Client) stored(ctx context.Context, id string) ([]byte, error) {
	stream := strings.ToUpper(c.namespace) + "_RESULTS_" + c.database
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+c.resultSubject(id), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	case err != nil:
		return nil, err
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		return msg.Data, nil
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("direct get: %s %s", status, msg.Header.Get("Description"))
	}
}

// next returns the next message of the subscription, nil if there is none for a while.
func next(ctx context.Context, sub *nats.Subscription) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return msg.Data, nil
}

func (c *Client) resultSubject(id string) string {
	return strings.Join([]string{c.namespace, "results", c.database, id}, ".")
}

// Fetch writes rows that are not in their result. The library compares what it read with the digest at the end: until Fetch
// has returned, what was written may be damaged or a part.
func (c *Client) Fetch(ctx context.Context, rows *RowsObject, to io.Writer) error {
	bucket, err := c.js.ObjectStore(ctx, rows.Bucket)
	if err != nil {
		return fmt.Errorf("open the bucket %s: %w", rows.Bucket, err)
	}
	object, err := bucket.Get(ctx, rows.Name)
	if err != nil {
		return fmt.Errorf("get the rows %s: %w", rows.Name, err)
	}
	defer func() { _ = object.Close() }() // it was read to its end
	if info, err := object.Info(); err != nil || info.Digest != rows.Digest {
		return errors.Join(fmt.Errorf("the rows %s are not those of the result", rows.Name), err)
	}
	if _, err := io.Copy(to, object); err != nil {
		return fmt.Errorf("read the rows %s: %w", rows.Name, err)
	}
	return nil
}

func parseResult(body []byte) (*Result, error) {
	var result Result
	if err := json.Unmarshal(body, &result); err != nil {
		return nil, fmt.Errorf("read a result: %w", err)
	}
	return &result, nil
}
