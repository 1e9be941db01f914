package topology_test

import (
	"context"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// comparison is a bundle whose topology is compared all the time.
type comparison struct {
	*bustest.Bundle
	watch *topology.Watch
}

func comparing(t *testing.T, verify bool) *comparison {
	t.Helper()
	b := bustest.Setup(t)
	if verify {
		require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	}
	return watch(t, b, bustest.Topology(), !verify)
}

func watch(t *testing.T, b *bustest.Bundle, top topology.Topology, create bool) *comparison {
	t.Helper()
	return watchEvery(t, b, top, create, 20*time.Millisecond)
}

func watchEvery(t *testing.T, b *bustest.Bundle, top topology.Topology, create bool, interval time.Duration) *comparison {
	t.Helper()
	w := &comparison{b, topology.NewWatch(b.Conn, top, create)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.watch.Run(ctx, interval) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	return w
}

// awaitProblems waits until the problems are as wanted.
func awaitProblems(t *testing.T, b *comparison, wanted func([]topology.Problem) bool) []topology.Problem {
	t.Helper()
	var have []topology.Problem
	found := func() bool {
		have = b.watch.Problems()
		return wanted(have)
	}
	if !assert.Eventually(t, found, 30*time.Second, 5*time.Millisecond) {
		require.FailNow(t, "not the problems that were expected", "%+v", have)
	}
	return have
}

func none(p []topology.Problem) bool { return len(p) == 0 }

// edit is what an operator changes with "nats stream edit" or "nats consumer edit".
type edit struct {
	stream   string // the stream whose settings change, or that of the consumer
	change   func(*jetstream.StreamConfig)
	consumer func(*jetstream.ConsumerConfig) // of the lane work
	problem  string                          // what is reported
	effect   string
}

const (
	stops   = "stops"
	differs = "differs"
	note    = "note"
)

func effect(p *topology.Problem) string {
	switch {
	case p.Stops():
		return stops
	case p.Note:
		return note
	}
	return differs
}

func edits() map[string]edit {
	jobs, results := "DBRUNNER_JOBS_demo", "DBRUNNER_RESULTS_demo"
	return map[string]edit{
		"a kind's subject":      {jobs, func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[1:] }, nil, "subjects is", stops},
		"a subject more":        {jobs, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other.>") }, nil, "subjects is", stops},
		"discard":               {jobs, func(c *jetstream.StreamConfig) { c.Discard, c.DiscardNewPerSubject = jetstream.DiscardOld, false }, nil, "discard is DiscardOld", differs},
		"discard per subject":   {jobs, func(c *jetstream.StreamConfig) { c.DiscardNewPerSubject = false }, nil, "discard_new_per_subject is off", differs},
		"max_msgs":              {jobs, func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, nil, "max_msgs is 10", differs},
		"max_msgs_per_subject":  {jobs, func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 10 }, nil, "max_msgs_per_subject is 10", differs},
		"max_bytes":             {jobs, func(c *jetstream.StreamConfig) { c.MaxBytes = 4096 }, nil, "max_bytes is 4096", differs},
		"max_age":               {jobs, func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = time.Hour, time.Minute }, nil, "max_age is 1h0m0s", differs},
		"max_msg_size":          {jobs, func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1024 }, nil, "max_msg_size is 1024", note},
		"max_consumers":         {jobs, func(c *jetstream.StreamConfig) { c.MaxConsumers = 5 }, nil, "max_consumers is 5", differs},
		"duplicate window less": {jobs, func(c *jetstream.StreamConfig) { c.Duplicates = time.Second }, nil, "duplicate_window is 1s", note},
		"duplicate window more": {jobs, func(c *jetstream.StreamConfig) { c.Duplicates = time.Hour }, nil, "duplicate_window is 1h0m0s", differs},
		"roll-up":               {jobs, func(c *jetstream.StreamConfig) { c.AllowRollup = true }, nil, "allow_rollup_hdrs is on", differs},
		"no_ack":                {jobs, func(c *jetstream.StreamConfig) { c.NoAck = true }, nil, "no_ack is on", stops},
		"republish": {jobs, func(c *jetstream.StreamConfig) {
			c.RePublish = &jetstream.RePublish{Source: ">", Destination: "copy.>"}
		}, nil, "republish is", differs},
		"consumer limits":        {jobs, func(c *jetstream.StreamConfig) { c.ConsumerLimits.MaxAckPending = 20_000 }, nil, "consumer_limits is", note},
		"metadata":               {jobs, func(c *jetstream.StreamConfig) { c.Metadata = nil }, nil, "metadata dbrunner.namespace is none", note},
		"atomic publish":         {jobs, func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = true }, nil, "allow_atomic is on", differs},
		"fast publish":           {jobs, func(c *jetstream.StreamConfig) { c.AllowBatchPublish = true }, nil, "allow_batched is on", differs},
		"results' age":           {results, func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil, "max_age is 1h0m0s", differs},
		"results' discard":       {results, func(c *jetstream.StreamConfig) { c.Discard, c.DiscardNewPerSubject = jetstream.DiscardOld, false }, nil, "discard is DiscardOld", differs},
		"results' count":         {results, func(c *jetstream.StreamConfig) { c.MaxMsgs = 3 }, nil, "max_msgs is 3", differs},
		"results' transform":     {results, func(c *jetstream.StreamConfig) { c.SubjectTransform, c.RePublish = nil, nil }, nil, "subject_transform is none", stops},
		"results' republish":     {results, func(c *jetstream.StreamConfig) { c.RePublish = nil }, nil, "republish is none", differs},
		"results' direct get":    {results, func(c *jetstream.StreamConfig) { c.AllowDirect = false }, nil, "allow_direct is off", stops},
		"results' subjects":      {results, func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "other.>") }, nil, "subjects is", stops},
		"dead letters' age":      {"DBRUNNER_DEAD", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil, "max_age is 1h0m0s", differs},
		"dead letters' bytes":    {"DBRUNNER_DEAD", func(c *jetstream.StreamConfig) { c.MaxBytes = 8192 }, nil, "max_bytes is 8192", differs},
		"health's age":           {"DBRUNNER_HEALTH", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil, "max_age is 1h0m0s", differs},
		"health's bytes":         {"DBRUNNER_HEALTH", func(c *jetstream.StreamConfig) { c.MaxBytes = 8192 }, nil, "max_bytes is 8192", differs},
		"health without a bound": {"DBRUNNER_HEALTH", func(c *jetstream.StreamConfig) { c.MaxBytes = -1 }, nil, "max_bytes is none", note},
		"health's history":       {"DBRUNNER_HEALTH", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 9 }, nil, "max_msgs_per_subject is 9", differs},
		"control's history":      {"KV_DBRUNNER_CONTROL", func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 5 }, nil, "max_msgs_per_subject is 5", differs},
		"rows' age":              {"OBJ_DBRUNNER_ROWS", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour }, nil, "max_age is 1h0m0s", differs},
		"params' direct get":     {"OBJ_DBRUNNER_PARAMS", func(c *jetstream.StreamConfig) { c.AllowDirect = false }, nil, "allow_direct is off", stops},
		"ack_wait":               {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.AckWait = time.Second }, problem: "ack_wait is 1s", effect: differs},
		"ack_wait more":          {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.AckWait = time.Hour }, problem: "ack_wait is 1h0m0s", effect: differs},
		"max_ack_pending":        {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1 }, problem: "max_ack_pending is 1", effect: note},
		"max_ack_pending more":   {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 20_000 }, problem: "max_ack_pending is 20000", effect: differs},
		"filter":                 {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.FilterSubjects = c.FilterSubjects[:1] }, problem: "filter_subjects is", effect: stops},
		"max_deliver":            {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }, problem: "max_deliver is 5", effect: differs},
		"backoff":                {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.BackOff = []time.Duration{time.Second, time.Minute} }, problem: "backoff is 2", effect: differs},
		"headers only":           {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, problem: "headers_only is on", effect: stops},
		"max_batch":              {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.MaxRequestBatch = 2 }, problem: "max_batch is 2", effect: note},
		"max_expires":            {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.MaxRequestExpires = time.Second }, problem: "max_expires is 1s", effect: note},
		"inactive threshold":     {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }, problem: "inactive_threshold is 1h0m0s", effect: differs},
		"consumer's replicas":    {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.Replicas = 1 }, problem: "num_replicas is 1", effect: differs},
		"priority groups": {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) {
			c.PriorityPolicy, c.PriorityGroups = jetstream.PriorityPolicyOverflow, []string{"a"}
		}, problem: "priority_groups is a", effect: stops},
		"consumer's metadata": {stream: jobs, consumer: func(c *jetstream.ConsumerConfig) { c.Metadata = nil }, problem: "metadata dbrunner.namespace is none", effect: note},
	}
}

