package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Manage creates the streams and consumers that are missing and refuses what differs with a *TopologyError. From
// then on a lane whose consumer disappears creates it again.
func (c *Conn) Manage(ctx context.Context, t Topology) error {
	c.setPlan(t, true)
	return c.ensure(ctx, t)
}

// Verify creates nothing: what is missing or differs is a *TopologyError.
func (c *Conn) Verify(ctx context.Context, t Topology) error {
	c.setPlan(t, false)
	differences, err := c.Diff(ctx, t)
	if err != nil {
		return fmt.Errorf("verify the topology: %w", err)
	}
	return c.refuse(differences)
}

// refuse reports differences as an error, except those that a runner works with: they are only logged.
func (c *Conn) refuse(differences []Difference) error {
	var refused []Difference
	for _, d := range differences {
		switch {
		case d.Note:
			c.log.Info("a stream or consumer is not as configured; the runner works with it", zap.String("resource", d.Resource),
				zap.String("setting", d.Setting), zap.String("have", d.Have), zap.String("want", d.Want), zap.String("remedy", d.Remedy()))
		case d.Setting == settingPause:
			c.log.Warn("a consumer is paused: its jobs wait", zap.String("resource", d.Resource), zap.String("until", d.Have),
				zap.String("remedy", d.Remedy()))
		default:
			refused = append(refused, d)
		}
	}
	if len(refused) > 0 {
		return &TopologyError{Differences: refused}
	}
	return nil
}

func (c *Conn) setPlan(t Topology, create bool) {
	c.mu.Lock()
	c.plan = &plan{topology: t, create: create}
	c.mu.Unlock()
}

func (c *Conn) currentPlan() *plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plan
}

// ensure creates what is missing and reports what differs.
func (c *Conn) ensure(ctx context.Context, t Topology) error {
	w, err := c.want(t)
	if err != nil {
		return err
	}
	var differences []Difference
	for i := range w.streams {
		d, err := c.ensureStream(ctx, &w.streams[i])
		if err != nil {
			return err
		}
		differences = append(differences, d...)
	}
	for i := range w.consumers {
		d, err := c.ensureConsumer(ctx, &w.consumers[i])
		if err != nil {
			return err
		}
		differences = append(differences, d...)
	}
	return c.refuse(differences)
}

func (c *Conn) ensureStream(ctx context.Context, want *stream) ([]Difference, error) {
	return untilThere(ctx,
		func() ([]Difference, error) { return c.diffStream(ctx, want) },
		func() error { return c.createStream(ctx, &want.config) })
}

func (c *Conn) ensureConsumer(ctx context.Context, want *consumer) ([]Difference, error) {
	return untilThere(ctx,
		func() ([]Difference, error) { return c.diffConsumer(ctx, want) },
		func() error { return c.createConsumer(ctx, want) })
}

// appearLimit is how long what was created may take to be seen.
const appearLimit = 20 * time.Second

// untilThere creates a stream or consumer that is missing and compares it once it is seen. Several runners may be at
// it, and on a cluster the server that answers may not know yet what another has made: then it is missing although its
// creation was answered, or its creation is refused, for a moment.
func untilThere(ctx context.Context, compare func() ([]Difference, error), create func() error) ([]Difference, error) {
	begun := time.Now()
	for attempt := 0; ; attempt++ {
		d, err := compare()
		if err != nil || !isMissing(d) {
			return d, err
		}
		refused := create()
		late := time.Since(begun) > appearLimit
		switch {
		case refused != nil && (late || !passing(refused)):
			return nil, refused
		case late:
			return d, nil
		}
		if attempt == 0 && refused == nil {
			continue // mostly it is there
		}
		if err := Pause(ctx, Backoff(attempt, 20*time.Millisecond, time.Second)); err != nil {
			return nil, errors.Join(err, refused)
		}
	}
}

// passing reports whether a creation may have been refused only because the server does not know the stream yet, or
// because the cluster is just coming together.
func passing(err error) bool { return hasCode(err, codeStreamNotFound) || hasCode(err, codeNoPeers) }

// createStream succeeds too when another runner was faster; the comparison afterwards finds differences.
func (c *Conn) createStream(ctx context.Context, want *jetstream.StreamConfig) error {
	err := c.putStream(ctx, "STREAM.CREATE.", want)
	if err != nil && !hasCode(err, codeStreamNameInUse) {
		return fmt.Errorf("create stream %s: %w", want.Name, explainLimit(err))
	}
	c.log.Info("stream created", zap.String("stream", want.Name))
	return nil
}

