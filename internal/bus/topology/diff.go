package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

// Difference is one setting of a stream or consumer that is not as the configuration wants it.
type Difference struct {
	Resource string // "stream DBRUNNER_JOBS_demo" or "consumer DBRUNNER_JOBS_demo/work"
	Setting  string // the server's own name of the setting; empty if the resource is missing
	Have     string
	Want     string
	Missing  bool
	// Note: a runner starts and works with it: it follows from the server's limits or an earlier release has made it so. Of
	// what is missing: a runner does without, and lacks what it is for.
	Note bool
	// Off: a feature of the configuration is off, or not as configured, as long as it is so. A runner starts, runs everything
	// else, and turns the feature on once it is changed.
	Off bool
}

func (d Difference) String() string {
	switch {
	case d.Missing:
		return d.Resource + " is missing"
	case d.Setting == settingPause:
		return d.Resource + " is paused until " + d.Have
	case d.Setting == settingUsed:
		return d.Resource + " is " + d.Have + " full"
	}
	return fmt.Sprintf("%s: %s is %s, the configuration says %s", d.Resource, d.Setting, d.Have, d.Want)
}

// Error lists what differs and the command that changes it.
type Error struct {
	Differences []Difference
}

func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Differences))
	for _, d := range e.Differences {
		lines = append(lines, d.String())
	}
	return "streams and consumers differ from the configuration: " + strings.Join(lines, "; ") +
		" (to change them: runner topology apply)"
}

// Stops reports whether jobs wait, or a part of the runner does not work, as long as it is so.
func (d *Difference) Stops() bool {
	if d.Off || d.Note {
		return false
	}
	switch d.Setting {
	case settingPause, settingFilters, settingHeadersOnly, settingPriorities, // of consumers
		settingSubjects, settingSealed, settingNoAck, settingMirror, settingDirect, settingTransform: // of streams
		return true
	}
	return d.Missing && !d.Note
}

// Remedy is the fix.
func (d *Difference) Remedy() string {
	kind, name, _ := strings.Cut(d.Resource, " ")
	stream, consumer, _ := strings.Cut(name, "/")
	switch {
	case d.Missing:
		return "runner topology apply creates it"
	case d.Note && d.Setting == settingSubjects:
		return "another configuration may name the others; runner topology apply --remove takes them out"
	case d.Setting == settingUsed:
		return "raise topology.audit.max_bytes and run runner topology apply; a full stream refuses the actions of operators"
	case d.Setting == settingOrdered:
		return "the jobs of the queue wait; stop publishing to it, let runners with the configuration of before finish it, and run runner topology apply"
	case d.Setting == settingPause:
		return "nats consumer resume " + stream + " " + consumer
	case d.Setting == settingSealed:
		return "a sealed stream stays sealed: keep what it holds (nats stream backup), delete it (nats stream rm " + stream +
			") and run runner topology apply"
	case d.Note && d.Setting == settingMaxMsgSize:
		return "to set it for the whole fleet, write topology.jobs.max_message_bytes and run runner topology apply"
	case d.Note && kind == "consumer", d.Note && d.Setting == settingDuplicates:
		return "runner topology apply changes it as far as the server's limits allow"
	}
	return "runner topology apply changes it"
}

