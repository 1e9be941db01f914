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

// The settings that are treated in a way of their own.
const (
	settingSubjects     = "subjects"
	settingMaxMsgSize   = "max_msg_size"
	settingMaxBytes     = "max_bytes"
	settingDuplicates   = "duplicate_window"
	settingSealed       = "sealed"
	settingMirror       = "mirror"
	settingDirect       = "allow_direct"
	settingRollup       = "allow_rollup_hdrs" // whether publishers may remove messages by the header Nats-Rollup
	settingTransform    = "subject_transform"
	settingFilters      = "filter_subjects"
	settingMaxPending   = "max_ack_pending"
	settingMaxBatch     = "max_batch"
	settingMaxExpires   = "max_expires"
	settingHeadersOnly  = "headers_only"
	settingPriorities   = "priority_groups"
	settingNoAck        = "no_ack"
	settingPause        = "pause_until"
	settingNamespaceTag = "metadata " + metaNamespace
)

// Stops reports whether jobs wait, or a part of the runner does not work, as long as it is so.
func (d *Difference) Stops() bool {
	switch d.Setting {
	case settingPause, settingFilters, settingHeadersOnly, settingPriorities, // of consumers
		settingSubjects, settingSealed, settingNoAck, settingMirror, settingDirect, settingTransform: // of streams
		return true
	}
	return d.Missing
}

// Remedy says what ends it.
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

// streamSettings are all settings of a stream that change what a runner relies on. Description, placement and
// compression are the operator's.
var streamSettings = []setting[jetstream.StreamConfig]{
	{settingSubjects, func(c *jetstream.StreamConfig) string { return list(c.Subjects) }},
	{"retention", func(c *jetstream.StreamConfig) string { return c.Retention.String() }},
	{"storage", func(c *jetstream.StreamConfig) string { return c.Storage.String() }},
	{"num_replicas", func(c *jetstream.StreamConfig) string { return strconv.Itoa(max(c.Replicas, 1)) }},
	{"discard", func(c *jetstream.StreamConfig) string { return c.Discard.String() }},
	{"discard_new_per_subject", func(c *jetstream.StreamConfig) string { return onOff(c.DiscardNewPerSubject) }},
	{"max_msgs", func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgs) }},
	{settingMaxBytes, func(c *jetstream.StreamConfig) string { return limit(c.MaxBytes) }},
	{"max_msgs_per_subject", func(c *jetstream.StreamConfig) string { return limit(c.MaxMsgsPerSubject) }},
	{settingMaxMsgSize, func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxMsgSize)) }},
	{"max_consumers", func(c *jetstream.StreamConfig) string { return limit(int64(c.MaxConsumers)) }},
	{"max_age", func(c *jetstream.StreamConfig) string { return age(c.MaxAge) }},
	{settingDuplicates, func(c *jetstream.StreamConfig) string { return age(c.Duplicates) }},
	{settingTransform, func(c *jetstream.StreamConfig) string { return transform(c.SubjectTransform) }},
	{"republish", func(c *jetstream.StreamConfig) string { return republish(c.RePublish) }},
	{settingDirect, func(c *jetstream.StreamConfig) string { return onOff(c.AllowDirect) }},
	{settingRollup, func(c *jetstream.StreamConfig) string { return onOff(c.AllowRollup) }},
	{"allow_msg_ttl", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgTTL) }},
	{"allow_msg_schedules", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgSchedules) }},
	{"allow_msg_counter", func(c *jetstream.StreamConfig) string { return onOff(c.AllowMsgCounter) }},
	{"allow_atomic", func(c *jetstream.StreamConfig) string { return onOff(c.AllowAtomicPublish) }},
	{"allow_batched", func(c *jetstream.StreamConfig) string { return onOff(c.AllowBatchPublish) }},
	{settingNoAck, func(c *jetstream.StreamConfig) string { return onOff(c.NoAck) }},
	{settingSealed, func(c *jetstream.StreamConfig) string { return onOff(c.Sealed) }},
	{"deny_purge", func(c *jetstream.StreamConfig) string { return onOff(c.DenyPurge) }},
	{"deny_delete", func(c *jetstream.StreamConfig) string { return onOff(c.DenyDelete) }},
	{settingMirror, func(c *jetstream.StreamConfig) string { return onOff(c.Mirror != nil) }},
	{"sources", func(c *jetstream.StreamConfig) string { return strconv.Itoa(len(c.Sources)) }},
	{"consumer_limits", func(c *jetstream.StreamConfig) string { return consumerLimits(&c.ConsumerLimits) }},
	{"subject_delete_marker_ttl", func(c *jetstream.StreamConfig) string { return age(c.SubjectDeleteMarkerTTL) }},
	{settingNamespaceTag, func(c *jetstream.StreamConfig) string { return quoted(c.Metadata[metaNamespace]) }},
}

