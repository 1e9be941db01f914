package topology_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/bus/topology"
)

func TestManageTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	changes, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
	require.NoError(t, err)
	require.Empty(t, changes)
	differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Empty(t, differences)
}

func TestVerifyCreatesNothing(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	conn, _ := bustest.Connect(t, node.ClientURL())
	err := topology.Verify(t.Context(), conn, bustest.Topology())
	var differs *topology.Error
	require.ErrorAs(t, err, &differs)
	require.Len(t, differs.Differences, 10)
	require.True(t, differs.Differences[0].Missing)
	require.ErrorContains(t, err, "stream DBRUNNER_JOBS_demo is missing")
	require.ErrorContains(t, err, "consumer DBRUNNER_JOBS_demo/work is missing")
	require.ErrorContains(t, err, "runner topology apply")
	_, js := bustest.Plain(t, node.ClientURL())
	_, err = js.Stream(t.Context(), "DBRUNNER_JOBS_demo")
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
}

func TestDifferencesAreNamed(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	for name, change := range map[string]struct {
		edit     func(*topology.Topology)
		resource string
		setting  string
		have     string
		want     string
	}{
		"queue limit": {func(x *topology.Topology) { x.Jobs.MaxMsgs = 5; x.Jobs.MaxMsgsPerKind = 1_000_000 }, "stream DBRUNNER_JOBS_demo", "max_msgs", "1000000", "5"},
		"kind quota":  {func(x *topology.Topology) { x.Jobs.MaxMsgsPerKind = 7 }, "stream DBRUNNER_JOBS_demo", "max_msgs_per_subject", "1000000", "7"},
		"result age":  {func(x *topology.Topology) { x.Results.MaxAge = time.Hour }, "stream DBRUNNER_RESULTS_demo", "max_age", "24h0m0s", "1h0m0s"},
		"dead bytes":  {func(x *topology.Topology) { x.Dead.MaxBytes = 1 << 20 }, "stream DBRUNNER_DEAD", "max_bytes", "1073741824", "1048576"},
		"ack wait":    {func(x *topology.Topology) { x.AckWait = 3 * time.Second }, "consumer DBRUNNER_JOBS_demo/work", "ack_wait", "10s", "3s"},
		"pending":     {func(x *topology.Topology) { x.Databases[0].Lanes[0].MaxAckPending = 9 }, "consumer DBRUNNER_JOBS_demo/work", "max_ack_pending", "10000", "9"},
		"kinds": {
			func(x *topology.Topology) { x.Databases[0].Lanes[2].Kinds = []string{"health", "statement"} },
			"stream DBRUNNER_JOBS_demo", "subjects",
			"dbrunner.jobs.demo.health,dbrunner.jobs.demo.migration,dbrunner.jobs.demo.query,dbrunner.jobs.demo.transaction",
			"dbrunner.jobs.demo.health,dbrunner.jobs.demo.migration,dbrunner.jobs.demo.query,dbrunner.jobs.demo.statement,dbrunner.jobs.demo.transaction",
		},
	} {
		top := bustest.Topology()
		change.edit(&top)
		err := topology.Manage(t.Context(), b.Conn, top)
		var differs *topology.Error
		require.ErrorAs(t, err, &differs, name)
		require.Contains(t, differs.Differences, topology.Difference{
			Resource: change.resource, Setting: change.setting, Have: change.have, Want: change.want,
		}, name)
		for _, part := range []string{change.resource, change.setting, change.have, change.want, "runner topology apply"} {
			require.ErrorContains(t, err, part, name)
		}
	}
}

func TestSettingsTurnedOnByHandAreDifferences(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	stream, err := b.JS.Stream(t.Context(), "DBRUNNER_JOBS_demo")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	config.AllowRollup, config.AllowMsgTTL = true, true
	_, err = b.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	err = topology.Verify(t.Context(), b.Conn, bustest.Topology())
	require.ErrorContains(t, err, "allow_rollup_hdrs is on, the configuration says off")
	require.ErrorContains(t, err, "allow_msg_ttl is on, the configuration says off")
}

func TestApplyChangesWhatTheServerCan(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	top := bustest.Topology()
	top.Jobs.MaxMsgs, top.Jobs.MaxMsgsPerKind = 500, 50
	top.AckWait = 4 * time.Second
	top.Databases[0].Lanes[0].Kinds = []string{"query", "statement"}
	top.Databases[0].Lanes[1].Kinds = []string{"migration", "transaction"} // moves to another lane
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	for _, c := range changes {
		require.True(t, c.Done, "%+v", c)
	}
	require.NotEmpty(t, changes)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top))
}

