package bus_test

import (
	"fmt"
	"go/build"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/objects"
	"dbrunner/internal/bus/topology"
)

// serverHeaders are all headers that this version of the server knows, as its own source names them.
func serverHeaders(t *testing.T) []string {
	t.Helper()
	pkg, err := build.Import("github.com/nats-io/nats-server/v2/server", ".", build.FindOnly)
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join(pkg.Dir, "*.go"))
	require.NoError(t, err)
	header, known := regexp.MustCompile(`"(Nats-[A-Za-z-]*[A-Za-z])"`), map[string]bool{"KV-Operation": true, "traceparent": true, "Status": true}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		source, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, found := range header.FindAllSubmatch(source, -1) {
			known[string(found[1])] = true
		}
	}
	require.Greater(t, len(known), 40, "the server's source is searched")
	for _, name := range []string{"Nats-Rollup", "Nats-TTL", "Nats-Incr", "Nats-Schedule", "Nats-Batch-Id", "Nats-Trace-Dest"} {
		require.Contains(t, known, name)
	}
	return slices.Sorted(maps.Keys(known))
}

// target is one stream of ours, a subject in it that the user under test may publish to, and where that is stored.
type target struct {
	stream, mine, stored string
	others               []string // subjects of others in the stream
	rollup               bool     // it takes Nats-Rollup; see decision 55
}

func targets() []target {
	return []target{
		{stream: "DBRUNNER_JOBS_demo", mine: "dbrunner.jobs.demo.query", others: []string{"dbrunner.jobs.demo.transaction", "dbrunner.jobs.demo.migration"}},
		{
			stream: "DBRUNNER_RESULTS_demo", mine: "dbrunner.store.demo.mine", stored: "dbrunner.results.demo.mine",
			others: []string{"dbrunner.store.demo.a", "dbrunner.store.demo.b"},
		},
		{stream: "DBRUNNER_DEAD", mine: "dbrunner.dead.demo.query.mine", others: []string{"dbrunner.dead.demo.query.a", "dbrunner.dead.other.query.b"}},
		{stream: "DBRUNNER_HEALTH", mine: "dbrunner.health.runner.mine", others: []string{"dbrunner.health.runner.a", "dbrunner.health.database.demo.b"}},
		{stream: "KV_DBRUNNER_CONTROL", mine: "$KV.DBRUNNER_CONTROL.demo.mine", others: []string{"$KV.DBRUNNER_CONTROL.demo.a", "$KV.DBRUNNER_CONTROL.other.b"}},
		{stream: "KV_DBRUNNER_STATE", mine: "$KV.DBRUNNER_STATE.pause.mine", others: []string{"$KV.DBRUNNER_STATE.pause.a", "$KV.DBRUNNER_STATE.pause.b"}},
		{stream: "DBRUNNER_AUDIT", mine: "dbrunner.audit.database.demo.mine", others: []string{"dbrunner.audit.database.demo.a", "dbrunner.audit.fleet.topology"}},
		{stream: "OBJ_DBRUNNER_ROWS", mine: "$O.DBRUNNER_ROWS.C.demo.mine", others: []string{"$O.DBRUNNER_ROWS.C.other.a", "$O.DBRUNNER_ROWS.M.YQ=="}},
		{stream: "OBJ_DBRUNNER_PARAMS", mine: "$O.DBRUNNER_PARAMS.C.mine", others: []string{"$O.DBRUNNER_PARAMS.C.a", "$O.DBRUNNER_PARAMS.M.YQ=="}, rollup: true},
	}
}

