package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/bus/topology"
)

const (
	pauseKey    = "pause." + database
	stateStream = "KV_DBRUNNER_STATE"
)

var target = contract.PauseTarget{Database: database}

// eventually waits generously for what mostly takes milliseconds.
func eventually(t *testing.T, what func() bool, text ...any) {
	t.Helper()
	require.Eventually(t, what, 30*time.Second, 5*time.Millisecond, text...)
}

func paused(p *bustest.Paused) func() bool { return func() bool { return len(p.Keys()) == 1 } }

func free(p *bustest.Paused) func() bool { return func() bool { return len(p.Keys()) == 0 } }

func pauseFor(t *testing.T, conn *bus.Conn, reason string) uint64 {
	t.Helper()
	pause, err := control.SetPause(t.Context(), conn, target, contract.Pause{Reason: reason, By: "tester"})
	require.NoError(t, err)
	return pause.Revision
}

func resume(t *testing.T, conn *bus.Conn) {
	t.Helper()
	pause, err := control.ReadPause(t.Context(), conn, target)
	require.NoError(t, err)
	require.NotNil(t, pause)
	require.NoError(t, control.EndPause(t.Context(), conn, target, pause))
}

// TestPausesAreAnOrdinaryBucket: stock clients pause and resume; a record that cannot be read pauses all the same.
func TestPausesAreAnOrdinaryBucket(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	p := bustest.WatchPauses(t, b.Conn)
	require.Empty(t, p.Trouble())
	kv, err := b.JS.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	updates, err := kv.WatchAll(t.Context(), jetstream.UpdatesOnly())
	require.NoError(t, err)
	defer func() { _ = updates.Stop() }()

	revision, err := kv.Create(t.Context(), pauseKey, []byte(`{"reason":"upgrade","by":"ada"}`))
	require.NoError(t, err)
	require.Equal(t, pauseKey, (<-updates.Updates()).Key())
	eventually(t, paused(p))
	found := p.Of(database)[0]
	require.Equal(t, contract.ActivePause{Key: pauseKey, Revision: revision, Reason: "upgrade", By: "ada"}, found.ActivePause)
	require.WithinDuration(t, time.Now(), found.Since, time.Minute)

	revision, err = kv.Update(t.Context(), pauseKey, []byte(`{"reason":"longer"}`), revision)
	require.NoError(t, err)
	eventually(t, func() bool { return p.Of(database)[0].Revision == revision })
	for value, why := range map[string]string{
		"": "not valid JSON", "later": "not valid JSON", `[]`: "not a JSON object", `{"reason":1}`: "reason is not a string",
		`{"until":"x"}`: `unknown key "until"`, `{"by":"a","by":"b"}`: "duplicate key by", `{"by":"` + strings.Repeat("x", 300) + `"}`: "by is longer",
	} {
		revision, err = kv.Put(t.Context(), pauseKey, []byte(value))
		require.NoError(t, err)
		eventually(t, func() bool { return p.Of(database)[0].Revision == revision }, value)
		require.Contains(t, p.Of(database)[0].Reason, "the record pause.demo cannot be read: ", value)
		require.Contains(t, p.Of(database)[0].Reason, why, value)
	}
	require.NoError(t, kv.Delete(t.Context(), pauseKey))
	eventually(t, free(p))
	_, err = kv.Create(t.Context(), pauseKey, []byte(`{}`))
	require.NoError(t, err, "create after delete")
	eventually(t, paused(p))
	require.ErrorContains(t, kv.Purge(t.Context(), pauseKey), "10111", "purge is refused")
	require.NoError(t, kv.Delete(t.Context(), pauseKey))
	eventually(t, free(p))
	for _, key := range []string{"pause.other", "pause.demo.queue.bulk", "pause.demo.schedule.jobs.demo.query.x", "schedule.demo"} {
		_, err := kv.Put(t.Context(), key, []byte(`{}`))
		require.NoError(t, err)
	}
	require.NoError(t, kv.Delete(t.Context(), "pause.other"))
	eventually(t, func() bool {
		return slices.Equal(p.Keys(), []string{"pause.demo.queue.bulk", "pause.demo.schedule.jobs.demo.query.x"})
	}, "nothing else pauses the database or a part of it")
}

