package schedule_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/cron"
	"dbrunner/internal/schedule"
)

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

const job = `{"sql":"SELECT 1"}`

// fleet is a server with some trackers.
type fleet struct {
	*bustest.Bundle
	t        *testing.T
	records  jetstream.KeyValue
	states   jetstream.KeyValue
	mu       sync.Mutex
	paused   map[string]bool
	rejected string // a text that makes a job be rejected
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{Bundle: bustest.Setup(t), t: t, paused: map[string]bool{}, rejected: "forbidden"}
	var err error
	f.records, err = f.JS.KeyValue(t.Context(), "DBRUNNER_SCHEDULES")
	require.NoError(t, err)
	f.states, err = f.JS.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	return f
}

// runner is one tracker.
type runner struct {
	*schedule.Tracker
	stop func()
}

// start starts a tracker on a connection of its own; change may change the options.
func (f *fleet) start(name string, change ...func(*schedule.Options)) *runner {
	f.t.Helper()
	conn, _ := bustest.Connect(f.t, f.Node.ClientURL(), func(o *bus.Options) { o.Instance = name })
	news := make(chan struct{}, 1)
	stop, err := schedules.Announced(conn, news)
	require.NoError(f.t, err)
	opts := schedule.Options{
		Records: schedules.Records(conn, time.Now), States: schedules.States(conn, time.Now), Store: schedules.New(conn),
		Databases: map[string]*schedule.Rules{bustest.Database: {Zones: cron.NewZones(), Retention: 48 * time.Hour, Check: f.check}},
		Runner:    name, Log: zaptest.NewLogger(f.t, zaptest.Level(zap.WarnLevel)), Link: conn.Link, News: news, Now: time.Now,
		Paused: func(key contract.ScheduleKey) (string, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return " by ada", f.paused[key.String()]
		},
		PausesKnown: func() bool { return true },
		Explain:     func(err error, _ time.Duration) string { return err.Error() },
	}
	for _, c := range change {
		c(&opts)
	}
	r := &runner{Tracker: schedule.New(opts)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		require.NoError(f.t, <-done)
		stop()
	})
	f.t.Cleanup(r.stop)
	return r
}

func (f *fleet) check(_ contract.ScheduleKey, body []byte) error {
	if strings.Contains(string(body), f.rejected) {
		return errors.New("it is rejected")
	}
	return nil
}

func (f *fleet) put(key, record string) uint64 {
	f.t.Helper()
	revision, err := f.records.Put(f.t.Context(), key, []byte(record))
	require.NoError(f.t, err)
	return revision
}

// state returns the state of a schedule; nil: it has none.
func (f *fleet) state(key string) *contract.ScheduleState {
	f.t.Helper()
	e, err := f.states.Get(context.Background(), contract.ScheduleStateKey(key))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	require.NoError(f.t, err)
	s, err := contract.ReadScheduleState(e.Value())
	require.NoError(f.t, err)
	return s
}

// await waits until the state of a schedule is so.
func (f *fleet) await(key string, so func(*contract.ScheduleState) bool) *contract.ScheduleState {
	f.t.Helper()
	var s *contract.ScheduleState
	require.Eventually(f.t, func() bool {
		s = f.state(key)
		return s != nil && so(s)
	}, 60*time.Second, 20*time.Millisecond, "%s", key)
	return s
}

// published is a job in the stream.
type published struct {
	MessageID string
	ID        string    `json:"id"`
	ExpiresAt time.Time `json:"expires_at"`
	SQL       string    `json:"sql"`
	Subject   string
}

// jobs lists the jobs in the stream.
func (f *fleet) jobs() (out []published) {
	f.t.Helper()
	s, err := f.JS.Stream(f.t.Context(), "DBRUNNER_JOBS_"+bustest.Database)
	require.NoError(f.t, err)
	for seq := s.CachedInfo().State.FirstSeq; seq <= s.CachedInfo().State.LastSeq; seq++ {
		m, err := s.GetMsg(f.t.Context(), seq)
		require.NoError(f.t, err)
		p := published{MessageID: m.Header.Get("Nats-Msg-Id"), Subject: m.Subject}
		require.NoError(f.t, json.Unmarshal(m.Data, &p))
		out = append(out, p)
	}
	return out
}

func settled(s *contract.ScheduleState) uint64 { return s.Fired + s.Missed + s.Skipped + s.Unconfirmed }