// TestWhatAnOperatorEditsIsReported edits every setting that the stock command line can edit, one at a time, while a
// runner works.
func TestWhatAnOperatorEditsIsReported(t *testing.T) {
	t.Parallel()
	b := comparing(t, false)
	awaitProblems(t, b, none)
	for name, e := range edits() {
		s, err := b.JS.Stream(t.Context(), e.stream)
		require.NoError(t, err)
		before, o := s.CachedInfo().Config, bustest.ConsumerInfo(t, b.JS, "work").Config
		if e.consumer != nil {
			changed := o
			changed.Metadata = maps.Clone(o.Metadata)
			e.consumer(&changed)
			_, err = s.UpdateConsumer(t.Context(), changed)
		} else {
			changed := before
			e.change(&changed)
			_, err = b.JS.UpdateStream(t.Context(), changed)
		}
		require.NoError(t, err, name)
		found := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) > 0 })
		i := 0
		for ; i < len(found) && !strings.Contains(found[i].String(), e.problem); i++ {
		}
		require.Less(t, i, len(found), "%s: %+v", name, found)
		p := &found[i]
		require.Equal(t, e.effect, effect(p), name)
		require.NotEmpty(t, p.Remedy(), name)
		require.Contains(t, p.Resource, e.stream, name)
		if strings.Contains(e.stream, "demo") {
			require.Equal(t, "demo", p.Database, name)
		} else {
			require.Empty(t, p.Database, name)
		}
		d, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
		require.NoError(t, err)
		require.Contains(t, d, p.Difference, "%s: topology show and check look there", name)

		if e.consumer != nil {
			_, err = s.UpdateConsumer(t.Context(), o)
		} else {
			_, err = b.JS.UpdateStream(t.Context(), before)
		}
		require.NoError(t, err, name)
		awaitProblems(t, b, none)
	}
	require.NotEmpty(t, b.Logs.FilterMessage("stream or consumer unusable; jobs wait").All())
}