func TestApplyReportsWhatTheServerCannotDo(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	conn, _ := bustest.Connect(t, node.ClientURL())
	_, js := bustest.Plain(t, node.ClientURL())
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "DBRUNNER_DEAD", Subjects: []string{"dbrunner.dead.>"}, Storage: jetstream.MemoryStorage,
	})
	require.NoError(t, err)
	changes, err := topology.Apply(t.Context(), conn, bustest.Topology(), topology.ApplyOptions{})
	require.NoError(t, err)
	var refused []topology.Change
	for _, c := range changes {
		if !c.Done {
			refused = append(refused, c)
		}
	}
	require.Len(t, refused, 1)
	require.Equal(t, "stream DBRUNNER_DEAD", refused[0].Resource)
	require.Contains(t, refused[0].What, "the server cannot")
	require.Contains(t, refused[0].What, "storage from Memory to File")
}

func TestApplyKeepsAKindWithWaitingJobs(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	b.Publish(t, "transaction", 2)
	top := bustest.Topology()
	top.Databases[0].Lanes[0].Kinds = []string{"query"}
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	require.False(t, changes[0].Done)
	require.Contains(t, changes[0].What, "2 messages wait on dbrunner.jobs.demo.transaction")
}

func TestPrune(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	two := bustest.Topology()
	two.Databases = append(two.Databases, topology.Database{
		Name: "old_db", Lanes: []topology.Lane{{Name: "work", Kinds: []string{"query"}}},
	})
	require.NoError(t, topology.Manage(t.Context(), b.Conn, two))
	_, err := b.JS.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DBRUNNER_JOBS_other", Subjects: []string{"other"}})
	require.NoError(t, err)
	_, err = b.JS.Publish(t.Context(), "dbrunner.jobs.old_db.query", []byte("x"))
	require.NoError(t, err)

	views, err := topology.Show(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	shown := map[string]bool{}
	for _, v := range views {
		shown[v.Name] = v.Configured
	}
	require.Equal(t, map[string]bool{
		"DBRUNNER_JOBS_demo": true, "DBRUNNER_RESULTS_demo": true, "DBRUNNER_DEAD": true, "DBRUNNER_HEALTH": true,
		"DBRUNNER_JOBS_old_db": false, "DBRUNNER_RESULTS_old_db": false, "KV_DBRUNNER_CONTROL": true, "KV_DBRUNNER_STATE": true,
		"KV_DBRUNNER_SCHEDULES": true, "DBRUNNER_AUDIT": true, "OBJ_DBRUNNER_ROWS": true, "OBJ_DBRUNNER_PARAMS": true,
	}, shown, "the foreign stream is none of ours")

	changes, err := topology.Prune(t.Context(), b.Conn, bustest.Topology(), false)
	require.NoError(t, err)
	require.Len(t, changes, 2)
	require.False(t, changes[0].Done)
	require.Contains(t, changes[0].What, "1 messages")
	require.True(t, changes[1].Done)

	changes, err = topology.Prune(t.Context(), b.Conn, bustest.Topology(), true)
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "stream DBRUNNER_JOBS_old_db", What: "removed", Done: true}}, changes)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	_, err = b.JS.Stream(t.Context(), "DBRUNNER_JOBS_other")
	require.NoError(t, err)
}

func TestTopologyFaultsAreReportedTogether(t *testing.T) {
	t.Parallel()
	conn, _ := bustest.Connect(t, bustest.Server(t).ClientURL())
	err := topology.Manage(t.Context(), conn, topology.Topology{
		Replicas: 9,
		Databases: []topology.Database{
			{Name: "a.b", Lanes: []topology.Lane{{Name: "work", Kinds: []string{"query"}}, {Name: "other", Kinds: []string{"query"}}}},
			{Name: "c"},
		},
	})
	for _, part := range []string{`database "a.b"`, "kind query is in lanes work and other", "database c has no lanes", "replicas 9"} {
		require.ErrorContains(t, err, part)
	}
}

