package topology

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// Manage creates the streams and consumers that are missing and refuses what differs with a *Error. From
// then on a lane whose consumer disappears creates it again.
func Manage(ctx context.Context, c *bus.Conn, t Topology) error {
	c.SetRestore(func(ctx context.Context) error { return ensure(ctx, c, t, true) })
	return ensure(ctx, c, t, false)
}

// Verify creates nothing: what is missing or differs is a *Error.
func Verify(ctx context.Context, c *bus.Conn, t Topology) error {
	c.SetRestore(nil)
	differences, err := Diff(ctx, c, t)
	if err != nil {
		return fmt.Errorf("verify the topology: %w", err)
	}
	return refuse(c, differences)
}

// refuse reports differences as an error, except those that a runner works with: they are only logged.
func refuse(c *bus.Conn, differences []Difference) error {
	var refused []Difference
	for _, d := range differences {
		switch {
		case d.Note && d.Missing:
			c.Log().Warn("stream missing; the runner works without it", zap.String("resource", d.Resource), zap.String("remedy", d.Remedy()))
		case d.Note:
			c.Log().Info("stream or consumer differs from the configuration; the runner works with it", zap.String("resource", d.Resource),
				zap.String("setting", d.Setting), zap.String("have", d.Have), zap.String("want", d.Want), zap.String("remedy", d.Remedy()))
		case d.Off:
			c.Log().Warn("a feature is not as configured until streams and consumers are changed", zap.String("difference", d.String()), zap.String("remedy", d.Remedy()))
		case d.Setting == settingPause:
			c.Log().Warn("consumer paused; its jobs wait", zap.String("resource", d.Resource), zap.String("until", d.Have),
				zap.String("remedy", d.Remedy()))
		default:
			refused = append(refused, d)
		}
	}
	if len(refused) > 0 {
		return &Error{Differences: refused}
	}
	return nil
}

// ensure creates what is missing and reports what differs. again: the runner has been at work, so that what is withdrawn stays missing.
func ensure(ctx context.Context, c *bus.Conn, t Topology, again bool) error {
	w, err := wantedFrom(c, t)
	if err != nil {
		return err
	}
	var differences []Difference
	for i := range w.streams {
		d, err := ensureStream(ctx, c, &w.streams[i])
		if err != nil && w.streams[i].missingBefore && ctx.Err() == nil {
			c.Log().Warn("stream not created", zap.String("stream", w.streams[i].config.Name), zap.Error(err))
			d, err = []Difference{w.streams[i].missing()}, nil
		}
		if err != nil {
			return err
		}
		differences = append(differences, d...)
	}
	for i := range w.consumers {
		if again && withdrawn(ctx, c, &w.consumers[i]) {
			continue
		}
		d, err := ensureConsumer(ctx, c, &w.consumers[i])
		if err != nil && w.consumers[i].optional && ctx.Err() == nil {
			c.Log().Warn("consumer not created; its jobs wait, everything else runs", zap.String("resource", consumerResource(&w.consumers[i])), zap.Error(err))
			continue
		}
		if err != nil {
			return err
		}
		differences = append(differences, d...)
	}
	return refuse(c, differences)
}

// withdrawn reports whether the stream of an optional consumer takes no job for it: prune may have deleted it.
func withdrawn(ctx context.Context, c *bus.Conn, want *consumer) bool {
	var info jetstream.StreamInfo
	return want.optional && c.API(ctx, "STREAM.INFO."+want.stream, nil, &info) == nil &&
		bus.Overlapping(info.Config.Subjects, bus.Filters(&want.config)...) == ""
}

func ensureStream(ctx context.Context, c *bus.Conn, want *stream) ([]Difference, error) {
	return untilThere(ctx,
		func() ([]Difference, error) { return diffStream(ctx, c, want) },
		func() error { return createStream(ctx, c, &want.config) })
}

func ensureConsumer(ctx context.Context, c *bus.Conn, want *consumer) ([]Difference, error) {
	return untilThere(ctx,
		func() ([]Difference, error) { return diffConsumer(ctx, c, want) },
		func() error { return createConsumer(ctx, c, want) })
}

// appearLimit is how long what was created may take to be seen.
const appearLimit = 20 * time.Second

// untilThere creates a stream or consumer that is missing and compares it once it is seen. Several runners may be at
// it, and on a cluster the server that answers may not know yet what another has made: then it is missing although its
// creation was answered, or its creation is refused, for a moment.
func untilThere(ctx context.Context, compare func() ([]Difference, error), create func() error) ([]Difference, error) {
	started := time.Now()
	for attempt := 0; ; attempt++ {
		d, err := compare()
		if err != nil || !isMissing(d) {
			return d, err
		}
		refused := create()
		late := time.Since(started) > appearLimit
		switch {
		case refused != nil && (late || !passing(refused)):
			return nil, refused
		case late:
			return d, nil
		}
		if attempt == 0 && refused == nil {
			continue // mostly it is there
		}
		if err := bus.Pause(ctx, bus.Backoff(attempt, 20*time.Millisecond, time.Second)); err != nil {
			return nil, errors.Join(err, refused)
		}
	}
}