// TestPausesAreReadBeforeReady: a runner that starts, or whose link was renewed, knows the pauses before it takes work.
func TestPausesAreReadBeforeReady(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	pauseFor(t, b.Conn, "before")
	p := bustest.WatchPauses(t, b.Conn)
	require.Len(t, p.Applied(), 1, "it was applied before Ready")
	for cycle := range 3 {
		b.Node.Stop()
		b.Node.Start()
		other, _ := bustest.Connect(t, b.Node.ClientURL())
		if cycle%2 == 0 {
			resume(t, other)
		} else {
			pauseFor(t, other, "again")
		}
		eventually(t, func() bool { _, connected := b.Conn.Link(); return connected })
		before := len(p.Applied())
		eventually(t, func() bool { return len(p.Keys()) == cycle%2 })
		require.NoError(t, p.Ready(t.Context()))
		require.LessOrEqual(t, before, len(p.Applied()))
	}
}

// TestAPauseIsKnownWithinASecond also if its announcement is lost.
func TestAPauseIsKnownWithinASecond(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "deaf", Password: "d", Permissions: &server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"dbrunner.state.>"}},
		}},
	))
	admin, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, topology.Manage(t.Context(), admin, bustest.Topology()))
	deaf, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "deaf", "d" })
	p := bustest.WatchPauses(t, deaf)
	fast := 0
	for range 5 {
		started := time.Now()
		pauseFor(t, admin, "x")
		eventually(t, paused(p))
		if time.Since(started) < time.Second {
			fast++
		}
		resume(t, admin)
		eventually(t, free(p))
	}
	assert.Positive(t, fast, "none of five within a second, by polling alone")
}

// TestPausesOutliveTheirBucket: a bucket that was removed, recreated or replaced ends no pause; the end of a pause counts.
func TestPausesOutliveTheirBucket(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"manage", "verify"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			b := bustest.Setup(t)
			second, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance = "second" })
			if mode == "verify" {
				require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()))
				require.NoError(t, topology.Verify(t.Context(), second, bustest.Topology()))
			}
			runners := []*bustest.Paused{bustest.WatchPauses(t, b.Conn), bustest.WatchPauses(t, second)}
			pauseFor(t, b.Conn, "keep")
			for _, p := range runners {
				eventually(t, paused(p))
			}
			require.NoError(t, b.JS.DeleteStream(t.Context(), stateStream))
			if mode == "verify" {
				for _, p := range runners {
					eventually(t, func() bool {
						return strings.Contains(p.Trouble(), "is missing; the pauses that this runner has read stay in force")
					})
				}
				admin, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance = "admin" })
				_, err := topology.Apply(t.Context(), admin, bustest.Topology(), topology.ApplyOptions{})
				require.NoError(t, err)
			}
			kv := stateBucket(t, b.JS)
			eventually(t, func() bool {
				e, err := kv.Get(t.Context(), pauseKey)
				return err == nil && strings.Contains(string(e.Value()), "keep")
			}, "it is put back")
			for _, p := range runners {
				eventually(t, func() bool { return strings.Contains(p.Trouble(), "was recreated at ") })
				require.Equal(t, []string{pauseKey}, p.Keys())
				for _, applied := range p.Applied() {
					require.Len(t, applied, 1, "it never ended")
				}
			}
			require.NoError(t, kv.Delete(t.Context(), pauseKey))
			for _, p := range runners {
				eventually(t, free(p), "the end of a pause counts")
			}
			fresh, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance = "fresh" })
			require.Empty(t, bustest.WatchPauses(t, fresh).Keys())
		})
	}
}

func stateBucket(t *testing.T, js jetstream.JetStream) jetstream.KeyValue {
	t.Helper()
	var kv jetstream.KeyValue
	eventually(t, func() (there bool) {
		var err error
		kv, err = js.KeyValue(t.Context(), "DBRUNNER_STATE")
		return err == nil
	})
	return kv
}

