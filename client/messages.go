package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// MessagesRequest chooses messages of a stream.
type MessagesRequest struct {
	Stream  string
	Subject string    // may have wildcards
	From    uint64    // the first sequence; 0: the stream's first
	Since   time.Time // instead of From: the first one stored at this time or later
	To      uint64    // the last sequence; 0: the stream's last
	// MaxBytes bounds what is read, which may be more by one message; 0: no bound.
	MaxBytes int
}

// Message is a message of a stream.
type Message struct {
	Subject  string
	Sequence uint64
	Time     time.Time // when the stream stored it, by the server's clock
	Headers  nats.Header
	Data     []byte
}

// ErrStreamMissing is returned if no stream of the name answers.
var ErrStreamMissing = errors.New("the stream is missing, or does not allow direct get")

const (
	messagesBatch = 500     // messages of one request
	messagesBytes = 8 << 20 // of one request
)

// Messages calls each for every chosen message of a stream in order, until it returns an error, and returns that error. It reads
// in batches from any replica, which may lag behind by a moment, and needs permission to DIRECT.GET of the stream, without a
// subject.
func Messages(ctx context.Context, c *Client, request MessagesRequest, each func(*Message) error) error {
	q := messagesQuery{client: c, request: request, each: each, next: max(request.From, 1)}
	for {
		more, err := q.batch(ctx)
		if err != nil || !more {
			return err
		}
	}
}

// messagesQuery is a call of Messages under way.
type messagesQuery struct {
	client  *Client
	request MessagesRequest
	each    func(*Message) error
	next    uint64 // the first sequence that was not read
	started bool   // next counts, not the time
	bytes   int
}

// directRequest is the body of a direct get of multiple messages.
type directRequest struct {
	Sequence  uint64     `json:"seq,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	NextFor   string     `json:"next_by_subj"`
	Batch     int        `json:"batch"`
	MaxBytes  int        `json:"max_bytes"`
}

// batch reads one batch and reports whether there is more.
func (q *messagesQuery) batch(ctx context.Context) (more bool, err error) {
	c := q.client
	ask := directRequest{Sequence: q.next, NextFor: q.request.Subject, Batch: messagesBatch, MaxBytes: messagesBytes}
	if to := q.request.To; to >= q.next && to-q.next < messagesBatch {
		ask.Batch = int(to - q.next + 1) //nolint:gosec // below messagesBatch
	}
	if !q.request.Since.IsZero() && !q.started {
		ask.Sequence, ask.StartTime = 0, &q.request.Since
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	subject, inbox := c.api+"DIRECT.GET."+q.request.Stream, c.nc.NewInbox()
	answers := make(chan *nats.Msg, messagesBatch+1) // a channel: a stored message may look like an answer without responders
	sub, err := c.nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return false, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	if err := errors.Join(c.nc.PublishRequest(subject, inbox, body), c.nc.FlushWithContext(ctx)); err != nil {
		return false, fmt.Errorf("read %s: %w", q.request.Stream, err)
	}
	if c.denied(subject) {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, deniedGrace) // an earlier request may have been denied, and this one not
		defer stop()
	}
	for {
		select {
		case m := <-answers:
			if more, last, err := q.take(m); err != nil || last {
				return more, err
			}
		case <-ctx.Done():
			err := context.Cause(ctx)
			if c.denied(subject) {
				err = ErrDenied
			}
			return false, fmt.Errorf("read %s: %w", subject, err)
		}
	}
}

// take takes over one answer; last: of the batch. What the server adds to a message's own headers comes last, and its status has no
// sequence.
func (q *messagesQuery) take(m *nats.Msg) (more, last bool, err error) {
	sequence, err := strconv.ParseUint(lastHeader(m, "Nats-Sequence"), 10, 64)
	if err != nil {
		return q.status(m)
	}
	stored, err := time.Parse(time.RFC3339Nano, lastHeader(m, "Nats-Time-Stamp"))
	if err != nil {
		return false, true, fmt.Errorf("read %s: a message without a time", q.request.Stream)
	}
	if q.done() || q.request.To > 0 && sequence > q.request.To {
		return false, true, nil
	}
	q.next, q.started, q.bytes = sequence+1, true, q.bytes+len(m.Data)
	out := &Message{Subject: lastHeader(m, "Nats-Subject"), Sequence: sequence, Time: stored, Headers: m.Header, Data: m.Data}
	if err := q.each(out); err != nil {
		return false, true, err
	}
	return false, false, nil
}

// status reads an answer that is no message.
func (q *messagesQuery) status(m *nats.Msg) (more, last bool, err error) {
	switch status := m.Header.Get("Status"); status {
	case "204": // the end of the batch
		pending, err := strconv.Atoi(m.Header.Get("Nats-Num-Pending"))
		return err == nil && pending > 0 && !q.done(), true, nil
	case "404":
		return false, true, nil
	case noResponders:
		return false, true, fmt.Errorf("read %s: %w", q.request.Stream, ErrStreamMissing)
	default:
		return false, true, fmt.Errorf("read %s: status %s %s", q.request.Stream, status, m.Header.Get("Description"))
	}
}

func lastHeader(m *nats.Msg, name string) string {
	values := m.Header[name]
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

// done reports whether nothing more is wanted.
func (q *messagesQuery) done() bool {
	return q.request.To > 0 && q.next > q.request.To || q.request.MaxBytes > 0 && q.bytes >= q.request.MaxBytes
}
