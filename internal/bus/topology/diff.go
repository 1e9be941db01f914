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
	// Note: a runner starts and works with it: it follows from the server's limits or an earlier release has made it so.
	Note bool
}

func (d Difference) String() string {
	switch {
	case d.Missing:
		return d.Resource + " is missing"
	case d.Setting == settingPause:
		return d.Resource + " is paused until " + d.Have
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
	switch d.Setting {
	case settingPause, settingFilters, settingHeadersOnly, settingPriorities, // of consumers
		settingSubjects, settingSealed, settingNoAck, settingMirror, settingDirect, settingTransform: // of streams
		return true
	}
	return d.Missing
}

// Remedy is the fix.
func (d *Difference) Remedy() string {
	kind, name, _ := strings.Cut(d.Resource, " ")
	stream, consumer, _ := strings.Cut(name, "/")
	switch {
	case d.Missing:
		return "runner topology apply creates it"
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
			out = append(out, Difference{Resource: consumerResource(&w.consumers[i]), Missing: true})
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

func streamResource(name string) string { return "stream " + name }

func consumerResource(w *consumer) string { return "consumer " + w.stream + "/" + w.config.Name }

func diffStream(ctx context.Context, c *bus.Conn, want *stream) ([]Difference, error) {
	info, err := bus.StreamInfo(ctx, c, want.config.Name)
	if errors.Is(err, bus.ErrNotFound) {
		return []Difference{{Resource: streamResource(want.config.Name), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(info), nil
}

// compare reports what differs. A size that follows from the server's largest message differs from server to server, and
// from release to release: neither is a reason not to start.
func (s *stream) compare(info *jetstream.StreamInfo) []Difference {
	d := compare(streamResource(s.config.Name), streamSettings, &info.Config, &s.config)
	d = slices.DeleteFunc(d, func(d Difference) bool { return d.Setting == settingDuplicates && !s.messageIDs })
	for i := range d {
		switch d[i].Setting {
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

func diffConsumer(ctx context.Context, c *bus.Conn, want *consumer) ([]Difference, error) {
	info, err := bus.ConsumerInfo(ctx, c, want.stream, want.config.Name)
	if errors.Is(err, bus.ErrNotFound) {
		return []Difference{{Resource: consumerResource(want), Missing: true}}, nil
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