// TestARecreatedBucketTakesNewRecordsFirst: a record or the end of a pause in the new bucket is not overwritten.
func TestARecreatedBucketTakesNewRecordsFirst(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology())) // no runner creates it
	p := bustest.WatchPauses(t, b.Conn)
	pauseFor(t, b.Conn, "old")
	eventually(t, paused(p))
	js := b.JS
	recreate := func() jetstream.KeyValue {
		stream, err := js.Stream(t.Context(), stateStream)
		require.NoError(t, err)
		require.NoError(t, js.DeleteStream(t.Context(), stateStream))
		_, err = js.CreateStream(t.Context(), stream.CachedInfo().Config)
		require.NoError(t, err)
		return stateBucket(t, js)
	}
	kv := recreate()
	_, err := kv.Put(t.Context(), pauseKey, []byte(`{"reason":"new"}`))
	require.NoError(t, err)
	eventually(t, func() bool { return len(p.Keys()) == 1 && p.Of(database)[0].Reason == "new" })
	e, err := kv.Get(t.Context(), pauseKey)
	require.NoError(t, err)
	require.JSONEq(t, `{"reason":"new"}`, string(e.Value()))
	kv = recreate()
	_ = kv.Delete(t.Context(), pauseKey)
	eventually(t, func() bool {
		_, err := kv.Get(t.Context(), pauseKey)
		return err != nil && len(p.Keys()) == 0 || err == nil
	}, "either the end was first, or the pause was put back before it")
}

// TestAPurgedRecordIsNoPause: a pause lasts while its record exists.
func TestAPurgedRecordIsNoPause(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	p := bustest.WatchPauses(t, b.Conn)
	pauseFor(t, b.Conn, "x")
	eventually(t, paused(p))
	stream, err := b.JS.Stream(t.Context(), stateStream)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.DBRUNNER_STATE."+pauseKey)))
	eventually(t, free(p))
	pauseFor(t, b.Conn, "again")
	eventually(t, paused(p))
	for range 10 { // among other entries, also within one look at the bucket
		_, err = stateBucket(t, b.JS).Put(t.Context(), "schedule.x", nil)
		require.NoError(t, err)
		require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("$KV.DBRUNNER_STATE."+pauseKey)))
	}
	_, err = stateBucket(t, b.JS).Put(t.Context(), "schedule.x", nil)
	require.NoError(t, err)
	eventually(t, free(p))
}

// TestPausesHaveNoAge: 25 hours later by the server's clock, a pause is there and the marks of ended ones have gone.
func TestPausesHaveNoAge(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	stream, err := b.JS.Stream(t.Context(), stateStream)
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	require.Zero(t, config.MaxAge)
	require.EqualValues(t, 5, config.MaxMsgsPerSubject)
	require.Equal(t, jetstream.DiscardNew, config.Discard)
	require.True(t, config.DenyDelete)
	require.False(t, config.AllowRollup)
	kv := stateBucket(t, b.JS)
	_, err = kv.Put(t.Context(), "pause.other", []byte(`{}`))
	require.NoError(t, err)
	require.NoError(t, kv.Delete(t.Context(), "pause.other"))
	pauseFor(t, b.Conn, "long")
	p := bustest.WatchPauses(t, b.Conn, func(o *control.PausesOptions) {
		o.Age = func(now, stored time.Time) time.Duration { return now.Add(25 * time.Hour).Sub(stored) }
	})
	require.Equal(t, []string{pauseKey}, p.Keys())
	eventually(t, func() bool {
		info, err := stream.Info(t.Context())
		return err == nil && info.State.Msgs == 1
	}, "the mark of the pause that ended was purged, and nothing else")
	require.Equal(t, []string{pauseKey}, p.Keys())
	fresh, _ := bustest.Connect(t, b.Node.ClientURL())
	require.Equal(t, []string{pauseKey}, bustest.WatchPauses(t, fresh).Keys())
}

