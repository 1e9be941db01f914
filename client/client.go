package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
)

// Options configure a Client.
type Options struct {
	Namespace string // first token of all subjects; default contract.DefaultNamespace
	Domain    string // JetStream domain of the runners; empty: the connection's own
}

// Client publishes jobs and reads results.
type Client struct {
	nc       *nats.Conn
	js       jetstream.JetStream
	subjects contract.Subjects
	api      string // prefix of JetStream's API
}

// New returns a client that uses a connection, which the caller closes.
func New(nc *nats.Conn, opts Options) (*Client, error) {
	if opts.Namespace == "" {
		opts.Namespace = contract.DefaultNamespace
	}
	if err := checkName("namespace", opts.Namespace); err != nil {
		return nil, err
	}
	api := "$JS.API."
	if opts.Domain != "" {
		api = "$JS." + opts.Domain + ".API."
	}
	js, err := jetstream.NewWithAPIPrefix(nc, strings.TrimSuffix(api, "."))
	if err != nil {
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return &Client{nc: nc, js: js, subjects: contract.Subjects{Namespace: opts.Namespace}, api: api}, nil
}

// Job is a job that is ready to be published.
type Job struct {
	Database string
	Queue    string // of the database that the job waits in; empty: none
	Kind     string
	Name     string // of what the job runs, where its kind has names; otherwise empty
	ID       string // also the message id, for the stream's deduplication; empty: the runner derives one
	Body     []byte // one JSON object; if it has an id, that is ID
	Headers  nats.Header
}

// Receipt proves that the stream stores a job.
type Receipt struct {
	Sequence  uint64
	Duplicate bool // the stream has a message with this id already; this one was dropped
}

// Errors of Submit.
var (
	// ErrNoStream is returned if no stream takes the job: the database or the queue is unknown, or does not run this kind.
	ErrNoStream = errors.New("no stream accepts this subject")
	// ErrTooLarge is returned if the job is larger than the server takes.
	ErrTooLarge = errors.New("message too large")
)

// Submit publishes a job and returns when its stream has stored it. While it is unknown whether the stream has it, a job with an
// id is published again, until ctx ends; one without an id could be stored twice, so that its error is returned. What the
// stream refuses, because it is full for example, is an *APIError.
func (c *Client) Submit(ctx context.Context, job *Job) (Receipt, error) {
	if err := job.check(); err != nil {
		return Receipt{}, err
	}
	msg := &nats.Msg{
		Subject: c.subjects.Of(contract.JobSubject{Database: job.Database, Queue: job.Queue, Kind: job.Kind, Name: job.Name}),
		Header:  cloned(job.Headers), Data: job.Body,
	}
	if job.ID != "" {
		msg.Header.Set(contract.HeaderMessageID, job.ID)
	}
	for attempt := 0; ; attempt++ {
		receipt, err := c.publish(ctx, msg)
		switch {
		case err == nil:
			return receipt, nil
		case c.denied(msg.Subject):
			err = ErrDenied
		case errors.Is(err, ErrNoStream) && job.Queue != "":
			err = fmt.Errorf("%w; the database has no queue %s, or %s does not run in it: see queues in the runners' configuration, and runner topology apply",
				ErrNoStream, job.Queue, job.Kind)
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		case transient(err) && (job.ID != "" || hasCode(err, transientCodes()...)) && pause(ctx, attempt, 100*time.Millisecond):
			continue
		}
		return Receipt{}, fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
}

// check refuses what could not be part of a subject, or an id that no publisher may choose.
func (j *Job) check() error {
	err := errors.Join(checkName("database", j.Database), checkName("kind", j.Kind))
	if err == nil && j.Name != "" {
		err = checkName("name", j.Name)
	}
	switch {
	case err != nil:
		return err
	case j.ID != "" && !contract.ValidID(j.ID):
		return errors.New("the id is not 1 to 100 of A-Z a-z 0-9 _ -, or is s, digits, _ and letters, the form of jobs without an id; write another")
	case j.Queue != "" && !contract.ValidQueue(j.Queue):
		return fmt.Errorf("%w: queue %q is not 1 to 64 of a-z 0-9 _", ErrSubject, j.Queue)
	}
	return nil
}

// publish publishes once.
func (c *Client) publish(ctx context.Context, msg *nats.Msg) (Receipt, error) {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	ack, err := c.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(5)) // a stream without a leader looks missing for a moment
	switch {
	case err == nil:
		return Receipt{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return Receipt{}, fmt.Errorf("%w: the database or the kind is unknown there", ErrNoStream)
	case errors.Is(err, nats.ErrMaxPayload):
		return Receipt{}, errors.Join(ErrTooLarge, err)
	}
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok {
		return Receipt{}, &APIError{Code: refused.Code, ErrCode: refused.ErrorCode, Description: refused.Description}
	}
	return Receipt{}, err
}

func checkName(what, name string) error {
	if !contract.ValidName(name) {
		return fmt.Errorf("%w: %s %q is not 1 to 64 of A-Z a-z 0-9 _ -", ErrSubject, what, name)
	}
	return nil
}

// checkID refuses what could not be part of a result's subject.
func checkID(id string) error {
	if !contract.ValidResultID(id) {
		return fmt.Errorf("%w: id is not 1 to 120 of A-Z a-z 0-9 _ -", ErrSubject)
	}
	return nil
}

// orAny returns the wildcard for an empty token.
func orAny(token string) string {
	if token == "" {
		return "*"
	}
	return token
}

// cloned returns headers that may be added to.
func cloned(headers nats.Header) nats.Header {
	out := nats.Header{}
	maps.Copy(out, headers)
	return out
}
