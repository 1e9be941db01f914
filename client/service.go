package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"dbrunner/contract"
)

// ErrNoService is returned if no runner answers a request.
var ErrNoService = errors.New("no runner answers")

// ServiceError is an answer of the runners' service that is an error.
type ServiceError struct {
	Status  int    // as of HTTP
	Message string // safe to show
	Body    []byte // as it was answered
	contract.Refusal
}

// Error returns the message and the status.
func (e *ServiceError) Error() string { return e.Message + " (" + strconv.Itoa(e.Status) + ")" }

// Ask sends a request to the runners' service and returns the body of the answer. path follows "<namespace>.api.". The error
// is ErrNoService, a *ServiceError, or the connection's.
func (c *Client) Ask(ctx context.Context, path string, headers nats.Header, body []byte) ([]byte, error) {
	m, err := c.nc.RequestMsgWithContext(ctx, &nats.Msg{Subject: c.subjects.API(path), Header: headers, Data: body})
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, fmt.Errorf("%w %s", ErrNoService, c.subjects.API(path))
	case err != nil:
		return nil, fmt.Errorf("ask %s: %w", c.subjects.API(path), err)
	}
	if failed := readServiceError(m); failed != nil {
		return nil, failed
	}
	return m.Data, nil
}

// readServiceError returns the error that an answer is; nil: it is none.
func readServiceError(m *nats.Msg) *ServiceError {
	code := m.Header.Get(micro.ErrorCodeHeader)
	if code == "" {
		return nil
	}
	failed := &ServiceError{Message: m.Header.Get(micro.ErrorHeader), Body: m.Data}
	failed.Status, _ = strconv.Atoi(code)       // 0 if it is no number
	_ = json.Unmarshal(m.Data, &failed.Refusal) // the headers say it too
	return failed
}

// ErrQueued is returned by Run for a job of a queue: runners publish to none, so that it would not wait for its turn there.
var ErrQueued = errors.New("a job of a queue is published with Submit")

// Run has a runner publish a job, which is of no queue, and returns its result, waiting for at most wait; 0: the runner's default.
// It needs api.run on the runners. After a timeout the job continues: Await its result, or send the same job again.
func (c *Client) Run(ctx context.Context, job *Job, wait time.Duration) (*Result, error) {
	if err := job.check(); err != nil {
		return nil, err
	}
	if job.Queue != "" {
		return nil, fmt.Errorf("run a job of queue %s: %w", job.Queue, ErrQueued)
	}
	headers := cloned(job.Headers)
	if wait > 0 {
		headers.Set(contract.HeaderWait, wait.String())
	}
	if job.ID != "" {
		headers.Set(contract.HeaderMessageID, job.ID)
	}
	path := "run." + job.Database + "." + job.Kind
	if job.Name != "" {
		path += "." + job.Name
	}
	body, err := c.Ask(ctx, path, headers, job.Body)
	if err != nil {
		return nil, err
	}
	return readResult(body)
}

// CancelOptions configure a cancel request.
type CancelOptions struct {
	By   string        // who cancels, for the record; at most 256 bytes
	Wait time.Duration // how long to wait for the job's result; 0: the runner's default
}

// Cancel requests that a job is cancelled, whether it is queued or running.
func (c *Client) Cancel(ctx context.Context, database, id string, opts CancelOptions) (*contract.CancelAnswer, error) {
	if err := errors.Join(checkName("database", database), checkID(id)); err != nil {
		return nil, err
	}
	headers := nats.Header{}
	if opts.By != "" {
		headers.Set(contract.HeaderRequestedBy, opts.By)
	}
	if opts.Wait > 0 {
		headers.Set(contract.HeaderWait, opts.Wait.String())
	}
	answer := &contract.CancelAnswer{}
	return answer, c.ask(ctx, "cancel."+database+"."+id, headers, answer)
}

// Health has a runner check a database now.
func (c *Client) Health(ctx context.Context, database string) (*contract.HealthAnswer, error) {
	if err := checkName("database", database); err != nil {
		return nil, err
	}
	answer := &contract.HealthAnswer{}
	return answer, c.ask(ctx, "health."+database, nil, answer)
}

// RecordedResult returns a job's stored result from the leader of its stream; without one, what its database's ledger has, which
// is there as long as the id is in use, with Duplicate. Without either it is ErrNoResult. Permission for results does not
// suffice: it needs that for the request, and a runner.
func (c *Client) RecordedResult(ctx context.Context, database, id string) (*Result, error) {
	if err := errors.Join(checkName("database", database), checkID(id)); err != nil {
		return nil, err
	}
	body, err := c.Ask(ctx, "result."+database+"."+id, nil, nil)
	if refused, ok := errors.AsType[*ServiceError](err); ok && refused.Refusal.Error.Code == codeNoResultYet {
		return nil, ErrNoResult
	}
	if err != nil {
		return nil, err
	}
	return readResult(body)
}

// codeNoResultYet is the service's code for a job without a result.
const codeNoResultYet = "no_result_yet"

func (c *Client) ask(ctx context.Context, path string, headers nats.Header, answer any) error {
	body, err := c.Ask(ctx, path, headers, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, answer); err != nil {
		return fmt.Errorf("read the answer to %s: %w", c.subjects.API(path), err)
	}
	return nil
}