// TestNoHeaderTouchesWhatIsNotTheirs: a user who may publish one subject of a stream tries every header of the server on
// it, each with values that mean something somewhere, alone and as parts of both kinds of batches.
func TestNoHeaderTouchesWhatIsNotTheirs(t *testing.T) {
	t.Parallel()
	all := targets()
	var allowed []string
	for i := range all {
		allowed = append(allowed, all[i].mine)
	}
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "x"},
		&server.User{Username: "one", Password: "x", Permissions: &server.Permissions{
			Publish: &server.SubjectPermission{Allow: allowed}, Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.one.>"}},
		}}))
	conn, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "x" })
	require.NoError(t, topology.Manage(t.Context(), conn, bustest.Topology()))
	_, js := bustest.Plain(t, node.ClientURL(), nats.UserInfo("admin", "x"))
	one, _ := bustest.Plain(t, node.ClientURL(), nats.UserInfo("one", "x"), nats.CustomInboxPrefix("_INBOX.one"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	headers := serverHeaders(t)
	for i := range all {
		for _, subject := range all[i].others {
			_, err := js.Publish(t.Context(), subject, []byte(subject))
			require.NoError(t, err)
		}
	}
	others := watchOthers(t, node, all)
	before := snapshot(t, js, all)
	for i := range all {
		for _, header := range headers {
			if header == "Nats-Rollup" && all[i].rollup {
				continue
			}
			tryHeader(t, one, &all[i], header)
			require.Equal(t, before, snapshot(t, js, all), "%s on %s", header, all[i].mine)
		}
	}
	require.Empty(t, others(), "nothing reached subjects that the user may not publish to")
	for i := range all { // others go on
		if len(all[i].others) > 0 && all[i].stream != "DBRUNNER_RESULTS_demo" {
			_, err := js.Publish(t.Context(), all[i].others[0], nil)
			require.NoError(t, err)
		}
	}
}

// tryHeader publishes with one header in all variants and returns when the stream has been through all of them.
func tryHeader(t *testing.T, nc *nats.Conn, to *target, header string) {
	t.Helper()
	inbox := "_INBOX.one.answers"
	values := []string{
		"all", "sub", "1", "0", "-1", "+1", "1s", "never", "purge", "eob", "id", "@every 1s", "@at 2020-01-01T00:00:00Z", to.stream,
		to.others[0], ">", "$JS.API.STREAM.PURGE." + to.stream, to.mine, to.stream + " 1 > > " + to.others[0], "PURGE", `{"acc":"$G"}`,
	}
	n := 0
	for _, value := range values {
		for _, h := range []nats.Header{
			{header: {value}},
			{strings.ToLower(header): {value}},
			{header: {value}, "Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
			{header: {value}, "Nats-Schedule": {"@every 1s"}, "Nats-Schedule-Target": {to.others[0]}},
			{header: {value}, "Nats-Scheduler": {to.others[0]}, "Nats-Schedule-Next": {"purge"}},
			{header: {value}, "Nats-Expected-Last-Subject-Sequence-Subject": {to.others[0]}, "Nats-Expected-Last-Subject-Sequence": {"1"}},
		} {
			n++
			for _, reply := range []string{"", inbox, fmt.Sprintf("%s.fast%d.1.fail.1.2.$FI", inbox, n)} {
				require.NoError(t, nc.PublishMsg(&nats.Msg{Subject: to.mine, Reply: reply, Header: h}))
			}
		}
	}
	_, err := nc.Request(to.mine, nil, 30*time.Second) // whatever the answer is: what came before has been handled
	require.NoError(t, err)
}

// state is what a stream holds of others.
type state struct {
	Config   jetstream.StreamConfig
	Messages map[string]string // by sequence and subject
	Subjects []string          // without the user's own
}

func snapshot(t *testing.T, js jetstream.JetStream, all []target) map[string]state {
	t.Helper()
	out := make(map[string]state, len(all))
	for i := range all {
		stream, err := js.Stream(t.Context(), all[i].stream)
		require.NoError(t, err)
		info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
		require.NoError(t, err)
		own := all[i].stored
		if own == "" {
			own = all[i].mine
		}
		delete(info.State.Subjects, own)
		s := state{Config: info.Config, Messages: make(map[string]string), Subjects: slices.Sorted(maps.Keys(info.State.Subjects))}
		for _, subject := range s.Subjects {
			m, err := stream.GetLastMsgForSubject(t.Context(), subject)
			require.NoError(t, err)
			s.Messages[fmt.Sprint(m.Sequence, " ", subject)] = string(m.Data)
		}
		require.Len(t, s.Messages, len(all[i].others), all[i].stream)
		out[all[i].stream] = s
	}
	return out
}

// watchOthers collects the subjects of messages that are neither the user's own nor what streams re-publish of those.
func watchOthers(t *testing.T, node *bustest.Node, all []target) func() []string {
	t.Helper()
	nc, _ := bustest.Plain(t, node.ClientURL(), nats.UserInfo("admin", "x"))
	own := map[string]bool{"dbrunner.results.demo.mine": true, "dbrunner.control.demo.mine": true, "dbrunner.state.pause.mine": true}
	for i := range all {
		own[all[i].mine] = true
	}
	var mu sync.Mutex
	var seen []string
	for _, ours := range []string{"dbrunner.>", "$KV.>", "$O.>", "$JS.API.STREAM.PURGE.>"} {
		_, err := nc.Subscribe(ours, func(m *nats.Msg) {
			if !own[m.Subject] {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, m.Subject)
			}
		})
		require.NoError(t, err)
	}
	require.NoError(t, nc.Flush())
	return func() []string {
		require.NoError(t, nc.Flush())
		mu.Lock()
		defer mu.Unlock()
		return seen
	}
}

// A bucket that an earlier release has made keeps no runner from starting; apply changes it.
func TestSettingsOfAnEarlierReleaseAreNotes(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	for _, name := range []string{"KV_DBRUNNER_CONTROL", "OBJ_DBRUNNER_ROWS"} {
		stream, err := b.JS.Stream(t.Context(), name)
		require.NoError(t, err)
		config := stream.CachedInfo().Config
		require.False(t, config.AllowRollup, name)
		config.AllowRollup = true
		_, err = b.JS.UpdateStream(t.Context(), config)
		require.NoError(t, err)
	}
	bustest.WriteObject(t, objects.Rows(b.Conn), "before", bustest.Content(1000))
	require.NoError(t, topology.Manage(t.Context(), b.Conn, bustest.Topology()))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
	require.Equal(t, 4, b.Logs.FilterMessageSnippet("the runner works with it").Len(), "each start logs both")
	differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Len(t, differences, 2)
	for _, d := range differences {
		require.True(t, d.Note, "%+v", d)
	}
	changes, err := topology.Apply(t.Context(), b.Conn, bustest.Topology(), topology.ApplyOptions{})
	require.NoError(t, err)
	require.Len(t, changes, 2)
	for _, c := range changes {
		require.True(t, c.Done, "%+v", c)
	}
	differences, err = topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Empty(t, differences)
	bustest.WriteObject(t, objects.Rows(b.Conn), "after", bustest.Content(1000))
	got, err := bustest.ReadObject(t, objects.Rows(b.Conn), "before")
	require.NoError(t, err)
	require.Len(t, got, 1000)

	// What no release has made is refused as ever, also beside such a note.
	stream, err := b.JS.Stream(t.Context(), "KV_DBRUNNER_CONTROL")
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	config.AllowRollup, config.AllowMsgTTL = true, true
	_, err = b.JS.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	var differs *topology.Error
	require.ErrorAs(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()), &differs)
	require.Len(t, differs.Differences, 1)
	require.Equal(t, "allow_msg_ttl", differs.Differences[0].Setting)
}