// consumerSettings are all settings of a consumer that change what a runner relies on.
var consumerSettings = []setting[jetstream.ConsumerConfig]{
	{settingFilters, func(c *jetstream.ConsumerConfig) string { return list(filters(c)) }},
	{"ack_policy", func(c *jetstream.ConsumerConfig) string { return c.AckPolicy.String() }},
	{"ack_wait", func(c *jetstream.ConsumerConfig) string { return c.AckWait.String() }},
	{"backoff", func(c *jetstream.ConsumerConfig) string { return strconv.Itoa(len(c.BackOff)) }},
	{"max_deliver", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxDeliver)) }},
	{settingMaxPending, func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxAckPending)) }},
	{"max_waiting", func(c *jetstream.ConsumerConfig) string { return strconv.Itoa(c.MaxWaiting) }},
	{settingMaxBatch, func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxRequestBatch)) }},
	{settingMaxExpires, func(c *jetstream.ConsumerConfig) string { return age(c.MaxRequestExpires) }},
	{"max_bytes", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.MaxRequestMaxBytes)) }},
	{"deliver_policy", func(c *jetstream.ConsumerConfig) string { return c.DeliverPolicy.String() }},
	{"deliver_subject", func(c *jetstream.ConsumerConfig) string { return quoted(c.DeliverSubject) }},
	{"replay_policy", func(c *jetstream.ConsumerConfig) string { return c.ReplayPolicy.String() }},
	{"rate_limit_bps", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.RateLimit)) }}, //nolint:gosec // text only
	{"inactive_threshold", func(c *jetstream.ConsumerConfig) string { return age(c.InactiveThreshold) }},
	{settingHeadersOnly, func(c *jetstream.ConsumerConfig) string { return onOff(c.HeadersOnly) }},
	{"mem_storage", func(c *jetstream.ConsumerConfig) string { return onOff(c.MemoryStorage) }},
	{"num_replicas", func(c *jetstream.ConsumerConfig) string { return limit(int64(c.Replicas)) }},
	{settingPriorities, func(c *jetstream.ConsumerConfig) string { return list(c.PriorityGroups) }},
	{settingNamespaceTag, func(c *jetstream.ConsumerConfig) string { return quoted(c.Metadata[metaNamespace]) }},
}

func consumerLimits(l *jetstream.StreamConsumerLimits) string {
	if l.MaxAckPending <= 0 && l.InactiveThreshold <= 0 {
		return "none"
	}
	return fmt.Sprintf("max_ack_pending %s, inactive_threshold %s", limit(int64(l.MaxAckPending)), age(l.InactiveThreshold))
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
		missing[w.streams[i].config.Name] = isMissing(d)
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

func isMissing(d []Difference) bool { return len(d) == 1 && d[0].Missing }

func streamResource(name string) string { return "stream " + name }

func consumerResource(w *consumer) string { return "consumer " + w.stream + "/" + w.config.Name }

func (c *Conn) diffStream(ctx context.Context, want *stream) ([]Difference, error) {
	info, err := c.streamInfo(ctx, want.config.Name)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: streamResource(want.config.Name), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(info), nil
}

// compare tells what differs. A size that follows from the server's largest message differs from server to server, and
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

func (c *Conn) diffConsumer(ctx context.Context, want *consumer) ([]Difference, error) {
	info, err := c.consumerInfo(ctx, want.stream, want.config.Name)
	if errors.Is(err, ErrNotFound) {
		return []Difference{{Resource: consumerResource(want), Missing: true}}, nil
	}
	if err != nil {
		return nil, err
	}
	return want.compare(info), nil
}

// compare tells what differs. Limits of pull requests are adapted to; one of deliveries may be the server's own.
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

func (c *Conn) streamInfo(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	if err := c.RequestRetry(ctx, "STREAM.INFO."+stream, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

func (c *Conn) consumerInfo(ctx context.Context, stream, name string) (*jetstream.ConsumerInfo, error) {
	var info jetstream.ConsumerInfo
	if err := c.RequestRetry(ctx, "CONSUMER.INFO."+stream+"."+name, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}