// TestABucketAtItsLimit still takes a pause and a resume, and health reports it.
func TestABucketAtItsLimit(t *testing.T) {
	t.Parallel()
	top := bustest.Topology()
	top.State.MaxBytes = 1 << 20
	b := bustest.SetupOn(t, bustest.Server(t), top)
	p := bustest.WatchPauses(t, b.Conn)
	kv := stateBucket(t, b.JS)
	stream, err := b.JS.Stream(t.Context(), stateStream)
	require.NoError(t, err)
	fill := func(limit float64) {
		for i := 0; ; i++ {
			info, err := stream.Info(t.Context())
			require.NoError(t, err)
			if float64(info.State.Bytes) > limit*float64(top.State.MaxBytes) {
				return
			}
			if _, err = kv.Put(t.Context(), fmt.Sprintf("schedule.%v.%d", limit, i), make([]byte, 8<<10)); err != nil {
				_, err = kv.Put(t.Context(), fmt.Sprintf("schedule.%v.%d", limit, i), nil)
			}
			if err != nil {
				require.ErrorContains(t, err, "10077")
				return
			}
		}
	}
	fill(0.9) // runners write no more than that
	for range 30 {
		_, err := control.SetPause(t.Context(), b.Conn, target, contract.Pause{Reason: strings.Repeat("x", 1000)})
		require.NoError(t, err)
		resume(t, b.Conn)
	}
	pauseFor(t, b.Conn, "last")
	eventually(t, paused(p))
	eventually(t, func() bool { return strings.Contains(p.Trouble(), "percent full; raise topology.state.max_bytes") })
	fill(2) // other users have filled it
	for range 3 {
		resume(t, b.Conn) // its history makes room, or the record itself does
		eventually(t, free(p))
		pauseFor(t, b.Conn, "last")
		eventually(t, paused(p))
		fill(2)
	}
	_, err = control.SetPause(t.Context(), b.Conn, contract.PauseTarget{Database: "another"}, contract.Pause{Reason: strings.Repeat("x", 1000)})
	require.ErrorIs(t, err, bus.ErrStreamFull)

	_, err = kv.Put(t.Context(), pauseKey, make([]byte, 33<<10))
	require.ErrorContains(t, err, "10054", "who may write one key cannot fill the bucket")
}

// TestPausesWithoutABucket: an installation of an earlier release works, and the missing bucket is reported.
func TestPausesWithoutABucket(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	require.NoError(t, b.JS.DeleteStream(t.Context(), stateStream))
	require.NoError(t, topology.Verify(t.Context(), b.Conn, bustest.Topology()), "a runner starts")
	p := bustest.WatchPauses(t, b.Conn)
	eventually(t, func() bool {
		return p.Trouble() == "the bucket DBRUNNER_STATE is missing, so that no database can be paused; runner topology apply creates it"
	})
	_, err := control.SetPause(t.Context(), b.Conn, target, contract.Pause{Reason: "x"})
	require.ErrorIs(t, err, bus.ErrNotFound)
	differences, err := topology.Diff(t.Context(), b.Conn, bustest.Topology())
	require.NoError(t, err)
	require.Equal(t, []topology.Difference{{Resource: "stream " + stateStream, Missing: true, Note: true}}, differences)
	watch := topology.NewWatch(b.Conn, bustest.Topology(), false)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- watch.Run(ctx, 10*time.Millisecond) }()
	eventually(t, func() bool { return len(watch.Problems()) == 1 })
	require.False(t, watch.Problems()[0].Stops())
	cancel()
	require.NoError(t, <-done)

	other, _ := bustest.Connect(t, b.Node.ClientURL())
	changes, err := topology.Apply(t.Context(), other, bustest.Topology(), topology.ApplyOptions{})
	require.NoError(t, err)
	require.Equal(t, []topology.Change{{Resource: "stream " + stateStream, What: "created", Done: true}}, changes)
	pauseFor(t, other, "now")
	eventually(t, paused(p), "without a restart")
	require.Empty(t, p.Trouble())
}

