package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
)

// pollInterval is how often Await reads the stored result besides listening: a result may be stored while the connection is
// down, or a replica may lag behind.
const pollInterval = 3 * time.Second

// ErrNoResult is returned if a job has no stored result, yet or any more.
var ErrNoResult = errors.New("the job has no stored result")

// UnknownDatabaseError is returned if the stream of a database's results is missing.
type UnknownDatabaseError struct{ Database, Stream string }

// Error returns the cause and the remedy.
func (e *UnknownDatabaseError) Error() string {
	return "there is no database " + e.Database + " here: the stream " + e.Stream + " is missing; check the name and the namespace"
}

// Result is a result with its encoding.
type Result struct {
	contract.Result
	Body []byte
}

func readResult(body []byte) (*Result, error) {
	r, err := contract.ReadResult(body)
	if err != nil {
		return nil, err
	}
	return &Result{*r, body}, nil
}

// infoTimeout bounds the question whether a stream exists: without permission to ask it, no answer comes.
const infoTimeout = time.Second

// Result returns the stored result of a job, ErrNoResult, or an *UnknownDatabaseError. It reads any replica, which may lag behind
// by a moment.
func (c *Client) Result(ctx context.Context, database, id string) (*Result, error) {
	body, err := c.stored(ctx, database, id)
	switch {
	case err == nil && body == nil:
		err = ErrNoResult
	case errors.Is(err, nats.ErrNoResponders): // the stream is missing, or has no leader at the moment
		stream := c.subjects.ResultsStream(database)
		err = fmt.Errorf("the stream %s does not answer; check the database and the namespace, or try again: %w", stream, err)
		ctx, cancel := context.WithTimeout(ctx, infoTimeout)
		defer cancel()
		if hasCode(c.request(ctx, "STREAM.INFO."+stream, struct{}{}, &struct{}{}), jetstream.JSErrCodeStreamNotFound) {
			err = &UnknownDatabaseError{database, stream}
		}
	}
	if err != nil {
		return nil, err
	}
	return readResult(body)
}

// LatestResult is Result from the stream's leader, which is never behind. It needs permission to STREAM.MSG.GET.
func (c *Client) LatestResult(ctx context.Context, database, id string) (*Result, error) {
	if err := errors.Join(checkName("database", database), checkID(id)); err != nil {
		return nil, err
	}
	stream := c.subjects.ResultsStream(database)
	m, err := c.message(ctx, stream, getRequest{LastFor: c.subjects.Result(database, id)})
	switch {
	case hasCode(err, jetstream.JSErrCodeStreamNotFound):
		return nil, &UnknownDatabaseError{database, stream}
	case err != nil:
		return nil, fmt.Errorf("read the stored result: %w", err)
	case m == nil:
		return nil, ErrNoResult
	}
	return readResult(m.Data)
}

// Await returns the result of a job as soon as it is stored, also if that was before the call. If ctx ends before, and the server's
// permissions do not let the connection read stored results, the error is also ErrDenied.
func (c *Client) Await(ctx context.Context, database, id string) (*Result, error) {
	if err := errors.Join(checkName("database", database), checkID(id)); err != nil {
		return nil, err
	}
	sub, err := c.nc.SubscribeSync(c.subjects.Result(database, id)) // before the first read, so that no result is missed
	if err != nil {
		return nil, fmt.Errorf("await the result of %s in %s: %w", id, database, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	var denied error
	for {
		body, err := c.stored(ctx, database, id)
		if errors.Is(err, ErrDenied) { // the subscription may bring it nevertheless
			denied = err
		}
		if transient(err) || errors.Is(err, ErrDenied) {
			err = nil
		}
		if err == nil && body == nil {
			body, err = next(ctx, sub)
		}
		switch {
		case err != nil && ctx.Err() == nil:
			return nil, fmt.Errorf("await the result of %s in %s: %w", id, database, err)
		case body != nil:
			return readResult(body)
		case ctx.Err() != nil && denied != nil:
			return nil, fmt.Errorf("await the result of %s in %s: %w; %w", id, database, context.Cause(ctx), denied)
		case ctx.Err() != nil:
			return nil, fmt.Errorf("await the result of %s in %s: %w", id, database, context.Cause(ctx))
		}
	}
}

// stored returns the stored result by a direct get, nil if there is none.
func (c *Client) stored(ctx context.Context, database, id string) ([]byte, error) {
	if err := errors.Join(checkName("database", database), checkID(id)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, pollInterval)
	defer cancel()
	subject := c.api + "DIRECT.GET." + c.subjects.ResultsStream(database) + "." + c.subjects.Result(database, id)
	msg, err := c.nc.RequestWithContext(ctx, subject, nil)
	switch {
	case err != nil && c.denied(subject):
		return nil, fmt.Errorf("publish to %s: %w", subject, ErrDenied)
	case err != nil:
		return nil, fmt.Errorf("direct get: %w", err)
	}
	switch status := msg.Header.Get("Status"); status {
	case "":
		return msg.Data, nil
	case "404":
		return nil, nil
	default:
		return nil, fmt.Errorf("direct get: status %s %s", status, msg.Header.Get("Description"))
	}
}

// next returns the subscription's next message, nil if there is none within pollInterval.
func next(ctx context.Context, sub *nats.Subscription) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, pollInterval)
	defer cancel()
	msg, err := sub.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return msg.Data, nil
}

