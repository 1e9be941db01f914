package app_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/app"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/inspect"
	"dbrunner/internal/jobs"
	"dbrunner/internal/manager"
)

// limit is one limit of a server or an account. A runner with one database needs 7 streams of 8.125 GiB, the largest of
// 4 GiB, and 3 consumers of one stream.
type limit struct {
	low, enough any    // values of the field
	says        string // what check says about the low one; empty: a runner works with it
	degrades    bool   // a runner does jobs with the low one, but other parts of it do not work
}

const (
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// none is a limit that is no matter of a runner's start.
func none(low any) limit { return limit{low: low} }

// accountLimits are all limits of JetStream for an account.
func accountLimits() map[string]limit {
	return map[string]limit{
		"MaxMemory":            none(int64(0)), // all streams are files
		"MemoryMaxStreamBytes": none(int64(1)),
		"MaxStore":             {low: 8 * gib, enough: 8*gib + 256*mib, says: "insufficient storage resources available"},
		"MaxStreams":           {low: 6, enough: 7, says: "the account may have 6 streams"},
		"MaxConsumers":         {low: 2, enough: 3, says: "a stream of the account may have 2 consumers"},
		"MaxAckPending":        none(1), // adapted to
		"StoreMaxStreamBytes":  {low: 3 * gib, enough: 4 * gib, says: "stream max bytes exceeds account limit max stream bytes"},
		"MaxBytesRequired":     none(true),
	}
}

// jetStreamLimits are all limits of JetStream for a server.
func jetStreamLimits() map[string]limit {
	return map[string]limit{
		"MaxRequestBatch":           none(1), // adapted to, as the next
		"MaxAckPending":             none(1),
		"Duplicates":                none(time.Second),
		"MaxHAAssets":               none(1), // of clusters: not to be asked
		"MaxBatchInflightPerStream": none(1), // of batches, which runners do not publish
		"MaxBatchInflightTotal":     none(1),
		"MaxBatchSize":              none(1),
		"MaxBatchTimeout":           none(time.Millisecond),
		"DefaultMaxConsumers":       none(3), // below three: not to be asked
	}
}

// serverLimits are all options of a server that are limits by their name.
func serverLimits() map[string]limit {
	return map[string]limit{
		"MaxConn":                    none(64),
		"MaxSubs":                    {low: 10, enough: 200, says: "subscriptions"},
		"MaxSubTokens":               {low: uint8(3), enough: uint8(16), says: "refuses to subscribe dbrunner.api.run.>", degrades: true},
		"MaxPayload":                 {low: int32(512), enough: int32(256 << 10), says: "maximum payload exceeded"},
		"MaxControlLine":             {low: int32(64), enough: int32(4096), says: "maximum control line exceeded"},
		"MaxPending":                 none(1 * mib),
		"MaxPingsOut":                none(1),
		"MaxClosedClients":           none(1),
		"MaxTracedMsgLen":            none(1),
		"JetStreamMaxMemory":         none(1 * mib),
		"JetStreamMaxStore":          {low: 8 * gib, enough: 8*gib + 256*mib, says: "insufficient storage resources available"},
		"JetStreamMaxCatchup":        none(1 * mib),
		"JetStreamRequestQueueLimit": none(int64(128)),
		"JetStreamInfoQueueLimit":    none(int64(128)),
		"LogSizeLimit":               none(1 * mib),
		"LogMaxFiles":                none(int64(1)),
		"TLSRateLimit":               {}, // slows connections down
		"StreamMaxBufferedMsgs":      none(64),
		"StreamMaxBufferedSize":      none(1 * mib),
	}
}

// isLimit reports whether an option of the server is a limit, by its name.
func isLimit(name string) bool {
	return strings.Contains(name, "Max") || strings.Contains(name, "Limit")
}

func fields(of any, takes func(string) bool) []string {
	var names []string
	for f := range reflect.TypeOf(of).Fields() {
		if f.IsExported() && f.Name != "JetStreamLimits" && takes(f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

func keys(m map[string]limit) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	return names
}

// TestEachLimitIsKnown fails with a new release of the server that has a new limit.
func TestEachLimitIsKnown(t *testing.T) {
	t.Parallel()
	all := func(string) bool { return true }
	require.ElementsMatch(t, fields(server.JetStreamAccountLimits{}, all), keys(accountLimits()))
	require.ElementsMatch(t, fields(server.JSLimitOpts{}, all), keys(jetStreamLimits()))
	require.ElementsMatch(t, fields(server.Options{}, isLimit), keys(serverLimits()))
}

func set(of any, name string, value any) {
	reflect.ValueOf(of).Elem().FieldByName(name).Set(reflect.ValueOf(value))
}

func unlimited() server.JetStreamAccountLimits {
	return server.JetStreamAccountLimits{
		MaxMemory: -1, MaxStore: -1, MaxStreams: -1, MaxConsumers: -1, MaxAckPending: -1, MemoryMaxStreamBytes: -1, StoreMaxStreamBytes: -1,
	}
}

// limitAccount gives an account of a running server its limits: for a tier, or for all if that is empty.
func limitAccount(t *testing.T, node *bustest.Node, tier string, limits server.JetStreamAccountLimits) {
	t.Helper()
	account, all := node.Server().GlobalAccount(), map[string]server.JetStreamAccountLimits{tier: limits}
	if tier == "" {
		require.NoError(t, account.UpdateJetStreamLimits(all))
		return
	}
	require.NoError(t, account.DisableJetStream())
	require.NoError(t, account.EnableJetStream(all, nil))
}

// TestCheckKnowsEachLimit walks all limits, with what check says and with what serve does.
func TestCheckKnowsEachLimit(t *testing.T) {
	t.Parallel()
	walk := func(group string, limits map[string]limit, start func(t *testing.T, name string, value any) *bustest.Node) {
		for name, l := range limits {
			t.Run(group+"."+name, func(t *testing.T) {
				t.Parallel()
				switch {
				case l.degrades:
					w := &world{t: t, node: start(t, name, l.low)}
					require.Contains(t, strings.Join(faults(t, findings(t, w.config("checker", withSQLite(t, "shop")))), "\n"), l.says)
				case l.low != nil:
					agree(t, start(t, name, l.low), l.says)
				}
				if l.enough != nil {
					agree(t, start(t, name, l.enough), "")
				}
			})
		}
	}
	walk("account", accountLimits(), func(t *testing.T, name string, value any) *bustest.Node {
		t.Helper()
		node, limits := bustest.Server(t), unlimited()
		set(&limits, name, value)
		limitAccount(t, node, "", limits)
		return node
	})
	walk("jetstream", jetStreamLimits(), func(t *testing.T, name string, value any) *bustest.Node {
		t.Helper()
		return bustest.Server(t, func(o *server.Options) { set(&o.JetStreamLimits, name, value) })
	})
	walk("server", serverLimits(), func(t *testing.T, name string, value any) *bustest.Node {
		t.Helper()
		return bustest.Server(t, func(o *server.Options) { set(o, name, value) })
	})
}

// agree compares what check says with what serve does: it does not start, or it starts and does a job.
func agree(t *testing.T, node *bustest.Node, says string, change ...func(*config.Config)) {
	t.Helper()
	w := &world{t: t, node: node}
	change = append(change, withSQLite(t, "shop"))
	streams := node.Server().GlobalAccount().JetStreamUsage().Streams
	found := faults(t, findings(t, w.config("checker", change...)))
	require.Equal(t, streams, node.Server().GlobalAccount().JetStreamUsage().Streams, "check has created a stream")
	if says == "" {
		require.Empty(t, found)
	} else {
		require.Contains(t, strings.Join(found, "\n"), says)
	}
	wait := testTimeout
	if len(found) > 0 {
		wait = 5 * time.Second
	}
	require.Equal(t, len(found) == 0, w.serves(w.config("r1", change...), wait), "check: %v", found)
}

// serves starts a runner and reports whether it does a job.
func (w *world) serves(cfg *config.Config, wait time.Duration) bool {
	w.t.Helper()
	r := w.launch(app.Options{Config: cfg})
	select {
	case <-r.app.Started():
	case <-r.done:
		w.t.Log("serve: ", r.fails(w.t))
		return false
	case <-time.After(wait):
		r.stop() // what it creates would be counted as another one's; it may have failed by now
		r.wait(w.t)
		r.once.Do(func() {})
		w.t.Log("serve does not start")
		return false
	}
	nc, err := nats.Connect(w.node.ClientURL())
	require.NoError(w.t, err)
	defer nc.Close()
	inbox := nats.NewInbox()
	answers, err := nc.SubscribeSync(inbox)
	require.NoError(w.t, err)
	_, err = nc.Request("dbrunner.jobs.shop.query", []byte(fmt.Sprintf(`{"id":"a","sql":"SELECT 1","reply_to":%q}`, inbox)), 5*time.Second)
	require.NoError(w.t, err)
	_, err = answers.NextMsg(wait)
	r.end(w.t)
	return err == nil
}

// TestCheckCountsWhatIsThere compares limits with what the account has: streams of others, ours, and consumers of others.
func TestCheckCountsWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tier    string
		limits  server.JetStreamAccountLimits
		prepare func(t *testing.T, w *world)
		change  func(*config.Config)
		says    string
	}{
		"streams of others":           {limits: with("MaxStreams", 8), prepare: others(2, 1), says: "the account may have 8 streams and has 2"},
		"streams of others, enough":   {limits: with("MaxStreams", 9), prepare: others(2, 1)},
		"bytes of others":             {limits: with("MaxStore", 10*gib), prepare: others(1, 2*gib), says: "insufficient storage"},
		"bytes of others, enough":     {limits: with("MaxStore", 12*gib), prepare: others(1, 2*gib)},
		"some are there":              {limits: with("MaxStreams", 11), prepare: applied(other)},
		"some are there, too many":    {limits: with("MaxStreams", 11), prepare: applied(other, others(1, 1)), says: "the account may have 11 streams and has 9"},
		"all are there":               {limits: with("MaxStreams", 3), prepare: applied("shop")},
		"consumers of others":         {limits: with("MaxConsumers", 3), prepare: applied("shop", replaceConsumer), says: "may have 3 consumers, and it has 3"},
		"consumers of others, enough": {limits: with("MaxConsumers", 4), prepare: applied("shop", replaceConsumer)},
		"large streams, much of them": {limits: with("StoreMaxStreamBytes", 4*gib, "MaxStore", 8*gib), says: "insufficient storage"},
		"large streams, enough":       {limits: with("StoreMaxStreamBytes", 4*gib, "MaxStore", 9*gib)},
		"no storage":                  {limits: with("MaxStore", int64(0)), says: "insufficient storage"},
		"another tier":                {tier: "R3", limits: unlimited(), says: "no JetStream default or applicable tiered limit present"},
		"its tier":                    {tier: "R1", limits: with("MaxStreams", 7, "MaxStore", 9*gib, "MaxConsumers", 3)},
		"its tier, few streams":       {tier: "R1", limits: with("MaxStreams", 6), says: "the account may have 6 streams"},
		"its tier, taken":             {tier: "R1", limits: with("MaxStreams", 8), prepare: others(2, 1), says: "the account may have 8 streams and has 2"},
		"its tier, little":            {tier: "R1", limits: with("MaxStore", 8*gib), says: "insufficient storage"},
		"its tier, few consumers":     {tier: "R1", limits: with("MaxConsumers", 2), says: "may have 2 consumers"},
		"replicas without a cluster":  {limits: unlimited(), change: func(cfg *config.Config) { cfg.Topology.Replicas = 3 }, says: "replicas > 1 not supported"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			if c.tier != "" {
				limitAccount(t, w.node, c.tier, c.limits)
			}
			if c.prepare != nil {
				c.prepare(t, w)
			}
			if c.tier == "" {
				limitAccount(t, w.node, "", c.limits)
			}
			if c.change == nil {
				c.change = func(*config.Config) {}
			}
			agree(t, w.node, c.says, c.change)
		})
	}
}