// TestApplyUndoesWhatAnOperatorEdited takes back all of it but what the server cannot.
func TestApplyUndoesWhatAnOperatorEdited(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	for name, e := range edits() {
		s, err := b.JS.Stream(t.Context(), e.stream)
		require.NoError(t, err)
		changed, o := s.CachedInfo().Config, bustest.ConsumerInfo(t, b.JS, "work").Config
		if e.consumer != nil {
			e.consumer(&o)
			_, err = s.UpdateConsumer(t.Context(), o)
		} else {
			e.change(&changed)
			_, err = b.JS.UpdateStream(t.Context(), changed)
		}
		require.NoError(t, err, name)
		changes, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
		require.NoError(t, err, name)
		if name != "max_msg_size" { // follows from the server, or is the operator's
			require.NotEmpty(t, changes, name)
			for _, c := range changes {
				require.True(t, c.Done, "%s: %+v", name, c)
			}
			d, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
			require.NoError(t, err)
			for _, one := range d {
				require.Equal(t, "max_msg_size", one.Setting, "%s: %+v", name, one)
			}
		}
	}
}

// TestPausedConsumerIsReported with the command that resumes it, and resumes when it does.
func TestPausedConsumerIsReported(t *testing.T) {
	t.Parallel()
	b := comparing(t, false)
	pause := func(lane string, until time.Time) {
		t.Helper()
		_, err := b.JS.PauseConsumer(t.Context(), "DBRUNNER_JOBS_demo", lane, until)
		require.NoError(t, err)
	}
	for _, lane := range []string{"work", "migration", "health"} {
		pause(lane, time.Now().Add(time.Hour))
		p := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 })
		require.True(t, p[0].Stops())
		require.Contains(t, p[0].String(), "consumer DBRUNNER_JOBS_demo/"+lane+" is paused until 20")
		require.Equal(t, "nats consumer resume DBRUNNER_JOBS_demo "+lane, p[0].Remedy())
		require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()), "another runner starts all the same")
		require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
		top := bustest.Topology()
		top.AckWait = 20 * time.Second
		changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
		require.NoError(t, err)
		require.Len(t, changes, 3, "the pause is left as it is: %+v", changes)
		_, err = topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
		require.NoError(t, err)
		require.True(t, bustest.ConsumerInfo(t, b.JS, lane).Paused)
		pause(lane, time.Now().Add(-time.Second))
		awaitProblems(t, b, none)
	}
	pause("work", time.Now().Add(2*time.Second))
	awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 })
	awaitProblems(t, b, none) // it ends by itself
}