// TestNothingFiresBeforeThePausesAreKnown: a runner with a new link, whose schedule was paused meanwhile, fires nothing until it has read
// that.
func TestNothingFiresBeforeThePausesAreKnown(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.often"
	var known atomic.Bool
	var asked atomic.Int64
	f.start("runner", func(o *schedule.Options) {
		o.PausesKnown = func() bool {
			asked.Add(1)
			return known.Load()
		}
	})
	f.put(key, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	require.Eventually(t, func() bool { return asked.Load() >= 5 }, 60*time.Second, 20*time.Millisecond, "it asks each second, while ticks are due")
	require.Nil(t, f.state(key))
	f.mu.Lock()
	f.paused[key] = true
	f.mu.Unlock()
	known.Store(true)
	s := f.await(key, func(s *contract.ScheduleState) bool { return settled(s) >= 3 })
	require.Equal(t, settled(s), s.Skipped)
}

// TestTicksAreFired: three runners fire each tick once, with an id of its own.
func TestTicksAreFired(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.often"
	for i := range 3 {
		f.start(fmt.Sprintf("runner%d", i))
	}
	f.put(key, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= 4 })
	require.Equal(t, contract.ScheduleActive, s.Status)
	id, err := contract.ParseScheduleKey(key)
	require.NoError(t, err)
	seen := map[string]bool{}
	for i, p := range f.jobs()[:4] {
		require.Equal(t, "dbrunner.jobs.demo.query", p.Subject)
		require.Equal(t, "SELECT 1", p.SQL)
		require.Equal(t, "schedule."+p.ID, p.MessageID)
		tick := s.Anchor.Add(time.Duration(i+1) * time.Second)
		require.Equal(t, id.TickID(tick), p.ID)
		require.WithinDuration(t, tick.Add(24*time.Hour), p.ExpiresAt, time.Second)
		require.False(t, seen[p.ID])
		seen[p.ID] = true
	}
	require.Zero(t, s.Missed+s.Skipped+s.Unconfirmed)
}

// TestAnOutage: the newest tick that was missed fires once, and older ones are counted; a schedule that was deleted and created again
// meanwhile starts afresh.
func TestAnOutage(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key, again = "jobs.demo.query.often", "jobs.demo.query.again"
	for _, k := range []string{key, again} {
		f.put(k, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	}
	first := f.start("first")
	f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= 1 })
	old := f.await(again, func(s *contract.ScheduleState) bool { return s.Fired >= 1 })
	first.stop()
	before := f.state(key)
	require.NoError(t, f.records.Delete(t.Context(), again))
	f.put(again, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	until := time.Now().Add(4 * time.Second)
	require.Eventually(t, func() bool { return time.Now().After(until) }, time.Minute, 10*time.Millisecond)
	f.start("second")
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= before.Fired+2 })
	require.GreaterOrEqual(t, s.Missed, uint64(2), "older ones are missed")
	require.Contains(t, s.LastMissed.Reason, "no runner")
	require.EqualValues(t, s.Position.Sub(s.Anchor)/time.Second, settled(s), "each tick is counted")
	s = f.await(again, func(s *contract.ScheduleState) bool { return s.Record.Created > old.Record.Created && s.Fired >= 1 })
	require.EqualValues(t, s.Position.Sub(s.Anchor)/time.Second, settled(s))
}

// TestBadRecords: one among 100 stops no other, whatever is wrong with it, and its state has the reason.
func TestBadRecords(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	bad := map[string]string{
		`later`: "not valid JSON", `{"cron":"@daily","every":"1s","job":` + job + `}`: "cron and every are given", `{"cron":"0 0 30 2 *","job":` + job + `}`: "never fires",
		`{"cron":"@daily","time_zone":"Europe/Berln","job":` + job + `}`: "is not known", `{"every":"1s","job":{"sql":"forbidden"}}`: "job: it is rejected",
		`{"every":"1s","catch_up":"47h","job":` + job + `}`: "catch_up", `{"every":"1500ms","job":` + job + `}`: "whole seconds", `{"every":"1s"}`: "job is missing",
	}
	n := 0
	for record := range bad {
		n++
		f.put(fmt.Sprintf("jobs.demo.query.bad%d", n), record)
	}
	f.put("jobs.demo.query", job)
	f.put("jobs.other.query.x", job)
	for i := range 100 {
		f.put(fmt.Sprintf("jobs.demo.query.good%d", i), `{"every":"1s","overlap":"allow","job":`+job+`}`)
	}
	r := f.start("r1")
	for i := range 100 {
		f.await(fmt.Sprintf("jobs.demo.query.good%d", i), func(s *contract.ScheduleState) bool { return s.Fired >= 1 })
	}
	for i := 1; i <= n; i++ {
		key := fmt.Sprintf("jobs.demo.query.bad%d", i)
		e, err := f.records.Get(t.Context(), key)
		require.NoError(t, err)
		s := f.await(key, func(s *contract.ScheduleState) bool { return s.Status == contract.ScheduleInError })
		require.Contains(t, s.Error, bad[string(e.Value())])
	}
	require.Eventually(t, func() bool { return r.Summary(bustest.Database).Failing == n }, time.Minute, 10*time.Millisecond)
	require.Equal(t, 100+n, r.Summary(bustest.Database).Total)

	// A corrected one fires.
	f.put("jobs.demo.query.bad1", `{"every":"1s","job":`+job+`}`)
	f.await("jobs.demo.query.bad1", func(s *contract.ScheduleState) bool { return s.Fired >= 1 && s.Error == "" })
}

