package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Difference is one setting of a stream or consumer that is not as the configuration wants it.
type Difference struct {
	Resource string // "stream DBRUNNER_JOBS_demo" or "consumer DBRUNNER_JOBS_demo/work"
	Setting  string // the server's own name of the setting; empty if the resource is missing
	Have     string
	Want     string
	Missing  bool
	// Note: an earlier release has made it so, and runners work with it. They start all the same; Apply changes it.
	Note bool
}

func (d Difference) String() string {
	if d.Missing {
		return d.Resource + " is missing"
	}
	return fmt.Sprintf("%s: %s is %s, the configuration says %s", d.Resource, d.Setting, d.Have, d.Want)
}

// TopologyError lists what differs and the command that changes it.
type TopologyError struct {
	Differences []Difference
}

func (e *TopologyError) Error() string {
	lines := make([]string, 0, len(e.Differences))
	for _, d := range e.Differences {
		lines = append(lines, d.String())
	}
	return "streams and consumers are not as configured: " + strings.Join(lines, "; ") +
		" (to change them: runner topology apply)"
}

// setting is one compared setting of T.
type setting[T any] struct {
	name string
	text func(*T) string
}

// settingRollup is whether publishers may remove messages by the header Nats-Rollup.
const settingRollup = "allow_rollup_hdrs"

// streamSettings are all settings of a stream that change what a runner relies on. Description, placement and
// metadata are the operator's.
var streamSettings = []setting[jetstream.StreamConfig]{
	{"subjects", func(c *jetstream.StreamConfig) string { return list(c.Subjects) }},
	{"retention", func(c *jetstream.StreamConfig) string { return c.Retention.String() }},
	{"storage", func(c *jetstream.StreamConfig) string { return c.Storage.String() }},
	{"num_replicas", func(c *jetstream.StreamConfig) string { return strconv.Itoa(max(c.Replicas, 1)) }},
	{"discard", func(c *jetstream.StreamConfig) string { return c.Discard.String() }},
	{"discard_new_per_subject", func(c *jetstream.StreamConfig) string { return onOff(c.DiscardNewPerSubject) }},
	{"max_msgs", func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgs) }},
	{"max_bytes", func(c *jetstream.StreamConfig) string { return limit(c.MaxBytes) }},
	{"max_msgs_per_subject", func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgsPerSubject) }},
	{"max_msg_size", func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxMsgSize)) }},
	{"max_consumers", func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxConsumers)) }},
	{"max_age", func(c *jetstream.StreamConfig) string { return age(c.MaxAge) }},
	{"duplicate_window", func(c *jetstream.StreamConfig) string { return age(c.Duplicates) }},
	{"subject_transform", func(c *jetstream.StreamConfig) string { return transform(c.SubjectTransform) }},
	{"republish", func(c *jetstream.StreamConfig) string { return republish(c.RePublish) }},
	{"allow_direct", func(c *jetstream.StreamConfig) string { return onOff(c.AllowDirect) }},
	{settingRollup, func(c *jetstream.StreamConfig) string { return onOff(c.AllowRollup) }},
	{"allow_msg_ttl", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgTTL) }},
	{"allow_msg_schedules", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgSchedules) }},
	{"allow_msg_counter", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgCounter) }},
	{"allow_atomic", func(c *jetstream.StreamConfig) string { return onOff(c.AllowAtomicPublish) }},
	{"allow_batched", func(c *jetstream.StreamConfig) string { return onOff(c.AllowBatchPublish) }},
	{"no_ack", func(c *jetstream.StreamConfig) string { return onOff(c.NoAck) }},
	{"sealed", func(c *jetstream.StreamConfig) string { return onOff(c.Sealed) }},
	{"deny_purge", func(c *jetstream.StreamConfig) string { return onOff(c.DenyPurge) }},
	{"deny_delete", func(c *jetstream.StreamConfig) string { return onOff(c.DenyDelete) }},
	{"mirror", func(c *jetstream.StreamConfig) string { return onOff(c.Mirror != nil) }},
	{"sources", func(c *jetstream.StreamConfig) string { return strconv.Itoa(len(c.Sources)) }},
}

