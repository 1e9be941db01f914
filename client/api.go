package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// ErrDenied is returned if the server's permissions do not let the connection publish what a call needs.
	ErrDenied = errors.New("denied by NATS permissions")
	// ErrNoJetStream is returned if requests to the JetStream API get no answer.
	ErrNoJetStream = errors.New("JetStream is not enabled for this account, or the domain is wrong")
	// ErrSubject is returned for a name or an id that cannot be part of a subject.
	ErrSubject = errors.New("subject not allowed")
)

// APIError is an error that the JetStream API answered.
type APIError struct {
	Code        int                 `json:"code"` // as of HTTP
	ErrCode     jetstream.ErrorCode `json:"err_code"`
	Description string              `json:"description"`
}

// Error returns the description and JetStream's own code.
func (e *APIError) Error() string { return fmt.Sprintf("JetStream: %s (%d)", e.Description, e.ErrCode) }

const (
	apiTimeout       = 5 * time.Second  // of one request
	noJetStreamAfter = 10 * time.Second // that long a missing answer may be a short disturbance of the server

	// Codes of the JetStream API that its library does not name.
	codeNoMetaLeader     = 10008
	codeNotLeader        = 10009
	codeNoMessage        = 10037
	codeSequenceNotFound = 10043
	codeStorageExceeded  = 10047
	codeMemoryExceeded   = 10028
	codeDeleteFailed     = 10057
	codeStoreFailed      = 10077 // of a full stream, too
	codeOffline          = 10118
	codeNotReady         = 10163
	codeTooManyRequests  = 10167
)

// request sends a request to the JetStream API and decodes the answer, again while there is no leader or no link, until ctx
// ends. An answered error is an *APIError.
func (c *Client) request(ctx context.Context, call string, request, response any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode %s: %w", call, err)
	}
	start := time.Now()
	for attempt := 0; ; attempt++ {
		err := c.requestOnce(ctx, call, body, response)
		switch {
		case err == nil || !transient(err) || ctx.Err() != nil:
			return err
		case errors.Is(err, nats.ErrNoResponders) && time.Since(start) > noJetStreamAfter:
			return fmt.Errorf("%w: %w", ErrNoJetStream, err)
		case !pause(ctx, attempt, 20*time.Millisecond):
			return err
		}
	}
}

func (c *Client) requestOnce(ctx context.Context, call string, body []byte, response any) error {
	ctx, cancel := context.WithTimeout(ctx, apiTimeout)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.api+call, body)
	if err != nil && c.denied(c.api+call) {
		err = ErrDenied
	}
	if err != nil {
		return fmt.Errorf("JetStream request %s: %w", call, err)
	}
	var failed struct {
		Error *APIError `json:"error"`
	}
	if err := json.Unmarshal(msg.Data, &failed); err != nil {
		return fmt.Errorf("JetStream answer to %s: %w", call, err)
	}
	if failed.Error != nil {
		return fmt.Errorf("%s: %w", call, failed.Error)
	}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		return fmt.Errorf("JetStream answer to %s: %w", call, err)
	}
	return nil
}

// getRequest asks for one message of a stream: by sequence, the last of a subject, or the next of a subject from a sequence on.
type getRequest struct {
	Sequence uint64 `json:"seq,omitempty"`
	LastFor  string `json:"last_by_subj,omitempty"`
	NextFor  string `json:"next_by_subj,omitempty"`
}

// storedMessage is a message of a stream.
type storedMessage struct {
	Subject  string    `json:"subject"`
	Sequence uint64    `json:"seq"`
	Time     time.Time `json:"time"`
	Headers  []byte    `json:"hdrs"`
	Data     []byte    `json:"data"`
}

// message reads a message from the stream's leader, nil if there is none.
func (c *Client) message(ctx context.Context, stream string, request getRequest) (*storedMessage, error) {
	var answer struct {
		Message *storedMessage `json:"message"`
	}
	err := c.request(ctx, "STREAM.MSG.GET."+stream, request, &answer)
	switch {
	case hasCode(err, codeNoMessage):
		return nil, nil
	case hasCode(err, jetstream.JSErrCodeStreamNotFound):
		return nil, fmt.Errorf("the stream %s is missing; check the namespace: %w", stream, err)
	}
	return answer.Message, err
}

// messages reads the messages with a subject, which may have wildcards, in their order from the stream's leader. It ends
// with the first error.
func (c *Client) messages(ctx context.Context, stream, subject string) iter.Seq2[*storedMessage, error] {
	return func(yield func(*storedMessage, error) bool) {
		for sequence := uint64(1); ; {
			m, err := c.message(ctx, stream, getRequest{Sequence: sequence, NextFor: subject})
			if m == nil && err == nil || !yield(m, err) || err != nil {
				return
			}
			sequence = m.Sequence + 1
		}
	}
}

func hasCode(err error, codes ...jetstream.ErrorCode) bool {
	e, ok := errors.AsType[*APIError](err)
	return ok && slices.Contains(codes, e.ErrCode)
}

// transientCodes say only that there is no leader at the moment, so that nothing was done.
func transientCodes() []jetstream.ErrorCode {
	return []jetstream.ErrorCode{codeNoMetaLeader, codeNotLeader, codeOffline, codeNotReady, codeTooManyRequests}
}

// transient reports whether a request got no answer, or one that says only that there is no leader at the moment.
func transient(err error) bool {
	return hasCode(err, transientCodes()...) ||
		errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// denied reports whether the server's last error is that the connection may not publish to a subject.
func (c *Client) denied(subject string) bool {
	err := c.nc.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}

// pause waits before another attempt, each time longer, at most a second; it reports whether ctx still lives.
func pause(ctx context.Context, attempt int, first time.Duration) bool {
	d := min(first<<min(attempt, 10), time.Second)
	select {
	case <-time.After(d/2 + rand.N(d/2+1)):
		return true
	case <-ctx.Done():
		return false
	}
}