// Diff compares the server's streams and consumers with the topology. It changes nothing.
func Diff(ctx context.Context, c *bus.Conn, t Topology) ([]Difference, error) {
	w, err := wantedFrom(c, t)
	if err != nil {
		return nil, err
	}
	var out []Difference
	missing := make(map[string]bool)
	for i := range w.streams {
		d, err := diffStream(ctx, c, &w.streams[i])
		if err != nil {
			return nil, err
		}
		missing[w.streams[i].config.Name] = isMissing(d)
		out = append(out, d...)
	}
	for i := range w.consumers {
		if missing[w.consumers[i].stream] {
			out = append(out, w.consumers[i].missing())
			continue
		}
		d, err := diffConsumer(ctx, c, &w.consumers[i])
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	return out, nil
}

func isMissing(d []Difference) bool { return len(d) == 1 && d[0].Missing }

// missing is the difference of a consumer that is not there.
func (w *consumer) missing() Difference {
	return Difference{Resource: consumerResource(w), Missing: true, Off: w.optional}
}

func streamResource(name string) string { return "stream " + name }

func consumerResource(w *consumer) string { return "consumer " + w.stream + "/" + w.config.Name }

func diffStream(ctx context.Context, c *bus.Conn, want *stream) ([]Difference, error) {
	info, err := bus.StreamInfo(ctx, c, want.config.Name)
	if want.lacks(err) {
		return []Difference{want.missing()}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(info), nil
}

// missing is what is reported if the stream is missing.
func (s *stream) missing() Difference {
	return Difference{Resource: streamResource(s.config.Name), Missing: true, Note: s.missingBefore}
}

// lacks reports whether a stream is missing, by the answer to the question for it. One that earlier releases did without
// counts as missing for a runner whose permissions are those of an earlier release.
func (s *stream) lacks(err error) bool {
	return errors.Is(err, bus.ErrNotFound) || s.missingBefore && errors.Is(err, bus.ErrDenied)
}

// compare reports what differs. A size that follows from the server's largest message differs from server to server, and
// from release to release: neither is a reason not to start.
func (s *stream) compare(info *jetstream.StreamInfo) []Difference {
	d := compare(streamResource(s.config.Name), streamSettings, &info.Config, &s.config)
	d = slices.DeleteFunc(d, func(d Difference) bool { return d.Setting == settingDuplicates && !s.messageIDs })
	for i := range d {
		switch d[i].Setting {
		case settingSubjects:
			d[i].Note, d[i].Off = s.ofFeatures(info.Config.Subjects)
		case settingMaxMsgSize:
			d[i].Note = s.followsServer
		case settingMaxBytes:
			d[i].Note = s.unboundedBefore && info.Config.MaxBytes <= 0
		case settingRollup:
			d[i].Note = s.rollupBefore && info.Config.AllowRollup
		case settingDuplicates:
			d[i].Note = info.Config.Duplicates < s.config.Duplicates
		case settingNamespaceTag, "consumer_limits":
			d[i].Note = true
		}
	}
	return d
}

// ofFeatures judges subjects that differ. off: all that the stream lacks are optional ones. note: it lacks nothing, and has only
// others' features besides.
func (s *stream) ofFeatures(have []string) (note, off bool) {
	lacks := without(s.config.Subjects, have)
	if len(s.withoutFeatures(without(have, s.config.Subjects))) > 0 || len(without(lacks, s.optional)) > 0 {
		return false, false
	}
	return len(lacks) == 0, len(lacks) > 0
}

// withoutFeatures returns the subjects that no other configuration may name.
func (s *stream) withoutFeatures(subjects []string) []string {
	return slices.DeleteFunc(slices.Clone(subjects), func(subject string) bool { return bus.Overlapping(s.features, subject) != "" })
}

// without returns the elements of list that are not among others.
func without(list, others []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(others, s) })
}

func diffConsumer(ctx context.Context, c *bus.Conn, want *consumer) ([]Difference, error) {
	info, err := bus.ConsumerInfo(ctx, c, want.stream, want.config.Name)
	if errors.Is(err, bus.ErrNotFound) {
		return []Difference{want.missing()}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(info), nil
}

// compare reports what differs. Limits of pull requests are adapted to; one of deliveries may be the server's own.
func (w *consumer) compare(info *jetstream.ConsumerInfo) []Difference {
	d := compare(consumerResource(w), consumerSettings, &info.Config, &w.config)
	for i := range d {
		switch d[i].Setting {
		case settingMaxPending:
			d[i].Note = info.Config.MaxAckPending > 0 && info.Config.MaxAckPending < w.config.MaxAckPending
			d[i].Off = w.optional && !d[i].Note // a limit of the fleet, which is not in force
		case settingOrdered:
			d[i].Off = w.optional
		case settingMaxBatch, settingMaxExpires, settingNamespaceTag:
			d[i].Note = true
		}
	}
	if info.Paused {
		until := "later"
		if info.Config.PauseUntil != nil {
			until = info.Config.PauseUntil.UTC().Format(time.RFC3339)
		}
		d = append(d, Difference{Resource: consumerResource(w), Setting: settingPause, Have: until, Want: "none"})
	}
	return d
}
