package topology_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
)

// limited is a server whose account has limits of its own.
func limited(t *testing.T, limits server.JetStreamAccountLimits) *bustest.Node {
	t.Helper()
	node := bustest.Server(t)
	account := node.Server().GlobalAccount()
	require.NoError(t, account.UpdateJetStreamLimits(map[string]server.JetStreamAccountLimits{"": limits}))
	return node
}

func unlimited() server.JetStreamAccountLimits {
	return server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
}

// TestWhatFollowsFromTheServerIsNoConfiguration starts runners at a server whose largest message is another one than when
// the streams were created: they start, and apply flips nothing.
func TestWhatFollowsFromTheServerIsNoConfiguration(t *testing.T) {
	t.Parallel()
	for name, payload := range map[string]int32{"raised": 4 << 20, "lowered": 256 << 10} {
		largest := int32(1 << 20)
		node := bustest.Server(t, func(o *server.Options) { o.MaxPayload = largest })
		b := bustest.SetupOn(t, node, bustest.Topology())
		size := maxMsgSize(t, b.JS)
		largest = payload
		node.Restart()
		conn, _ := bustest.Connect(t, node.ClientURL())
		require.Equal(t, int(payload), conn.MaxPayload())
		require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()), name)
		require.NoError(t, topology.Verify(t.Context(), conn, bustest.Topology()), name)
		changes, err := topology.Apply(t.Context(), conn, bustest.Topology(), topology.ApplyOptions{})
		require.NoError(t, err)
		require.Empty(t, changes, name)
		_, js := bustest.Plain(t, node.ClientURL())
		require.Equal(t, size, maxMsgSize(t, js), name)
		d, err := topology.Diff(t.Context(), conn, bustest.Topology())
		require.NoError(t, err)
		require.Len(t, d, 1)
		require.True(t, d[0].Note)
		require.Contains(t, d[0].Remedy(), "topology.jobs.max_message_bytes")
	}
}

func maxMsgSize(t *testing.T, js jetstream.JetStream) int32 {
	t.Helper()
	s, err := js.Stream(t.Context(), "DBRUNNER_JOBS_"+database)
	require.NoError(t, err)
	return s.CachedInfo().Config.MaxMsgSize
}

// TestTheLargestMessageMayBeConfigured is the same for every runner then, whatever its server says.
func TestTheLargestMessageMayBeConfigured(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	top := bustest.Topology()
	top.Jobs.MaxMessage = 200 << 10
	require.ErrorContains(t, topology.Verify(t.Context(), b.Conn, top), "max_msg_size is 983040, the configuration says 204800")
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "stream DBRUNNER_JOBS_demo", What: "changed max_msg_size from 983040 to 204800", Done: true}}, changes)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()), "without the key the stream keeps it")
}

// TestLimitsOfAServer are adapted to: a runner starts, says so, and apply has nothing to do afterwards.
func TestLimitsOfAServer(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]server.JSLimitOpts{
		"duplicate_window":  {Duplicates: 30 * time.Second},
		"max_ack_pending":   {MaxAckPending: 50},
		"max_request_batch": {MaxRequestBatch: 3},
		"all":               {Duplicates: time.Second, MaxAckPending: 7, MaxRequestBatch: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := bustest.Server(t, func(o *server.Options) { o.JetStreamLimits = limits })
			b := bustest.SetupOn(t, node, bustest.Topology())
			require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()))
			require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
			for range 2 {
				changes, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
				require.NoError(t, err)
				require.Empty(t, changes)
			}
			differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
			require.NoError(t, err)
			require.NotEmpty(t, differences)
			for _, d := range differences {
				require.True(t, d.Note, "%+v", d)
			}
			b.Publish(t, "query", 40)
			r := bustest.Run(t, b.Conn, "work", 16)
			for range 40 {
				require.NoError(t, r.Next(t).Ack())
				r.Credits <- 1
			}
			b.AwaitEmpty(t)
			require.Zero(t, r.Intake.State().Recoveries)
		})
	}
}

// TestLimitsOfAnAccount are met by limits of every stream, and where they are not, the refusal has the fix.
func TestLimitsOfAnAccount(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		limit  func(*server.JetStreamAccountLimits)
		change func(*topology.Topology)
		remedy string // empty: it starts
	}{
		"max_bytes_required": {limit: func(l *server.JetStreamAccountLimits) { l.MaxBytesRequired = true }},
		"max_ack_pending":    {limit: func(l *server.JetStreamAccountLimits) { l.MaxAckPending = 20 }},
		"max_consumers":      {limit: func(l *server.JetStreamAccountLimits) { l.MaxConsumers = 3 }},
		"few consumers":      {limit: func(l *server.JetStreamAccountLimits) { l.MaxConsumers = 2 }, remedy: "raise the account's limit of consumers"},
		"max_streams":        {limit: func(l *server.JetStreamAccountLimits) { l.MaxStreams = 7 }},
		"few streams":        {limit: func(l *server.JetStreamAccountLimits) { l.MaxStreams = 6 }, remedy: "raise the account's limit of streams"},
		"little storage":     {limit: func(l *server.JetStreamAccountLimits) { l.MaxStore = 1 << 30 }, remedy: "lower max_bytes under topology"},
		"small streams":      {limit: func(l *server.JetStreamAccountLimits) { l.StoreMaxStreamBytes = 32 << 20 }, remedy: "lower max_bytes under topology"},
		"small streams, configured": {
			limit: func(l *server.JetStreamAccountLimits) { l.StoreMaxStreamBytes, l.MaxBytesRequired = 32<<20, true },
			change: func(x *topology.Topology) {
				x.Jobs.MaxBytes, x.Results.MaxBytes, x.Dead.MaxBytes, x.Control.MaxBytes, x.Health.MaxBytes = 1<<24, 1<<24, 1<<24, 1<<24, 1<<24
				x.Rows.MaxBytes, x.Params.MaxBytes = 1<<24, 1<<24
				x.Rows.MaxAge, x.Params.MaxAge = 25*time.Hour, time.Hour
			},
		},
	} {
		limits, top := unlimited(), bustest.Topology()
		c.limit(&limits)
		if c.change != nil {
			c.change(&top)
		}
		conn, _ := bustest.Connect(t, limited(t, limits).ClientURL())
		err := topology.Manage(t.Context(), conn, top)
		if c.remedy == "" {
			require.NoError(t, err, name)
			require.NoError(t, topology.Verify(t.Context(), conn, top), name)
			continue
		}
		require.ErrorContains(t, err, c.remedy, name)
	}
}

// TestStreamsOfAnEarlierRelease had no limit of bytes: they are no reason not to start, and apply adds it.
func TestStreamsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	for _, name := range []string{"DBRUNNER_HEALTH", "KV_DBRUNNER_CONTROL"} {
		s, err := b.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		config := s.CachedInfo().Config
		config.MaxBytes = -1
		_, err = b.JS.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	}
	require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	changes, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
	require.NoError(t, err)
	require.Len(t, changes, 2)
	differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Empty(t, differences)
}