// TestPausesWithPermissionsOfAnEarlierRelease: such a runner works, obeys no pause and says so.
func TestPausesWithPermissionsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "old", Password: "o", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.*.KV_DBRUNNER_STATE", "$JS.API.STREAM.MSG.GET.KV_DBRUNNER_STATE"}},
			Subscribe: &server.SubjectPermission{Deny: []string{"dbrunner.state.>"}},
		}},
	))
	old, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "old", "o" })
	require.NoError(t, topology.Manage(t.Context(), old, bustest.Topology()), "it creates everything else")
	p := bustest.WatchPauses(t, old)
	eventually(t, func() bool {
		return strings.HasPrefix(p.Trouble(), "NATS does not permit this runner to read the bucket DBRUNNER_STATE, so that it obeys no pauses")
	})
}

// TestPermissionForOneKeyReachesNoOther: a user who may write one pause can remove no other, whatever headers it sends. The
// headers of the server are tried in internal/bus; here are those of buckets.
func TestPermissionForOneKeyReachesNoOther(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "a"},
		&server.User{Username: "one", Password: "o", Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"$KV.DBRUNNER_STATE.pause.one", "$JS.API.STREAM.INFO.KV_DBRUNNER_STATE"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"_INBOX.>"}},
		}},
	))
	admin, _ := bustest.Connect(t, node.ClientURL(), func(o *bus.Options) { o.User, o.Password = "admin", "a" })
	require.NoError(t, topology.Manage(t.Context(), admin, bustest.Topology()))
	p := bustest.WatchPauses(t, admin)
	revision := pauseFor(t, admin, "stays")
	nc, err := nats.Connect(node.ClientURL(), nats.UserInfo("one", "o"), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	for _, header := range []nats.Header{
		nil,
		{"KV-Operation": {"DEL"}},
		{"KV-Operation": {"PURGE"}},
		{"Nats-Rollup": {"all"}},
		{"Nats-Rollup": {"sub"}},
		{"KV-Operation": {"PURGE"}, "Nats-Rollup": {"all"}},
		{"Nats-TTL": {"1s"}},
		{"Nats-Expected-Last-Sequence": {"1"}},
	} {
		msg := &nats.Msg{Subject: "$KV.DBRUNNER_STATE.pause.one", Header: header, Data: []byte(`{}`)}
		answer, err := nc.RequestMsg(msg, 10*time.Second)
		require.NoError(t, err)
		var ack struct {
			Error *jetstream.APIError `json:"error"`
		}
		require.NoError(t, json.Unmarshal(answer.Data, &ack))
	}
	msg := &nats.Msg{Subject: "$KV.DBRUNNER_STATE." + pauseKey, Header: nats.Header{"KV-Operation": {"DEL"}}}
	_, err = nc.RequestMsg(msg, 200*time.Millisecond)
	require.Error(t, err)
	pause, err := control.ReadPause(t.Context(), admin, target)
	require.NoError(t, err)
	require.Equal(t, revision, pause.Revision)
	require.Equal(t, []string{pauseKey}, p.Keys())
}

// TestEndPauseEndsWhatWasRead, and no pause that was made meanwhile.
func TestEndPauseEndsWhatWasRead(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	pauseFor(t, b.Conn, "first")
	read, err := control.ReadPause(t.Context(), b.Conn, target)
	require.NoError(t, err)
	pauseFor(t, b.Conn, "second")
	require.ErrorIs(t, control.EndPause(t.Context(), b.Conn, target, read), control.ErrPauseChanged)
	read, err = control.ReadPause(t.Context(), b.Conn, target)
	require.NoError(t, err)
	require.Equal(t, "second", read.Reason)
	require.NoError(t, control.EndPause(t.Context(), b.Conn, target, read))
	require.NoError(t, control.EndPause(t.Context(), b.Conn, target, read), "as by an attempt whose answer was lost")
	read, err = control.ReadPause(t.Context(), b.Conn, target)
	require.NoError(t, err)
	require.Nil(t, read)
}