// TestCheckAtACluster has limits that count each replica, and streams of which some are there. What the cluster's servers
// have room for cannot be asked: that is a note, and too few servers are a warning.
func TestCheckAtACluster(t *testing.T) {
	t.Parallel()
	c := bustest.Cluster(t, 3)
	replicas := func(cfg *config.Config) { cfg.Topology.Replicas = 3 }
	for _, step := range []struct {
		limits server.JetStreamAccountLimits
		says   string
	}{
		{with("StoreMaxStreamBytes", 4*gib, "MaxStore", 24*gib), "insufficient storage"}, // two streams are too many; the others are there from here on
		{with("MaxStore", 24*gib), "insufficient storage"},
		{with("MaxStreams", 6), "the account may have 6 streams"},
		{with("StoreMaxStreamBytes", 4*gib, "MaxStore", 24*gib), "insufficient storage"},
		{with("MaxStreams", 7, "MaxStore", 24*gib+512*mib), ""},
	} {
		for _, node := range c.Nodes {
			limitAccount(t, node, "", step.limits)
		}
		agree(t, c.Nodes[0], step.says, replicas)
	}
	w := &world{t: t, node: c.Nodes[0]}
	five := func(cfg *config.Config) { cfg.Namespace, cfg.Topology.Replicas = "five", 5 }
	for _, node := range c.Nodes {
		limitAccount(t, node, "", unlimited())
	}
	found := findings(t, w.config("checker", five, withSQLite(t, "shop")))
	require.True(t, slices.ContainsFunc(found, func(f inspect.Finding) bool {
		return f.Grade == inspect.GradeWarning && f.Text == "the cluster has 3 servers, but each stream needs 5 replicas"
	}), "%+v", found)
	require.True(t, slices.ContainsFunc(found, func(f inspect.Finding) bool {
		return f.Grade == inspect.GradeNote && strings.Contains(f.Text, "have room for the streams")
	}), "%+v", found)
}