// TestSealedStreamIsReported: nothing opens it again.
func TestSealedStreamIsReported(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"DBRUNNER_JOBS_demo", "DBRUNNER_RESULTS_demo", "DBRUNNER_DEAD", "OBJ_DBRUNNER_ROWS"} {
		b := comparing(t, false)
		s, err := b.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		config := s.CachedInfo().Config
		config.Sealed = true
		_, err = b.JS.UpdateStream(t.Context(), config)
		require.NoError(t, err)
		found := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) > 0 })
		var sealed *topology.Problem
		for i := range found {
			if found[i].Setting == "sealed" {
				sealed = &found[i]
			}
		}
		require.NotNil(t, sealed, "%+v", found)
		require.True(t, sealed.Stops())
		require.Contains(t, sealed.Remedy(), "nats stream rm "+name)
	}
}

func allStreams() []string {
	return []string{
		"DBRUNNER_JOBS_demo", "DBRUNNER_RESULTS_demo", "DBRUNNER_DEAD", "DBRUNNER_HEALTH", "KV_DBRUNNER_CONTROL", "OBJ_DBRUNNER_ROWS",
		"OBJ_DBRUNNER_PARAMS",
	}
}

// TestRemovedStreamsAreCreatedAgain where the runner manages the topology, with a line in the log that cannot be missed.
func TestRemovedStreamsAreCreatedAgain(t *testing.T) {
	t.Parallel()
	b := comparing(t, false)
	for _, name := range allStreams() {
		before := len(recreations(b))
		require.NoError(t, b.JS.DeleteStream(t.Context(), name))
		require.Eventually(t, func() bool {
			d, err := topology.Diff(context.Background(), b.Conn, bustest.Topology())
			return err == nil && len(d) == 0
		}, 30*time.Second, 10*time.Millisecond, name)
		require.Eventually(t, func() bool { return len(recreations(b)) > before }, 30*time.Second, 5*time.Millisecond, name)
		awaitProblems(t, b, none)
	}
	for _, lane := range []string{"work", "migration", "health"} {
		require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", lane))
		require.Eventually(t, func() bool {
			_, err := b.JS.Consumer(context.Background(), "DBRUNNER_JOBS_demo", lane)
			return err == nil
		}, 30*time.Second, 10*time.Millisecond, lane)
	}
}

func recreations(b *comparison) []string {
	var out []string
	for _, entry := range b.Logs.FilterMessage("stream or consumer deleted while in use; creating it again, empty").All() {
		if entry.Level == zap.ErrorLevel {
			out = append(out, entry.ContextMap()["resource"].(string))
		}
	}
	return out
}

// TestRemovedStreamsAreReported where the runner creates nothing.
func TestRemovedStreamsAreReported(t *testing.T) {
	t.Parallel()
	b := comparing(t, true)
	for _, name := range allStreams() {
		require.NoError(t, b.JS.DeleteStream(t.Context(), name))
		p := awaitProblems(t, b, func(p []topology.Problem) bool { // a look during the removal may still have seen the stream
			return len(p) == 1 && p[0].String() == "stream "+name+" is missing"
		})
		require.True(t, p[0].Stops())
		require.Equal(t, "runner topology apply creates it", p[0].Remedy())
		_, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
		require.NoError(t, err)
		awaitProblems(t, b, none)
	}
	require.NoError(t, b.JS.DeleteConsumer(t.Context(), "DBRUNNER_JOBS_demo", "work"))
	p := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) > 0 })
	require.Equal(t, "consumer DBRUNNER_JOBS_demo/work is missing", p[0].String())
}

