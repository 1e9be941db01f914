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

// ApplyOptions are how Apply works.
type ApplyOptions struct {
	Plan   bool // it returns what it would do, as far as that can be known before, and does nothing
	Remove bool // the subjects of features that the topology does not name leave their streams, also while their jobs wait
}

// Apply makes streams and consumers as the topology says, as far as the server can change them. What it cannot
// is listed with Done false and how to go on. A kind that leaves the topology while its jobs wait stays, and so do the
// features of other configurations.
//
// Consumers that are missing come first, then the streams' subjects: a job that the stream takes has a consumer.
func Apply(ctx context.Context, c *bus.Conn, t Topology, opts ApplyOptions) ([]Change, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	var changes []Change
	missing := make(map[string]bool)
	for i := range w.streams {
		s := &w.streams[i]
		change, err := recreates(ctx, c, &w, s)
		if err == nil && len(change) > 0 {
			changes, missing[s.config.Name] = append(changes, change...), true
			continue
		}
		if err != nil {
			return changes, err
		}
		change, err = createConsumersOf(ctx, c, &w, s, opts.Plan)
		changes = append(changes, change...)
		if err == nil {
			change, err = applyStream(ctx, c, s, opts)
		}
		if err != nil {
			return changes, err
		}
		missing[s.config.Name] = opts.Plan && len(change) == 1 && change[0].What == wouldCreate
		changes = append(changes, change...)
	}
	more, err := applyConsumers(w.consumers, func(o *consumer) ([]Change, error) {
		switch {
		case missing[o.stream]:
			return []Change{{Resource: consumerResource(o), What: wouldCreate, Done: true}}, nil
		case opts.Plan && slices.Contains(changes, Change{Resource: consumerResource(o), What: wouldCreate, Done: true}):
			return nil, nil
		}
		return applyConsumer(ctx, c, o, opts.Plan)
	})
	return append(changes, more...), err
}

// createConsumersOf creates the consumers that a stream lacks, before it gets their subjects. One whose filters another
// consumer has still is left for later.
func createConsumersOf(ctx context.Context, c *bus.Conn, w *wanted, s *stream, plan bool) ([]Change, error) {
	d, err := diffStream(ctx, c, s)
	if err != nil || isMissing(d) {
		return nil, err
	}
	var changes []Change
	for i := range w.consumers {
		o := &w.consumers[i]
		if o.stream != s.config.Name {
			continue
		}
		if d, err := diffConsumer(ctx, c, o); err != nil || !isMissing(d) {
			if err != nil {
				return changes, err
			}
			continue
		}
		change, err := applyConsumer(ctx, c, o, plan)
		if err != nil && !bus.HasCode(err, bus.CodeConsumerNotUnique) {
			return changes, err
		}
		changes = append(changes, change...)
	}
	return changes, nil
}

const wouldCreate = "would be created"

func applyStream(ctx context.Context, c *bus.Conn, wanted *stream, opts ApplyOptions) ([]Change, error) {
	want, plan := wanted, opts.Plan
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
	stay, kept := info.Config.Subjects, []string(nil)
	if opts.Remove {
		stay = want.withoutFeatures(stay)
	} else {
		if want = want.keeping(info.Config.Subjects); len(want.config.Subjects) > len(wanted.config.Subjects) {
			d = want.compare(info)
		}
		kept = without(want.config.Subjects, wanted.config.Subjects)
	}
	if waiting, err := waitingOnDropped(ctx, c, stay, &want.config); err != nil || waiting != "" {
		return []Change{{Resource: resource, What: waiting}}, err
	}
	update := want.updateOf(&info.Config)
	switch {
	case update == nil && len(kept) > 0:
		return []Change{{Resource: resource, What: "kept " + strings.Join(kept, ", ") + ", which the configuration does not name (--remove " +
			"takes them out, so that publishing there is refused; runners finish the jobs that wait)", Done: true}}, nil
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

// keeping is the wanted stream with the features of other configurations that it has.
func (s *stream) keeping(have []string) *stream {
	kept := *s
	others := without(have, s.config.Subjects)
	kept.config.Subjects = append(slices.Clone(s.config.Subjects), without(others, s.withoutFeatures(others))...)
	slices.Sort(kept.config.Subjects)
	return &kept
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
	reorders := info.Config.Metadata[bus.MetaOrdered] != want.config.Metadata[bus.MetaOrdered]
	for _, subject := range append(slices.Clone(have), wanted...) {
		if slices.Contains(have, subject) && slices.Contains(wanted, subject) && !reorders {
			continue
		}
		counts, err := subjectCounts(ctx, c, want.stream, subject)
		if err != nil {
			return "", err
		}
		n := uint64(0)
		for _, count := range counts { // of each literal subject
			n += count
		}
		switch {
		case n > 0 && reorders:
			return fmt.Sprintf("not changed: %d messages are in the queue, whose order may change only while it is empty; stop publishing "+
				"to it and let runners with the configuration of before finish it", n), nil
		case n > 0:
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