// putStream creates or updates a stream. Where the server's own limit of the window for message ids is lower than wanted,
// the stream gets that limit.
func (c *Conn) putStream(ctx context.Context, call string, want *jetstream.StreamConfig) error {
	err := c.RequestRetry(ctx, call+want.Name, want, nil)
	bound, limited := duplicatesLimit(err)
	if !limited || bound >= want.Duplicates {
		return err
	}
	c.log.Warn("the server limits how long message ids are remembered", zap.String("stream", want.Name),
		zap.Duration("wanted", want.Duplicates), zap.Duration("limit", bound))
	lower := *want
	lower.Duplicates = bound
	return c.RequestRetry(ctx, call+want.Name, &lower, nil)
}

// duplicatesLimit reads the server's limit out of its refusal: it says it nowhere else.
func duplicatesLimit(err error) (time.Duration, bool) {
	var api *APIError
	if !errors.As(err, &api) || api.ErrCode != codeInvalidConfig {
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

func (c *Conn) createConsumer(ctx context.Context, want *consumer) error {
	err := c.putConsumer(ctx, want, "create")
	if err != nil && !hasCode(err, codeConsumerExists) {
		return fmt.Errorf("create %s: %w", consumerResource(want), explainLimit(err))
	}
	c.log.Info("consumer created", zap.String("stream", want.stream), zap.String("consumer", want.config.Name))
	return nil
}

// putConsumer creates or updates a consumer. Where a limit of the server or the account for unacknowledged messages is
// lower than wanted, the consumer gets that limit.
func (c *Conn) putConsumer(ctx context.Context, want *consumer, action string) error {
	request := consumerRequest{Stream: want.stream, Config: want.config, Action: action}
	call := "CONSUMER.CREATE." + want.stream + "." + want.config.Name
	err := c.RequestRetry(ctx, call, request, nil)
	bound, limited := pendingLimit(err)
	if !limited || bound >= want.config.MaxAckPending {
		return err
	}
	c.log.Warn("the server limits how many jobs the fleet may hold at once", zap.String("consumer", want.stream+"/"+want.config.Name),
		zap.Int("wanted", want.config.MaxAckPending), zap.Int("limit", bound))
	request.Config.MaxAckPending = bound
	return c.RequestRetry(ctx, call, request, nil)
}

// pendingLimit reads the limit out of the server's refusal: it says that of the server nowhere else.
func pendingLimit(err error) (int, bool) {
	var api *APIError
	if !errors.As(err, &api) || api.ErrCode != codeTooManyPending {
		return 0, false
	}
	_, text, found := strings.Cut(api.Description, "limit of ")
	bound, err := strconv.Atoi(strings.TrimSpace(text))
	return bound, found && err == nil && bound > 0
}

// explainLimit adds to a refusal by a limit what to do about it.
func explainLimit(err error) error {
	var api *APIError
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
	codeMaximumStreams:   "raise the account's limit of streams",
	codeMaximumConsumers: "raise the account's limit of consumers: each database's stream of jobs needs three",
	codeStorageExceeded:  "raise the storage limit of the account or the server, or lower max_bytes under topology",
	codeMaxBytesExceeded: "raise the account's limit of bytes per stream, or lower max_bytes under topology",
	codeNoPeers:          "start as many servers as topology.replicas says, with room for the streams, or lower it",
	codeNoReplicas:       "write topology.replicas: 1, or run the servers as a cluster",
	codeNoLimits:         "the account has no JetStream limits for this number of replicas: add them, or change topology.replicas",
}

func hasCode(err error, code int) bool {
	var api *APIError
	return errors.As(err, &api) && api.ErrCode == code
}

// Change is one step of Apply or Prune.
type Change struct {
	Resource string
	What     string // what was done, or what has to be done by hand
	Done     bool
}

// Apply makes streams and consumers as the topology says, as far as the server can change them. What it cannot
// is listed with Done false and how to go on. A kind that leaves the topology while its jobs wait stays.
func (c *Conn) Apply(ctx context.Context, t Topology) ([]Change, error) {
	return c.apply(ctx, t, false)
}

// PlanApply returns what Apply would do, as far as it can be known before, and does nothing.
func (c *Conn) PlanApply(ctx context.Context, t Topology) ([]Change, error) {
	return c.apply(ctx, t, true)
}

func (c *Conn) apply(ctx context.Context, t Topology, plan bool) ([]Change, error) {
	w, err := c.want(t)
	if err != nil {
		return nil, err
	}
	var changes []Change
	missing := make(map[string]bool)
	for i := range w.streams {
		change, err := c.applyStream(ctx, &w.streams[i], plan)
		if err != nil {
			return changes, err
		}
		missing[w.streams[i].config.Name] = plan && len(change) == 1 && change[0].What == wouldCreate
		changes = append(changes, change...)
	}
	more, err := c.applyConsumers(w.consumers, func(o *consumer) ([]Change, error) {
		if missing[o.stream] {
			return []Change{{Resource: consumerResource(o), What: wouldCreate, Done: true}}, nil
		}
		return c.applyConsumer(ctx, o, plan)
	})
	return append(changes, more...), err
}

const wouldCreate = "would be created"

func (c *Conn) applyStream(ctx context.Context, want *stream, plan bool) ([]Change, error) {
	d, err := c.diffStream(ctx, want)
	if err != nil || len(d) == 0 {
		return nil, err
	}
	resource := streamResource(want.config.Name)
	if isMissing(d) {
		return created(resource, plan, func() error {
			_, err := c.ensureStream(ctx, want)
			return err
		})
	}
	info, err := c.streamInfo(ctx, want.config.Name)
	if err != nil {
		return nil, err
	}
	if waiting, err := c.waitingOnDropped(ctx, info.Config.Subjects, &want.config); err != nil || waiting != "" {
		return []Change{{Resource: resource, What: waiting}}, err
	}
	update := want.updateOf(&info.Config)
	switch {
	case update == nil:
		return nil, nil
	case plan:
		return []Change{{Resource: resource, What: "would be " + changed(d), Done: true}}, nil
	}
	err = c.putStream(ctx, "STREAM.UPDATE.", update)
	return c.applied(resource, d, err, func() ([]Difference, error) { return c.diffStream(ctx, want) })
}

// created creates what is missing, or says that it would be.
func created(resource string, plan bool, create func() error) ([]Change, error) {
	if plan {
		return []Change{{Resource: resource, What: wouldCreate, Done: true}}, nil
	}
	if err := create(); err != nil {
		return nil, err
	}
	return []Change{{Resource: resource, What: "created", Done: true}}, nil
}

// updateOf is the wanted stream with what is the operator's or the server's as it is; nil if nothing else differs.
func (s *stream) updateOf(have *jetstream.StreamConfig) *jetstream.StreamConfig {
	update := s.config
	update.Placement, update.FirstSeq, update.Compression = have.Placement, have.FirstSeq, have.Compression
	update.Metadata = maps.Clone(have.Metadata)
	if update.Metadata == nil {
		update.Metadata = make(map[string]string, len(s.config.Metadata))
	}
	maps.Copy(update.Metadata, s.config.Metadata)
	if s.followsServer {
		update.MaxMsgSize = have.MaxMsgSize
	}
	if len(s.compare(&jetstream.StreamInfo{Config: *have})) == len(s.compare(&jetstream.StreamInfo{Config: update})) {
		return nil
	}
	return &update
}

// applied turns the server's answer to an update into a step: what has changed. That the server cannot change a setting
// is no error of ours: it is told.
func (c *Conn) applied(resource string, before []Difference, err error, look func() ([]Difference, error)) ([]Change, error) {
	var refused *APIError
	switch {
	case errors.As(err, &refused):
		remedy := "empty it, delete it (nats stream rm or nats consumer rm)"
		if refused.ErrCode == codeNoPeers {
			remedy = "start as many servers as there shall be replicas, or wait until they have found each other,"
		}
		return []Change{{Resource: resource, What: fmt.Sprintf("not %s: the server cannot (%s); %s and run runner topology apply again",
			changed(before), refused.Description, remedy)}}, nil
	case err != nil:
		return nil, fmt.Errorf("update %s: %w", resource, err)
	}
	after, err := look()
	if err != nil {
		return nil, err
	}
	done := slices.DeleteFunc(slices.Clone(before), func(d Difference) bool { return slices.Contains(after, d) })
	if len(done) == 0 {
		return nil, nil // the server's own limits do not allow more
	}
	return []Change{{Resource: resource, What: changed(done), Done: true}}, nil
}

func changed(d []Difference) string {
	var texts []string
	for _, one := range d {
		texts = append(texts, fmt.Sprintf("%s from %s to %s", one.Setting, one.Have, one.Want))
	}
	return "changed " + strings.Join(texts, ", ")
}

// waitingOnDropped names a subject that would leave the stream although messages wait on it: no consumer would
// ever deliver them.
func (c *Conn) waitingOnDropped(ctx context.Context, have []string, want *jetstream.StreamConfig) (string, error) {
	for _, subject := range have {
		if slices.Contains(want.Subjects, subject) || want.Retention != jetstream.WorkQueuePolicy {
			continue
		}
		counts, err := c.subjectCounts(ctx, want.Name, subject)
		if err != nil {
			return "", err
		}
		for s, n := range counts {
			return fmt.Sprintf("not changed: %d messages wait on %s, which the configuration no longer has; "+
				"put the kind back until they are done, or purge them (nats stream purge --subject)", n, s), nil
		}
	}
	return "", nil
}

// waitingOnMoved names a subject that would come to or leave the lane although messages wait on it: the lane that
// gets it may be past them already and would never deliver them; with replicas the server even removes them.
func (c *Conn) waitingOnMoved(ctx context.Context, want *consumer) (string, error) {
	info, err := c.consumerInfo(ctx, want.stream, want.config.Name)
	if err != nil {
		return "", err
	}
	have, wanted := filters(&info.Config), want.config.FilterSubjects
	for _, subject := range append(slices.Clone(have), wanted...) {
		if slices.Contains(have, subject) && slices.Contains(wanted, subject) {
			continue
		}
		counts, err := c.subjectCounts(ctx, want.stream, subject)
		if err != nil {
			return "", err
		}
		if n := counts[subject]; n > 0 {
			return fmt.Sprintf("not changed: %d messages wait on %s, which would change its lane; let the runners "+
				"finish them first", n, subject), nil
		}
	}
	return "", nil
}

// subjectCounts is the number of messages on each subject that matches the filter.
func (c *Conn) subjectCounts(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	var info jetstream.StreamInfo
	request := map[string]string{"subjects_filter": filter}
	if err := c.RequestRetry(ctx, "STREAM.INFO."+stream, request, &info); err != nil {
		return nil, err
	}
	return info.State.Subjects, nil
}

// applyConsumers updates in rounds: a kind can only move to another lane once its old lane has let it go.
func (c *Conn) applyConsumers(want []consumer, apply func(*consumer) ([]Change, error)) ([]Change, error) {
	var changes []Change
	for len(want) > 0 {
		var blocked []consumer
		for i := range want {
			change, err := apply(&want[i])
			if hasCode(err, codeConsumerNotUnique) {
				blocked = append(blocked, want[i])
				continue
			}
			if err != nil {
				return changes, err
			}
			changes = append(changes, change...)
		}
		if len(blocked) == len(want) {
			return append(changes, swapped(blocked)...), nil
		}
		want = blocked
	}
	return changes, nil
}

func swapped(blocked []consumer) []Change {
	var out []Change
	for i := range blocked {
		out = append(out, Change{Resource: consumerResource(&blocked[i]), What: "not changed: its kinds still belong to " +
			"another lane; delete one of them (nats consumer rm) and run runner topology apply again"})
	}
	return out
}

// applyConsumer returns the server's refusal for overlapping filters as an error, everything else as a step.
func (c *Conn) applyConsumer(ctx context.Context, want *consumer, plan bool) ([]Change, error) {
	d, err := c.diffConsumer(ctx, want)
	if err != nil || len(d) == 0 {
		return nil, err
	}
	resource := consumerResource(want)
	if isMissing(d) {
		return created(resource, plan, func() error {
			_, err := c.ensureConsumer(ctx, want)
			return err
		})
	}
	if paused := slices.IndexFunc(d, func(d Difference) bool { return d.Setting == settingPause }); paused >= 0 {
		left := Change{Resource: resource, What: "left paused until " + d[paused].Have + ": " + d[paused].Remedy(), Done: true}
		if len(d) == 1 {
			return []Change{left}, nil
		}
		d = slices.Delete(d, paused, paused+1)
	}
	if waiting, err := c.waitingOnMoved(ctx, want); err != nil || waiting != "" {
		return []Change{{Resource: resource, What: waiting}}, err
	}
	if plan {
		return []Change{{Resource: resource, What: "would be " + changed(d), Done: true}}, nil
	}
	err = c.updateConsumer(ctx, want)
	if hasCode(err, codeConsumerNotUnique) {
		return nil, err
	}
	return c.applied(resource, d, err, func() ([]Difference, error) { return c.diffConsumer(ctx, want) })
}

// updateConsumer leaves a pause as it is.
func (c *Conn) updateConsumer(ctx context.Context, want *consumer) error {
	info, err := c.consumerInfo(ctx, want.stream, want.config.Name)
	if err != nil {
		return err
	}
	update := *want
	update.config.PauseUntil = info.Config.PauseUntil
	return c.putConsumer(ctx, &update, "update")
}
