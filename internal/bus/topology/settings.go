package topology

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/internal/bus"
)

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
	settingUsed         = "used bytes"
	settingOrdered      = "metadata " + bus.MetaOrdered
	settingNamespaceTag = "metadata " + metaNamespace
)

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
	{settingFilters, func(c *jetstream.ConsumerConfig) string { return list(bus.Filters(c)) }},
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
	{settingOrdered, func(c *jetstream.ConsumerConfig) string { return quoted(c.Metadata[bus.MetaOrdered]) }},
	{settingNamespaceTag, func(c *jetstream.ConsumerConfig) string { return quoted(c.Metadata[metaNamespace]) }},
}

func consumerLimits(l *jetstream.StreamConsumerLimits) string {
	if l.MaxAckPending <= 0 && l.InactiveThreshold <= 0 {
		return "none"
	}
	return fmt.Sprintf("max_ack_pending %s, inactive_threshold %s", limit(int64(l.MaxAckPending)), age(l.InactiveThreshold))
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