// with is no limits but these.
func with(pairs ...any) server.JetStreamAccountLimits {
	limits := unlimited()
	for i := 0; i < len(pairs); i += 2 {
		set(&limits, pairs[i].(string), pairs[i+1])
	}
	return limits
}

// others makes streams that are no runner's, each of this size.
func others(n int, size int64) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		for i := range n {
			name := fmt.Sprintf("OTHER%d", i)
			_, err := w.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{name}, MaxBytes: size})
			require.NoError(t, err)
		}
	}
}

const other = "other" // a database

// applied makes the streams of a database, and more.
func applied(database string, more ...func(*testing.T, *world)) func(*testing.T, *world) {
	return func(t *testing.T, w *world) {
		t.Helper()
		conn, err := bus.Connect(t.Context(), bus.Options{URL: w.node.ClientURL()})
		require.NoError(t, err)
		require.NoError(t, topology.Manage(t.Context(), conn, manager.Topology(w.config("maker", withSQLite(t, database)))))
		require.NoError(t, conn.Close(t.Context()))
		if database == other { // eight stay, and "shop" needs three more
			require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_DEAD"))
			require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_JOBS_"+database))
		}
		for _, f := range more {
			f(t, w)
		}
	}
}

// replaceConsumer replaces a runner's consumer with a different one.
func replaceConsumer(t *testing.T, w *world) {
	t.Helper()
	stream, err := w.js.Stream(t.Context(), "DBRUNNER_JOBS_shop")
	require.NoError(t, err)
	lane := ""
	for info := range stream.ListConsumers(t.Context()).Info() {
		lane = max(lane, info.Name)
	}
	require.NoError(t, stream.DeleteConsumer(t.Context(), lane))
	_, err = stream.CreateConsumer(t.Context(), jetstream.ConsumerConfig{Durable: "other", FilterSubjects: []string{"never.published"}, AckPolicy: jetstream.AckExplicitPolicy})
	require.NoError(t, err)
}