// TestAFillingAuditStreamIsReported from four fifths of its size on, as the one after it refuses actions.
func TestAFillingAuditStreamIsReported(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Audit.MaxBytes = 1 << 20
	b := watch(t, bustest.SetupOn(t, bustest.Server(t), top), top, false)
	awaitProblems(t, b, none)
	entry := make([]byte, 200<<10)
	for range 4 {
		_, err := b.JS.Publish(t.Context(), "dbrunner.audit.fleet.topology", entry)
		require.NoError(t, err)
	}
	awaitProblems(t, b, none)
	_, err := b.JS.Publish(t.Context(), "dbrunner.audit.fleet.topology", entry)
	require.NoError(t, err)
	p := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 })
	require.Equal(t, "stream DBRUNNER_AUDIT is more than 80 percent full", p[0].String())
	require.Contains(t, p[0].Remedy(), "raise topology.audit.max_bytes and run runner topology apply")
	require.False(t, p[0].Stops(), "jobs run")
	require.False(t, p[0].Note, "health is degraded")

	stream, err := b.JS.Stream(t.Context(), "DBRUNNER_AUDIT")
	require.NoError(t, err)
	require.Error(t, stream.Purge(t.Context()), "who did something cannot remove the record")
	require.Error(t, stream.DeleteMsg(t.Context(), 1))
	top.Audit.MaxBytes = 2 << 20
	_, err = topology.ApplyAudit(t.Context(), b.Conn, top)
	require.NoError(t, err)
	awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 && strings.Contains(p[0].String(), "max_bytes") })
}

// TestAStreamThatCannotBeCreatedAgainIsReported with the reason.
func TestAStreamThatCannotBeCreatedAgainIsReported(t *testing.T) {
	t.Parallel()
	node := limited(t, unlimited())
	b := watch(t, bustest.SetupOn(t, node, bustest.Topology()), bustest.Topology(), true)
	lower := unlimited()
	lower.MaxStreams = 5
	require.NoError(t, node.Server().GlobalAccount().UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": lower}))
	require.NoError(t, b.JS.DeleteStream(t.Context(), "DBRUNNER_DEAD"))
	p := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 && p[0].Failure != "" })
	require.Contains(t, p[0].String(), "stream DBRUNNER_DEAD is missing and could not be created")
	require.Contains(t, p[0].String(), "raise the account's limit of streams")
	require.True(t, p[0].Stops())
}

// TestAStreamWithoutALeaderIsReported: two of its three servers are gone.
func TestAStreamWithoutALeaderIsReported(t *testing.T) {
	t.Parallel()
	nodes := bustest.Cluster(t, 3)
	top := bustest.Topology()
	top.Replicas = 3
	conn, _ := bustest.Connect(t, nodes.URL())
	_, js := bustest.Plain(t, nodes.URL())
	require.NoError(t, topology.Manage(t.Context(), conn, top))
	b := watch(t, &bustest.Bundle{Conn: conn, JS: js}, top, true)
	awaitProblems(t, b, none)
	stopped := []*bustest.Node{nodes.StreamLeader("DBRUNNER_RESULTS_demo")}
	for _, n := range nodes.Nodes {
		if len(stopped) < 2 && n != stopped[0] {
			stopped = append(stopped, n)
		}
	}
	for _, n := range stopped {
		n.Stop()
	}
	p := awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) > 0 })
	require.True(t, p[0].Stops())
	require.Contains(t, p[0].String(), "cannot be read")
	for _, n := range stopped {
		n.Start()
	}
	awaitProblems(t, b, none)
}

// TestProblemsOutliveALostLink: nothing new is known without one, nor by a comparison that loses it on the way.
func TestProblemsOutliveALostLink(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	server := bustest.Setup(t)
	require.NoError(t, topology.Verify(t.Context(), server.Conn, top))
	b := watchEvery(t, server, top, false, time.Microsecond) // there is always one on the way
	require.NoError(t, b.JS.DeleteStream(t.Context(), "DBRUNNER_DEAD"))
	awaitProblems(t, b, func(p []topology.Problem) bool { return len(p) == 1 })
	b.Node.Stop()
	require.Eventually(t, func() bool { return !b.Conn.State().Connected }, 30*time.Second, time.Millisecond)
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); { // longer than a comparison may take
		require.Len(t, b.watch.Problems(), 1)
		time.Sleep(5 * time.Millisecond) // by the clock: what was on the way ends by itself
	}
	b.Node.Start()
	require.Eventually(t, func() bool { return b.Conn.State().Connected }, 30*time.Second, time.Millisecond)
	require.Len(t, b.watch.Problems(), 1)
}
