package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

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
	if !contract.ValidName(opts.Namespace) {
		return nil, errors.New("the namespace is not 1 to 64 of A-Z a-z 0-9 _ -")
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
	Kind     string
	ID       string // also the message id, for the stream's deduplication; empty: the runner derives one
	Body     []byte // one JSON object; if it has an id, that is ID
	Headers  nats.Header
}

// Receipt proves that the stream stores a job.
type Receipt struct {
	Sequence  uint64
	Duplicate bool // the stream has a message with this id already; this one was dropped
}

// ErrNoStream is returned by Submit if no stream takes the job: the database is unknown or does not run this kind.
var ErrNoStream = errors.New("no stream takes the job: check the names of database and kind")

// Submit publishes a job and returns when its stream has stored it.
func (c *Client) Submit(ctx context.Context, job *Job) (Receipt, error) {
	switch {
	case !contract.ValidName(job.Database):
		return Receipt{}, errors.New("the database is not 1 to 64 of A-Z a-z 0-9 _ -")
	case !contract.ValidName(job.Kind):
		return Receipt{}, errors.New("the kind is not 1 to 64 of A-Z a-z 0-9 _ -")
	case job.ID != "" && !contract.ValidID(job.ID):
		return Receipt{}, errors.New("the id is not 1 to 100 of A-Z a-z 0-9 _ -, or has the form of a derived id")
	}
	msg := &nats.Msg{Subject: c.subjects.Job(job.Database, job.Kind), Header: job.Headers, Data: job.Body}
	opts := []jetstream.PublishOpt{jetstream.WithRetryAttempts(5)}
	if job.ID != "" {
		opts = append(opts, jetstream.WithMsgID(job.ID))
		msg.Header = cloned(job.Headers) // the library adds the id
	}
	ack, err := c.js.PublishMsg(ctx, msg, opts...)
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse):
		return Receipt{}, fmt.Errorf("publish to %s: %w", msg.Subject, ErrNoStream)
	case err != nil:
		return Receipt{}, fmt.Errorf("publish to %s: %w", msg.Subject, err)
	}
	return Receipt{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}

// checkID refuses what could not be part of a result's subject.
func checkID(database, id string) error {
	if !contract.ValidName(database) || !contract.ValidResultID(id) {
		return fmt.Errorf("no job can have the database %q and the id %q", database, id)
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