// TestAnOlderReleaseStopsNoNewer: a runner that finds a record bad, which another one fires, leaves it alone.
func TestAnOlderReleaseStopsNoNewer(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.newer"
	older := f.start("older", func(o *schedule.Options) {
		o.Databases[bustest.Database].Check = func(contract.ScheduleKey, []byte) error { return errors.New("not understood") }
	})
	f.put(key, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	f.await(key, func(s *contract.ScheduleState) bool { return s.Status == contract.ScheduleInError })
	f.start("newer")
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= 3 })
	require.Zero(t, s.Unconfirmed+s.Skipped)
	require.Equal(t, contract.ScheduleActive, s.Status)
	require.Equal(t, 1, older.Summary(bustest.Database).Failing, "it reports that")
}

// TestWrongClocks: runners whose clocks are five minutes off fire nothing and report it, while another one fires in time.
func TestWrongClocks(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.often"
	var wrong []*runner
	for _, off := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		now := func() time.Time { return time.Now().Add(off) }
		conn, _ := bustest.Connect(t, f.Node.ClientURL())
		wrong = append(wrong, f.start(fmt.Sprintf("off%d", off), func(o *schedule.Options) {
			o.Now, o.Records, o.States = now, schedules.Records(conn, now), schedules.States(conn, now)
		}))
	}
	f.put(key, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	for _, r := range wrong {
		require.Eventually(t, func() bool { return strings.Contains(r.Trouble(), "clock is") }, time.Minute, 10*time.Millisecond)
		require.Contains(t, r.Trouble(), "5m0s off the NATS server's")
	}
	require.Nil(t, f.state(key), "they write nothing")
	f.start("right")
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= 2 })
	require.Equal(t, uint64(0), s.Unconfirmed)
	for _, r := range wrong {
		require.Zero(t, r.Ticks(bustest.Database).Fired)
	}
}

// TestOverlap: a tick is skipped as long as the message of the job before is in the stream.
func TestOverlap(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.long"
	f.put(key, `{"every":"1s","job":`+job+`}`)
	f.start("r1")
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Skipped >= 2 })
	require.EqualValues(t, 1, s.Fired)
	require.Contains(t, s.LastSkipped.Reason, "has not finished")
	stream, err := f.JS.Stream(t.Context(), "DBRUNNER_JOBS_"+bustest.Database)
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context()))
	f.await(key, func(s *contract.ScheduleState) bool { return s.Fired >= 2 })
}

// TestEdits lose no tick silently, and a pause skips.
func TestEdits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const key = "jobs.demo.query.edited"
	f.put(key, `{"every":"1s","overlap":"allow","job":`+job+`}`)
	f.start("r1")
	f.start("r2")
	for i := range 8 {
		n := f.await(key, func(s *contract.ScheduleState) bool { return settled(s) > 0 })
		f.put(key, fmt.Sprintf(`{"every":"1s","overlap":"allow","job":{"sql":"SELECT %d"}}`, i))
		f.await(key, func(s *contract.ScheduleState) bool { return settled(s) > settled(n) })
	}
	f.mu.Lock()
	f.paused[key] = true
	f.mu.Unlock()
	s := f.await(key, func(s *contract.ScheduleState) bool { return s.Skipped >= 2 })
	require.Equal(t, "paused by ada", s.LastSkipped.Reason)
	f.mu.Lock()
	f.paused[key] = false
	f.mu.Unlock()
	s = f.await(key, func(now *contract.ScheduleState) bool { return now.Fired >= s.Fired+2 })
	require.EqualValues(t, s.Position.Sub(s.Anchor)/time.Second, settled(s), "the position stays, and each tick is counted")
}
