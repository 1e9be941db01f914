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

const (
	// lookAgain is the pause between two looks for a stored result. The subscription is the fast way; the looks find
	// what was stored while nobody listened: a lost connection, a lagging replica.
	lookAgain = 3 * time.Second

	// publishAgain is the pause before a job is published again that no acknowledgement came for.
	publishAgain = 500 * time.Millisecond

	// requestTimeout is a little more than runners take to answer a request.
	requestTimeout = 6 * time.Second
)

// Job is a message for the runners of one database.
type Job struct {
	Database string
	Kind     string
	ID       string
	Body     map[string]any // with the id
}

// Result is what this flow reads of a result; docs/messages.md has all of it.
type Result struct {
	JobID  string            `json:"job_id"`
	Status string            `json:"status"`
	Rows   []json.RawMessage `json:"rows"`
	Object *RowsObject       `json:"rows_object"`
	Error  *ResultError      `json:"error"`
}

// RowsObject is where the rows are that are not in the result.
type RowsObject struct {
	Bucket string `json:"bucket"`
	Name   string `json:"name"`
	Digest string `json:"digest"`
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

// Health is a runner's look at a database.
type Health struct {
	Verdict string   `json:"verdict"`
	Reasons []string `json:"reasons"`
}

// Client publishes jobs, awaits their results and asks the runners.
type Client struct {
	nc         *nats.Conn
	js         jetstream.JetStream
	namespace  string
	publishing chan struct{}
}

// NewClient returns a client that uses the connection, which stays the caller's, and publishes so many jobs at once.
func NewClient(nc *nats.Conn, namespace string, publishers int) (*Client, error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Client{nc: nc, js: js, namespace: namespace, publishing: make(chan struct{}, publishers)}, nil
}

// Answer is how a job ended.
type Answer struct {
	Result *Result
	Known  bool // it was stored already when this process looked for it: an earlier life of the flow had published the job
}

// Do gets a job's result: the one that is stored, or else the job is published, for the first time or again, and its
// result awaited. A job that takes longer than the patience is cancelled; its result then tells what became of it.
func (c *Client) Do(ctx context.Context, job *Job, patience time.Duration) (*Answer, error) {
	wait, err := c.wait(job) // before anything else: so no result slips through
	if err != nil {
		return nil, err
	}
	defer wait.end()
	if result, err := wait.stored(ctx); result != nil || err != nil {
		return &Answer{Result: result, Known: true}, err
	}
	if err := c.Publish(ctx, job); err != nil {
		return nil, err
	}
	for {
		if result, err := wait.result(ctx, patience); result != nil || err != nil {
			return &Answer{Result: result}, err
		}
		// Where nobody takes the request now, it is made again when the patience is over again.
		_ = c.Cancel(ctx, job)
	}
}

// wait is the waiting for one job's result.
type wait struct {
	client *Client
	job    *Job
	sub    *nats.Subscription
}

func (c *Client) wait(job *Job) (*wait, error) {
	sub, err := c.nc.SubscribeSync(c.resultSubject(job))
	if err != nil {
		return nil, fmt.Errorf("subscribe to the result of %s: %w", job.ID, err)
	}
	return &wait{client: c, job: job, sub: sub}, nil
}

func (w *wait) end() { _ = w.sub.Unsubscribe() }

// result returns the result when it is stored, or nil when the patience is over: get it, listen for a while, get it
// again. Nothing depends on having been there at the moment when it was stored.
func (w *wait) result(ctx context.Context, patience time.Duration) (*Result, error) {
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for waiting.Err() == nil {
		result, err := w.stored(waiting)
		if result != nil || err != nil {
			return result, err
		}
		if result, err = w.next(waiting); result != nil || err != nil {
			return result, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("await the result of %s: %w", w.job.ID, err)
	}
	return nil, nil
}

// stored gets the stored result by direct get, nil if there is none or no server answers now.
func (w *wait) stored(ctx context.Context) (*Result, error) {
	c := w.client
	stream := strings.ToUpper(c.namespace) + "_RESULTS_" + w.job.Database
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+stream+"."+c.resultSubject(w.job), nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get the result of %s: %w", w.job.ID, err)
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		return w.read(msg.Data)
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("get the result of %s: %s %s", w.job.ID, status, msg.Header.Get("Description"))
	}
}

// next returns the result if it is stored within a while, else nil.
func (w *wait) next(ctx context.Context) (*Result, error) {
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	defer cancel()
	msg, err := w.sub.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("listen for the result of %s: %w", w.job.ID, err)
	}
	return w.read(msg.Data)
}

func (w *wait) read(body []byte) (*Result, error) {
	var result Result
	if err := json.Unmarshal(body, &result); err != nil {
		return nil, fmt.Errorf("read the result of %s: %w", w.job.ID, err)
	}
	return &result, nil
}

// Publish returns when the stream has the job. A publish whose acknowledgement is lost, or which finds the stream full,
// is made again until ctx ends: the id makes that safe. What does not get better by itself is an error at once.
func (c *Client) Publish(ctx context.Context, job *Job) error {
	body, err := json.Marshal(job.Body)
	if err != nil {
		return fmt.Errorf("encode job %s: %w", job.ID, err)
	}
	for {
		err := c.publish(ctx, job, body)
		if err == nil || errors.Is(err, jetstream.ErrNoStreamResponse) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(publishAgain):
		}
	}
}

// publish publishes once, when it is this job's turn: many at once would only wait for each other's acknowledgements.
// It is a JetStream publish: a core publish would not notice that no stream takes the subject. The id is in the header
// too, so that the server drops the repetition of a publish; later than that the runner knows the id.
func (c *Client) publish(ctx context.Context, job *Job, body []byte) error {
	select {
	case c.publishing <- struct{}{}:
		defer func() { <-c.publishing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	subject := strings.Join([]string{c.namespace, "jobs", job.Database, job.Kind}, ".")
	_, err := c.js.Publish(ctx, subject, body, jetstream.WithMsgID(job.ID), jetstream.WithRetryAttempts(5))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return fmt.Errorf("no stream takes %s: is there such a database, and does it take this kind? %w", subject, err)
	case err != nil:
		return fmt.Errorf("publish job %s: %w", job.ID, err)
	}
	return nil
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

// Health asks a runner for a look at the database.
func (c *Client) Health(ctx context.Context, database string) (*Health, error) {
	var health Health
	if err := c.ask(ctx, "health."+database, &health); err != nil {
		return nil, err
	}
	return &health, nil
}

// Cancel asks for a job's end. Whether it came to that is for the result to tell: a job that has committed meanwhile
// says succeeded.
func (c *Client) Cancel(ctx context.Context, job *Job) error {
	var answer struct {
		Outcome string `json:"outcome"`
	}
	return c.ask(ctx, "cancel."+job.Database+"."+job.ID, &answer)
}

// ask makes one request to the runners' service.
func (c *Client) ask(ctx context.Context, request string, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.namespace+".api."+request, nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return errors.New("no runner is there")
	case err != nil:
		return fmt.Errorf("no runner answers: %w", err)
	}
	if reason := msg.Header.Get("Nats-Service-Error"); reason != "" {
		return errors.New(reason)
	}
	if len(msg.Data) == 0 {
		return errors.New("the runner has too many requests, or is ending") // a bare status 503
	}
	if err := json.Unmarshal(msg.Data, answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", request, err)
	}
	return nil
}

func (c *Client) resultSubject(job *Job) string {
	return strings.Join([]string{c.namespace, "results", job.Database, job.ID}, ".")
}
