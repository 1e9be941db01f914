package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/zap"
)

// APITimeout bounds one request to the JetStream API; what may wait longer asks again.
const APITimeout = 5 * time.Second

// apiResponse is the part that all answers of the JetStream API have in common.
type apiResponse struct {
	Error *APIError `json:"error,omitempty"`
}

// API sends one request to the JetStream API and decodes the answer. An answered error is an *APIError.
func (c *Conn) API(ctx context.Context, call string, request, response any) error {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return fmt.Errorf("encode %s: %w", call, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, APITimeout)
	defer cancel()
	msg, err := c.nc.RequestWithContext(ctx, c.apiPrefix+call, body)
	if err != nil && c.Refused(c.apiPrefix+call) {
		return fmt.Errorf("JetStream request %s: %w", call, ErrDenied)
	}
	if err != nil {
		return fmt.Errorf("JetStream request %s: %w", call, err)
	}
	var common apiResponse
	if err := json.Unmarshal(msg.Data, &common); err != nil {
		return fmt.Errorf("JetStream answer to %s: %w", call, err)
	}
	if common.Error != nil {
		return fmt.Errorf("%s: %w", call, common.Error)
	}
	if response == nil {
		return nil
	}
	if err := json.Unmarshal(msg.Data, response); err != nil {
		return fmt.Errorf("JetStream answer to %s: %w", call, err)
	}
	return nil
}

// noJetStreamAfter is how long a missing answer may be a short disturbance of the server.
const noJetStreamAfter = 10 * time.Second

// APIRetry is api that asks again while there is no leader or the link is down, until the context ends.
func (c *Conn) APIRetry(ctx context.Context, call string, request, response any) error {
	started := time.Now()
	for attempt := 0; ; attempt++ {
		err := c.API(ctx, call, request, response)
		if err == nil || !Transient(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, nats.ErrNoResponders) && time.Since(started) > noJetStreamAfter {
			return fmt.Errorf("%w: %w", ErrNoJetStream, err)
		}
		if attempt == 8 { // after two seconds and more
			c.log.Warn("JetStream request failed; retrying", zap.String("request", call), zap.String("reason", ErrorText(err)))
		}
		if err := c.AwaitLink(ctx); err != nil {
			return err
		}
		if pauseErr := Pause(ctx, Backoff(attempt, 20*time.Millisecond, time.Second)); pauseErr != nil {
			return err
		}
	}
}

// Transient reports whether a request got no answer, or one that says only that there is no leader at the moment.
func Transient(err error) bool {
	var api *APIError
	if errors.As(err, &api) {
		switch api.ErrCode {
		case CodeNoMetaLeader, CodeNotLeader, CodeOffline, CodeNotReady, CodeTooManyRequests:
			return true
		}
		return false
	}
	return errors.Is(err, nats.ErrNoResponders) || errors.Is(err, nats.ErrTimeout) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrDisconnected) ||
		errors.Is(err, nats.ErrConnectionReconnecting) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// Backoff is the pause before a repetition: doubling from first to most, with half of it random.
func Backoff(attempt int, first, most time.Duration) time.Duration {
	d := most
	if attempt < 20 && first<<attempt < most {
		d = first << attempt
	}
	return d/2 + rand.N(d/2+1)
}

// Pause waits; it returns the context's error if that ends first.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// HasCode reports whether an error is an answer of the API with this code.
func HasCode(err error, code int) bool {
	var api *APIError
	return errors.As(err, &api) && api.ErrCode == code
}
