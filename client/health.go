package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dbrunner/contract"
)

// heartbeatsMissed is how many heartbeats in a row a runner may miss before it counts as gone.
const heartbeatsMissed = 3

// DatabaseHeartbeats returns what each runner of a database reported last, of the runners that have not stopped and whose last
// heartbeat is not too old, by the server's clock. Without a database it returns those of all databases. It needs
// permission to STREAM.INFO and STREAM.MSG.GET of the stream of heartbeats.
func (c *Client) DatabaseHeartbeats(ctx context.Context, database string) ([]contract.DatabaseHeartbeat, error) {
	stream := c.subjects.HealthStream()
	var info struct {
		Now time.Time `json:"ts"`
	}
	if err := c.request(ctx, "STREAM.INFO."+stream, struct{}{}, &info); err != nil {
		return nil, fmt.Errorf("read the heartbeats: %w", err)
	}
	var out []contract.DatabaseHeartbeat
	for m, err := range c.messages(ctx, stream, c.subjects.DatabaseHealth(orAny(database), "*")) {
		if err != nil {
			return nil, fmt.Errorf("read the heartbeats: %w", err)
		}
		var heartbeat contract.DatabaseHeartbeat
		if json.Unmarshal(m.Data, &heartbeat) != nil {
			continue
		}
		out = slices.DeleteFunc(out, func(h contract.DatabaseHeartbeat) bool { // its runner has sent another one meanwhile
			return h.Database == heartbeat.Database && h.Instance == heartbeat.Instance
		})
		if heartbeat.RunnerState == contract.RunnerStopped {
			continue
		}
		interval := time.Duration(heartbeat.Interval * float64(time.Second))
		if info.Now.Sub(m.Time) <= heartbeatsMissed*interval {
			out = append(out, heartbeat)
		}
	}
	return out, nil
}

// NotHealthyError is returned if a database is not healthy in time.
type NotHealthyError struct {
	Database string
	Reasons  []string // why; of a paused database, by whom
	Err      error    // why there is no health check, if there is none
}

// Error returns the reasons.
func (e *NotHealthyError) Error() string {
	text := strings.Join(e.Reasons, "; ")
	if e.Err != nil {
		text = e.Err.Error()
	}
	return "database " + e.Database + " is not healthy: " + text
}

// Unwrap returns why there is no health check.
func (e *NotHealthyError) Unwrap() error { return e.Err }

// The pauses between two health checks of AwaitHealthy.
const healthyPause = 500 * time.Millisecond

// AwaitHealthy has runners check a database until it is healthy or degraded, and returns that check. It waits while the
// database is paused, and while no runner answers. changed gets each check or error that differs from the one before, unless it
// is nil. When ctx ends, the error is a *NotHealthyError with the last reasons; what no waiting changes, such as an unknown
// database, is a *ServiceError.
func (c *Client) AwaitHealthy(ctx context.Context, database string, changed func(*contract.HealthAnswer, error)) (*contract.HealthAnswer, error) {
	last := &NotHealthyError{Database: database, Err: errors.New("no answer in time")}
	for before, attempt := "", 0; ; attempt++ {
		bounded, cancel := context.WithTimeout(ctx, 2*apiTimeout)
		found, err := c.Health(bounded, database)
		cancel()
		if err == nil && found.Health == nil {
			err = errors.New("the answer has no health check")
		}
		refused, answered := errors.AsType[*ServiceError](err)
		switch {
		case errors.Is(err, ErrSubject), answered && !refused.Refusal.Error.Retryable:
			return nil, err
		case err == nil && found.Verdict != contract.Unhealthy:
			return found, nil
		case err != nil && ctx.Err() != nil: // cut off: what was found before says more
		case err != nil:
			last = &NotHealthyError{Database: database, Err: err}
		default:
			last = &NotHealthyError{Database: database, Reasons: found.Reasons}
		}
		if text := last.Error(); changed != nil && text != before && ctx.Err() == nil {
			before = text
			changed(found, err)
		}
		if !pause(ctx, attempt, healthyPause) {
			return nil, last
		}
	}
}