// consumerSettings are all settings of a consumer that change what a runner relies on.
var consumerSettings = []setting[jetstream.ConsumerConfig]{
	{"filter_subjects", func(c *jetstream.ConsumerConfig) string { return list(filters(c)) }},
	{"ack_policy", func(c *jetstream.ConsumerConfig) string { return c.AckPolicy.String() }},
	{"ack_wait", func(c *jetstream.ConsumerConfig) string { return c.AckWait.String() }},
	{"backoff", func(c *jetstream.ConsumerConfig) string { return strconv.Itoa(len(c.BackOff)) }},
	{"max_deliver", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxDeliver)) }},
	{"max_ack_pending", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxAckPending)) }},
	{"max_waiting", func(c *jetstream.ConsumerConfig) string { return strconv.Itoa(c.MaxWaiting) }},
	{"max_batch", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxRequestBatch)) }},
	{"max_expires", func(c *jetstream.ConsumerConfig) string { return age(c.MaxRequestExpires) }},
	{"max_bytes", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxRequestMaxBytes)) }},
	{"deliver_policy", func(c *jetstream.ConsumerConfig) string { return c.DeliverPolicy.String() }},
	{"deliver_subject", func(c *jetstream.ConsumerConfig) string { return quoted(c.DeliverSubject) }},
	{"replay_policy", func(c *jetstream.ConsumerConfig) string { return c.ReplayPolicy.String() }},
	{"rate_limit_bps", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.RateLimit)) }}, //nolint:gosec // text only
	{"inactive_threshold", func(c *jetstream.ConsumerConfig) string { return age(c.InactiveThreshold) }},
	{"headers_only", func(c *jetstream.ConsumerConfig) string { return onOff(c.HeadersOnly) }},
	{"mem_storage", func(c *jetstream.ConsumerConfig) string { return onOff(c.MemoryStorage) }},
	{"num_replicas", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.Replicas)) }},
	{"priority_groups", func(c *jetstream.ConsumerConfig) string { return list(c.PriorityGroups) }},
}

func filters(c *jetstream.ConsumerConfig) []string {
	if c.FilterSubject != "" {
		return append([]string{c.FilterSubject}, c.FilterSubjects...)
	}
	return c.FilterSubjects
}

func compare[T any](resource string, settings []setting[T], have, want *T) []Difference {
	var out []Difference
	for _, s := range settings {
		if h, w := s.text(have), s.text(want); h != w {
			out = append(out, Difference{Resource: resource, Setting: s.name, Have: h, Want: w})
		}
	}
	return out
}

func list(values []string) string {
	if len(values) == 0 {
		return "none"
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return strings.Join(sorted, ",")
}

// limit shows a limit: zero and below mean that there is none.
func limit(n int64) string {
	if n <= 0 {
		return "none"
	}
	return strconv.FormatInt(n, 10)
}

func age(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func quoted(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func transform(t *jetstream.SubjectTransformConfig) string {
	if t == nil {
		return "none"
	}
	return t.Source + " to " + t.Destination
}

func republish(r *jetstream.RePublish) string {
	switch {
	case r == nil:
		return "none"
	case r.HeadersOnly:
		return r.Source + " to " + r.Destination + " (headers only)"
	}
	return r.Source + " to " + r.Destination
}

// Diff compares the server's streams and consumers with the topology. It changes nothing.
func (c *Conn) Diff(ctx context.Context, t Topology) ([]Difference, error) {
	w, err := c.want(t)
	if err != nil {
		return nil, err
	}
	var out []Difference
	missing := make(map[string]bool)
	for i := range w.streams {
		d, err := c.diffStream(ctx, &w.streams[i])
		if err != nil {
			return nil, err
		}
		missing[w.streams[i].Name] = len(d) == 1 && d[0].Missing
		out = append(out, d...)
	}
	for i := range w.consumers {
		if missing[w.consumers[i].stream] {
			out = append(out, Difference{Resource: consumerResource(&w.consumers[i]), Missing: true})
			continue
		}
		d, err := c.diffConsumer(ctx, &w.consumers[i])
		if err != nil {
			return nil, err
		}
		out = append(out, d...)
	}
	return out, nil
}

func streamResource(name string) string { return "stream " + name }

func consumerResource(w *consumer) string { return "consumer " + w.stream + "/" + w.config.Name }

func (c *Conn) diffStream(ctx context.Context, want *jetstream.StreamConfig) ([]Difference, error) {
	info, err := c.streamInfo(ctx, want.Name)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: streamResource(want.Name), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	d := compare(streamResource(want.Name), streamSettings, &info.Config, want)
	for i := range d {
		d[i].Note = c.subjects.ofEarlierRelease(want.Name, d[i].Setting, d[i].Have)
	}
	return d, nil
}

// ofEarlierRelease tells the settings of our streams that earlier releases made otherwise: the buckets of requests to cancel
// and of offloaded rows allowed roll-up.
func (s subjects) ofEarlierRelease(stream, setting, have string) bool {
	return setting == settingRollup && have == onOff(true) &&
		(stream == s.controlStream() || stream == objectPrefix+s.rowsBucket())
}

func (c *Conn) diffConsumer(ctx context.Context, want *consumer) ([]Difference, error) {
	info, err := c.consumerInfo(ctx, want.stream, want.config.Name)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: consumerResource(want), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return compare(consumerResource(want), consumerSettings, &info.Config, &want.config), nil
}

func (c *Conn) streamInfo(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	if err := c.apiPatient(ctx, "STREAM.INFO."+stream, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

func (c *Conn) consumerInfo(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	var info jetstream.ConsumerInfo
	if err := c.apiPatient(ctx, "CONSUMER.INFO."+stream+"."+name, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}