// Watch calls each for every result of a database that is stored from now on, until ctx ends or each returns an error; it
// returns that error, or nil. What is stored while the connection is down is not seen: Await does not miss it.
func (c *Client) Watch(ctx context.Context, database string, each func(*Result) error) error {
	if err := checkName("database", database); err != nil {
		return err
	}
	sub, err := c.nc.SubscribeSync(c.subjects.Result(database, "*"))
	if err != nil {
		return fmt.Errorf("watch the results of %s: %w", database, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	for {
		msg, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("watch the results of %s: %w", database, err)
		}
		r, err := readResult(msg.Data)
		if err != nil {
			return fmt.Errorf("watch %s: %w", msg.Subject, err)
		}
		if err := each(r); err != nil {
			return err
		}
	}
}

// Errors of Rows.
var (
	// ErrNoRows is returned if the object is not there, or not any more.
	ErrNoRows = errors.New("not found")
	// ErrRowsChanged is returned if the object is not the one that the result names, or damaged.
	ErrRowsChanged = errors.New("the object's content does not match its digest")
	// ErrRowsStalled is returned if nothing of the object has come for 30 seconds.
	ErrRowsStalled = errors.New("nothing of the object has come for 30 seconds; its chunks may be gone")
)

const (
	rowsStall = 30 * time.Second       // how long nothing may come of an object: its chunks may be gone, which is not announced
	rowsLook  = 250 * time.Millisecond // how often a read that gets nothing looks whether it is still wanted
)

// Rows writes rows that are not in their result. The content is verified at the end: until Rows has returned nil, what was
// written may be damaged or incomplete. However long that takes, it goes on as long as something comes.
func (c *Client) Rows(ctx context.Context, rows *contract.RowsObject, to io.Writer) error {
	return rowsWithin(ctx, c, rows, to, rowsStall)
}

func rowsWithin(ctx context.Context, c *Client, rows *contract.RowsObject, to io.Writer, limit time.Duration) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	opening := time.AfterFunc(limit, func() { cancel(ErrRowsStalled) })
	defer opening.Stop()
	object, err := openRows(rowsContext{ctx}, c, rows) //nolint:contextcheck // it ends with the caller's
	if err == nil {
		opening.Stop()
		defer func() { _ = object.Close() }() // it was read to its end
		_, err = io.Copy(to, &rowsReader{object, limit, ctx.Err})
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrObjectNotFound), errors.Is(err, jetstream.ErrBucketNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		err = ErrNoRows
	case errors.Is(err, jetstream.ErrDigestMismatch):
		err = ErrRowsChanged
	}
	return fmt.Errorf("object %s in bucket %s: %w", rows.Name, rows.Bucket, err)
}

// openRows opens the object that a result names.
func openRows(ctx context.Context, c *Client, rows *contract.RowsObject) (jetstream.ObjectResult, error) {
	bucket, err := c.js.ObjectStore(ctx, rows.Bucket)
	if err != nil {
		return nil, err
	}
	object, err := bucket.Get(ctx, rows.Name)
	if err != nil {
		return nil, err
	}
	info, err := object.Info()
	if err == nil && info.Digest != rows.Digest {
		err = ErrRowsChanged
	}
	if err != nil {
		_ = object.Close() // nothing was read
		return nil, err
	}
	return object, nil
}

// rowsContext is a context whose deadline is always a moment ahead. The library ends a read of an object at the deadline of its context and
// not when that is cancelled, so that each read ends soon; without a deadline it bounds the whole as one request.
type rowsContext struct{ context.Context }

// Deadline returns when the next read that gets nothing ends.
func (rowsContext) Deadline() (time.Time, bool) { return time.Now().Add(rowsLook), true }

// rowsReader reads rows, however long that takes as long as something comes.
type rowsReader struct {
	object jetstream.ObjectResult
	limit  time.Duration
	ended  func() error // why nothing is to be read any more; nil: it is
}

// Read reads what has arrived.
func (r *rowsReader) Read(p []byte) (int, error) {
	for started := time.Now(); ; {
		n, err := r.object.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) || r.ended() != nil {
			return n, err
		}
		if time.Since(started) >= r.limit {
			return n, ErrRowsStalled
		}
	}
}