// checkTried checks that check tries the permission for each subject that the runner subscribes to as a service.
func checkTried(t *testing.T, w *world, cfg *config.Config) {
	t.Helper()
	tried := map[string]bool{}
	for _, r := range topology.RunnerPermissions(bus.Options{Instance: cfg.Instance}, topology.RightsOptions{Topology: manager.Topology(cfg), Run: true}) {
		tried[r.Subject] = tried[r.Subject] || r.Subscribe
	}
	connections, err := w.node.Server().Connz(&server.ConnzOptions{Subscriptions: true})
	require.NoError(t, err)
	found := 0
	for _, c := range connections.Conns {
		for _, subject := range c.Subs {
			if strings.Contains(c.Name, cfg.Instance) && strings.HasPrefix(subject, "dbrunner.api.") {
				require.Truef(t, tried[subject], "check does not try to subscribe to %s", subject)
				found++
			}
		}
	}
	require.NotZero(t, found)
}

// TestRunnerSubscriptions compares the number that check tries with what a runner holds.
func TestRunnerSubscriptions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	calls := catalogOf(t, t.TempDir(), map[string]string{"one": "sql: SELECT 1 AS n\n"}, jobs.Kinds()...)
	for databases, wanted := range map[int]uint32{0: 35, 1: 34, 3: 56} {
		instance := fmt.Sprintf("r%d", databases)
		var change []func(*config.Config)
		if databases == 0 { // one with calls
			change = append(change, withDatabase("bank", "sqlite", filepath.Join(t.TempDir(), "bank.db"), calls))
		}
		for i := range databases {
			change = append(change, withSQLite(t, fmt.Sprintf("db%d", i)))
		}
		cfg := w.config(instance, change...)
		require.EqualValues(t, wanted, inspect.Subscriptions(cfg))
		r := w.start(cfg)
		held := func() uint32 {
			connections, err := w.node.Server().Connz(&server.ConnzOptions{})
			require.NoError(t, err)
			for _, c := range connections.Conns {
				if strings.Contains(c.Name, instance) {
					return c.NumSubs
				}
			}
			return 0
		}
		require.Eventually(t, func() bool { return held() == wanted }, testTimeout, 20*time.Millisecond, "%d", held())
		checkTried(t, w, cfg)
		r.end(t)
	}
}