// passing reports whether a creation may have been refused only because the server does not know the stream yet, or
// because the cluster is just coming together.
func passing(err error) bool {
	return bus.HasCode(err, bus.CodeStreamNotFound) || bus.HasCode(err, bus.CodeNoPeers)
}

// createStream succeeds too when another runner was faster; the comparison afterwards finds differences.
func createStream(ctx context.Context, c *bus.Conn, want *jetstream.StreamConfig) error {
	err := putStream(ctx, c, "STREAM.CREATE.", want)
	if err != nil && !bus.HasCode(err, bus.CodeStreamNameInUse) {
		return fmt.Errorf("create stream %s: %w", want.Name, explainLimit(err))
	}
	c.Log().Info("stream created", zap.String("stream", want.Name))
	return nil
}

// putStream creates or updates a stream, with the server's own limit of the window for message ids where that is lower than wanted.
func putStream(ctx context.Context, c *bus.Conn, call string, want *jetstream.StreamConfig) error {
	err := c.APIRetry(ctx, call+want.Name, want, nil)
	bound, limited := duplicatesLimit(err)
	if !limited || bound >= want.Duplicates {
		return err
	}
	c.Log().Warn("server limits the duplicate window", zap.String("stream", want.Name),
		zap.Duration("wanted", want.Duplicates), zap.Duration("limit", bound))
	lower := *want
	lower.Duplicates = bound
	return c.APIRetry(ctx, call+want.Name, &lower, nil)
}

// duplicatesLimit reads the server's limit out of its refusal: it says it nowhere else.
func duplicatesLimit(err error) (time.Duration, bool) {
	var api *bus.APIError
	if !errors.As(err, &api) || api.ErrCode != bus.CodeInvalidConfig {
		return 0, false
	}
	_, text, found := strings.Cut(api.Description, "server limit of ")
	bound, err := time.ParseDuration(strings.TrimSpace(text))
	return bound, found && err == nil && bound > 0
}

// consumerRequest is the body of a request to create or update a consumer.
type consumerRequest struct {
	Stream string                   `json:"stream_name"`
	Config jetstream.ConsumerConfig `json:"config"`
	Action string                   `json:"action,omitempty"`
}

func createConsumer(ctx context.Context, c *bus.Conn, want *consumer) error {
	err := putConsumer(ctx, c, want, "create")
	if err != nil && !bus.HasCode(err, bus.CodeConsumerExists) {
		return fmt.Errorf("create %s: %w", consumerResource(want), explainLimit(err))
	}
	c.Log().Info("consumer created", zap.String("stream", want.stream), zap.String("consumer", want.config.Name))
	return nil
}

// putConsumer creates or updates a consumer, with the server's or account's limit of unacknowledged messages where that is lower than wanted.
func putConsumer(ctx context.Context, c *bus.Conn, want *consumer, action string) error {
	request := consumerRequest{Stream: want.stream, Config: want.config, Action: action}
	call := "CONSUMER.CREATE." + want.stream + "." + want.config.Name
	err := c.APIRetry(ctx, call, request, nil)
	bound, limited := pendingLimit(err)
	if !limited || bound >= want.config.MaxAckPending {
		return err
	}
	c.Log().Warn("server limits the jobs that may be ack pending", zap.String("consumer", want.stream+"/"+want.config.Name),
		zap.Int("wanted", want.config.MaxAckPending), zap.Int("limit", bound))
	request.Config.MaxAckPending = bound
	return c.APIRetry(ctx, call, request, nil)
}

// pendingLimit reads the limit out of the server's refusal: the server reports it nowhere else.
func pendingLimit(err error) (int, bool) {
	var api *bus.APIError
	if !errors.As(err, &api) || api.ErrCode != bus.CodeTooManyPending {
		return 0, false
	}
	_, text, found := strings.Cut(api.Description, "limit of ")
	bound, err := strconv.Atoi(strings.TrimSpace(text))
	return bound, found && err == nil && bound > 0
}

// explainLimit adds to a refusal by a limit what to do about it.
func explainLimit(err error) error {
	var api *bus.APIError
	if !errors.As(err, &api) {
		return err
	}
	if remedy, known := limitRemedies[api.ErrCode]; known {
		return fmt.Errorf("%w; %s", err, remedy)
	}
	return err
}

// limitRemedies are what to do about a limit of the account or the server that keeps a stream from being created.
var limitRemedies = map[int]string{
	bus.CodeMaximumStreams:   "raise the account's limit of streams",
	bus.CodeMaximumConsumers: "raise the account's limit of consumers: each database's stream of jobs needs three, and one for each queue",
	bus.CodeStorageExceeded:  "raise the storage limit of the account or the server, or lower max_bytes under topology",
	bus.CodeMaxBytesExceeded: "raise the account's limit of bytes per stream, or lower max_bytes under topology",
	bus.CodeNoPeers:          "start as many servers as topology.replicas says, with room for the streams, or lower it",
	bus.CodeNoReplicas:       "write topology.replicas: 1, or run the servers as a cluster",
	bus.CodeNoLimits:         "the account has no JetStream limits for this number of replicas: add them, or change topology.replicas",
}