func TestStreamsRefuseWhatTheyMustNotTake(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.Jobs.MaxMsgsPerKind = 2
	b := bustest.SetupOn(t, bustest.Server(t), top)
	ctx := t.Context()
	publish := func(subject string, header nats.Header, size int) error {
		_, err := b.JS.PublishMsg(ctx, &nats.Msg{Subject: subject, Header: header, Data: make([]byte, size)})
		return err
	}
	require.ErrorIs(t, publish("dbrunner.jobs.demo.unknown", nil, 1), jetstream.ErrNoStreamResponse)
	require.ErrorIs(t, publish("dbrunner.jobs.unknown.query", nil, 1), jetstream.ErrNoStreamResponse)
	const query = "dbrunner.jobs.demo.query"
	require.ErrorContains(t, publish(query, nats.Header{"Nats-Rollup": {"all"}}, 1), "10111")
	require.ErrorContains(t, publish(query, nats.Header{"Nats-TTL": {"1s"}}, 1), "10166")
	require.Error(t, publish(query, nats.Header{"Nats-Schedule": {"@at 2100-01-01T00:00:00Z"}, "Nats-Schedule-Target": {query}}, 1))
	require.ErrorContains(t, publish(query, nil, int(b.Plain.MaxPayload())-64<<10+1), "10054")
	require.NoError(t, publish(query, nil, int(b.Plain.MaxPayload())-64<<10))
	require.NoError(t, publish(query, nil, 1))
	err := publish(query, nil, 1)
	require.ErrorContains(t, err, "per subject")
	require.NoError(t, publish("dbrunner.jobs.demo.transaction", nil, 1), "the quota is each kind's own")

	// Two filters that overlap would deliver a job twice; the server refuses the second.
	_, err = b.JS.CreateConsumer(ctx, "DBRUNNER_JOBS_demo", jetstream.ConsumerConfig{
		Durable: "thief", FilterSubject: query, AckPolicy: jetstream.AckExplicitPolicy,
	})
	var api *jetstream.APIError
	require.ErrorAs(t, err, &api)
	require.EqualValues(t, 10100, api.ErrorCode)
}

func TestNamespaceIsUpperCasedInStreamNames(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.Namespace = "acme" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	views, err := topology.Show(t.Context(), conn, bustest.Topology())
	require.NoError(t, err)
	for _, v := range views {
		require.Regexp(t, `^(KV_|OBJ_)?ACME_`, v.Name)
		for _, s := range v.Subjects {
			require.Regexp(t, `^(acme\.|\$KV\.ACME_(CONTROL|STATE|SCHEDULES)\.|\$O\.ACME_(ROWS|PARAMS)\.)`, s)
		}
	}
	require.Len(t, views, 10)
}

func TestApplyDropsAKindWithoutPendingJobs(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	top := bustest.Topology()
	top.Databases[0].Lanes[0].Kinds = []string{"query"}
	top.Databases[0].Lanes = top.Databases[0].Lanes[:2]
	changes, err := topology.Apply(t.Context(), b.Conn, top, topology.ApplyOptions{})
	require.NoError(t, err)
	for _, c := range changes {
		require.True(t, c.Done, "%+v", c)
	}
	pruned, err := topology.Prune(t.Context(), b.Conn, top, false)
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "consumer DBRUNNER_JOBS_demo/health", What: "removed", Done: true}}, pruned)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, top))
	_, err = b.JS.Publish(t.Context(), "dbrunner.jobs.demo.transaction", nil)
	require.ErrorIs(t, err, jetstream.ErrNoStreamResponse)
}

func TestSeveralRunnersManageConcurrently(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t)
	errs := make(chan error, 5)
	for i := range cap(errs) {
		conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.Instance = fmt.Sprintf("runner%d", i) })
		go func() { errs <- topology.Manage(t.Context(), conn, bustest.Topology()) }()
	}
	for range cap(errs) {
		require.NoError(t, <-errs)
	}
}

func TestWithoutJetStreamItSaysSo(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) { o.JetStream = false })
	conn, _ := bustest.Connect(t, node.ClientURL())
	require.ErrorIs(t, topology.Manage(t.Context(), conn, bustest.Topology()), bus.ErrNoJetStream)
}

func TestDomain(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) { o.JetStreamDomain = "hub" })
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.Domain = "hub" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	_, _, err := bus.PublishJob(t.Context(), conn, database, "query", "a", nil, []byte("1"))
	require.NoError(t, err)
	m := bustest.Run(t, conn, "work", 1).Next(t)
	require.True(t, m.First())
	require.NoError(t, m.AckConfirmed(t.Context()))
	body, err := results.Of(conn, database).GetDirect(t.Context(), "a")
	require.NoError(t, err)
	require.Nil(t, body)
}
