package topology

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// Change is one step of Apply or Prune.
type Change struct {
	Resource string
	What     string // what was done, or what has to be done by hand
	Done     bool
}

// Apply makes streams and consumers as the topology says, as far as the server can change them. What it cannot
// is listed with Done false and how to go on. A kind that leaves the topology while its jobs wait stays.
func Apply(ctx context.Context, c *bus.Conn, t Topology) ([]Change, error) {
	return apply(ctx, c, t, false)
}

// PlanApply returns what Apply would do, as far as it can be known before, and does nothing.
func PlanApply(ctx context.Context, c *bus.Conn, t Topology) ([]Change, error) {
	return apply(ctx, c, t, true)
}

func apply(ctx context.Context, c *bus.Conn, t Topology, plan bool) ([]Change, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	var changes []Change
	missing := make(map[string]bool)
	for i := range w.streams {
		change, err := applyStream(ctx, c, &w.streams[i], plan)
		if err != nil {
			return changes, err
		}
		missing[w.streams[i].config.Name] = plan && len(change) == 1 && change[0].What == wouldCreate
		changes = append(changes, change...)
	}
	more, err := applyConsumers(w.consumers, func(o *consumer) ([]Change, error) {
		if missing[o.stream] {
			return []Change{{Resource: consumerResource(o), What: wouldCreate, Done: true}}, nil
		}
		return applyConsumer(ctx, c, o, plan)
	})
	return append(changes, more...), err
}

const wouldCreate = "would be created"

func applyStream(ctx context.Context, c *bus.Conn, want *stream, plan bool) ([]Change, error) {
	d, err := diffStream(ctx, c, want)
	if err != nil || len(d) == 0 {
		return nil, err
	}
	resource := streamResource(want.config.Name)
	if isMissing(d) {
		return created(resource, plan, func() error {
			_, err := ensureStream(ctx, c, want)
			return err
		})
	}
	info, err := bus.StreamInfo(ctx, c, want.config.Name)
	if err != nil {
		return nil, err
	}
	if waiting, err := waitingOnDropped(ctx, c, info.Config.Subjects, &want.config); err != nil || waiting != "" {
		return []Change{{Resource: resource, What: waiting}}, err
	}
	update := want.updateOf(&info.Config)
	switch {
	case update == nil:
		return nil, nil
	case plan:
		return []Change{{Resource: resource, What: "would be " + changed(d), Done: true}}, nil
	}
	err = putStream(ctx, c, "STREAM.UPDATE.", update)
	return applied(resource, d, err, func() ([]Difference, error) { return diffStream(ctx, c, want) })
}

// created creates what is missing, or reports that it would be.
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
// is no error of ours: it is reported.
func applied(resource string, before []Difference, err error, look func() ([]Difference, error)) ([]Change, error) {
	var refused *bus.APIError
	switch {
	case errors.As(err, &refused):
		remedy := "empty it, delete it (nats stream rm or nats consumer rm)"
		if refused.ErrCode == bus.CodeNoPeers {
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
func waitingOnDropped(ctx context.Context, c *bus.Conn, have []string, want *jetstream.StreamConfig) (string, error) {
	for _, subject := range have {
		if slices.Contains(want.Subjects, subject) || want.Retention != jetstream.WorkQueuePolicy {
			continue
		}
		counts, err := subjectCounts(ctx, c, want.Name, subject)
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
func waitingOnMoved(ctx context.Context, c *bus.Conn, want *consumer) (string, error) {
	info, err := bus.ConsumerInfo(ctx, c, want.stream, want.config.Name)
	if err != nil {
		return "", err
	}
	have, wanted := bus.Filters(&info.Config), want.config.FilterSubjects
	for _, subject := range append(slices.Clone(have), wanted...) {
		if slices.Contains(have, subject) && slices.Contains(wanted, subject) {
			continue
		}
		counts, err := subjectCounts(ctx, c, want.stream, subject)
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
func subjectCounts(ctx context.Context, c *bus.Conn, stream, filter string) (map[string]uint64, error) {
	var info jetstream.StreamInfo
	request := map[string]string{"subjects_filter": filter}
	if err := c.APIRetry(ctx, "STREAM.INFO."+stream, request, &info); err != nil {
		return nil, err
	}
	return info.State.Subjects, nil
}

// applyConsumers updates in rounds: a kind can only move to another lane once its old lane has let it go.
func applyConsumers(want []consumer, apply func(*consumer) ([]Change, error)) ([]Change, error) {
	var changes []Change
	for len(want) > 0 {
		var blocked []consumer
		for i := range want {
			change, err := apply(&want[i])
			if bus.HasCode(err, bus.CodeConsumerNotUnique) {
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
func applyConsumer(ctx context.Context, c *bus.Conn, want *consumer, plan bool) ([]Change, error) {
	d, err := diffConsumer(ctx, c, want)
	if err != nil || len(d) == 0 {
		return nil, err
	}
	resource := consumerResource(want)
	if isMissing(d) {
		return created(resource, plan, func() error {
			_, err := ensureConsumer(ctx, c, want)
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
	if waiting, err := waitingOnMoved(ctx, c, want); err != nil || waiting != "" {
		return []Change{{Resource: resource, What: waiting}}, err
	}
	if plan {
		return []Change{{Resource: resource, What: "would be " + changed(d), Done: true}}, nil
	}
	err = updateConsumer(ctx, c, want)
	if bus.HasCode(err, bus.CodeConsumerNotUnique) {
		return nil, err
	}
	return applied(resource, d, err, func() ([]Difference, error) { return diffConsumer(ctx, c, want) })
}

// updateConsumer leaves a pause as it is.
func updateConsumer(ctx context.Context, c *bus.Conn, want *consumer) error {
	info, err := bus.ConsumerInfo(ctx, c, want.stream, want.config.Name)
	if err != nil {
		return err
	}
	update := *want
	update.config.PauseUntil = info.Config.PauseUntil
	return putConsumer(ctx, c, &update, "update")
}
