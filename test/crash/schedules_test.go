package crash

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

const scheduleKeys = "jobs.shop.transaction."

// inBucket does something with a key-value bucket, again until it succeeds.
func (w *world) inBucket(name string, do func(context.Context, jetstream.KeyValue) error) {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		ctx, cancel := context.WithTimeout(w.t.Context(), 2*time.Second)
		defer cancel()
		bucket, err := w.js.KeyValue(ctx, "DBRUNNER_"+name)
		return err == nil && do(ctx, bucket) == nil
	}, testTimeout, 20*time.Millisecond, "bucket %s", name)
}

// schedule creates a schedule that fires each second and leaves an effect of its name.
func (w *world) schedule(name string) {
	w.t.Helper()
	record := fmt.Sprintf(`{"every":"1s","overlap":"allow","job":{"statements":[{"sql":"INSERT INTO effects (name) VALUES ('%s')"}]}}`, name)
	w.inBucket("SCHEDULES", func(ctx context.Context, bucket jetstream.KeyValue) error {
		_, err := bucket.Put(ctx, scheduleKeys+name, []byte(record))
		return err
	})
}

// scheduleState reads the state of a schedule.
func (w *world) scheduleState(name string) *contract.ScheduleState {
	w.t.Helper()
	var out *contract.ScheduleState
	w.inBucket("STATE", func(ctx context.Context, bucket jetstream.KeyValue) error {
		entry, err := bucket.Get(ctx, "schedule."+scheduleKeys+name)
		if err != nil {
			return err
		}
		out, err = contract.ReadScheduleState(entry.Value())
		return err
	})
	return out
}

// ticks are how many ticks of a state were due, and how many are counted.
func ticks(s *contract.ScheduleState) (due, counted uint64) {
	return uint64(s.Position.Sub(s.Anchor) / time.Second), s.Fired + s.Missed + s.Skipped + s.Unconfirmed //nolint:gosec // it is not negative
}

// ticksAreCounted pauses schedules, waits until no claim is left and all their jobs have finished, and compares their states with the results
// and the effects. It returns how many ticks were due.
func (w *world) ticksAreCounted(names []string) (total uint64) {
	w.t.Helper()
	for _, name := range names {
		w.inBucket("STATE", func(ctx context.Context, bucket jetstream.KeyValue) error {
			_, err := bucket.Put(ctx, "pause.shop.schedule."+scheduleKeys+name, []byte(`{"reason":"the test is over"}`))
			return err
		})
	}
	paused := time.Now().Add(time.Second)
	require.Eventually(w.t, func() bool {
		for _, name := range names {
			if s := w.scheduleState(name); s.Claim != nil || !s.Position.After(paused) {
				return false
			}
		}
		return true
	}, testTimeout, 100*time.Millisecond, "the schedules are not settled")
	w.drained()
	results := w.resultsByPrefix()
	for _, name := range names {
		s := w.scheduleState(name)
		due, counted := ticks(s)
		total += due
		require.Equal(w.t, due, counted, "%s: %+v", name, s)
		require.GreaterOrEqual(w.t, results[name], s.Fired, "%s: %+v", name, s)
		require.LessOrEqual(w.t, results[name], s.Fired+s.Unconfirmed, "%s: %+v", name, s)
		require.Equal(w.t, int(results[name]), w.effects(name), "one effect for each result of %s", name) //nolint:gosec // it is small
	}
	return total
}

// resultsByPrefix counts the stored results, which have all succeeded, by what their ids start with.
func (w *world) resultsByPrefix() map[string]uint64 {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "DBRUNNER_RESULTS_shop")
	require.NoError(w.t, err)
	info, err := stream.Info(w.t.Context(), jetstream.WithSubjectFilter("dbrunner.results.shop.*"))
	require.NoError(w.t, err)
	out := map[string]uint64{}
	for subject, n := range info.State.Subjects {
		id := subject[strings.LastIndexByte(subject, '.')+1:]
		name, _, _ := strings.Cut(id, "-")
		require.EqualValues(w.t, 1, n, "%s has one result", id)
		require.Equal(w.t, "succeeded", w.stored(id).Status)
		out[name]++
	}
	return out
}

// Promise: a tick whose runner is killed at any step is counted once, and has one effect.
func TestTickKilledAtEachStep(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"schedule_claimed", "schedule_publishing", "schedule_published", "schedule_confirmed"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.schedule("tick")
			first.died()
			w.start("second")
			require.Eventually(t, func() bool { return w.scheduleState("tick").Fired >= 2 }, testTimeout, 50*time.Millisecond)
			w.ticksAreCounted([]string{"tick"})
			require.Zero(t, w.scheduleState("tick").Unconfirmed, "the claim of the first runner was settled")
			require.Empty(t, w.deadLetters())
		})
	}
}

// tickOnce creates a schedule with one tick, soon, whose job expires after that time, and returns the tick. With a retention of an hour and a minute,
// no larger catch_up is allowed.
func (w *world) tickOnce(expires time.Duration) time.Time {
	w.t.Helper()
	at := time.Now().Add(2 * time.Second).Truncate(time.Second)
	record := fmt.Sprintf(`{"at":%q,"catch_up":"50s","job":{"expires_in":%q,"statements":[{"sql":"INSERT INTO effects (name) VALUES ('once')"}]}}`,
		at.Format(time.RFC3339), expires)
	w.inBucket("SCHEDULES", func(ctx context.Context, bucket jetstream.KeyValue) error {
		_, err := bucket.Put(ctx, scheduleKeys+"once", []byte(record))
		return err
	})
	return at
}

// Promise: a runner that freezes between the claim of a tick and its publication, for longer than the ledger's retention, makes no second effect when
// it goes on, although the first one's ledger row and result are gone by then: whatever it publishes expired an hour before. The tick is counted once: as
// fired if a runner knows that its job was stored, and else as unconfirmed. The ledger's clock is the test's.
func TestTickFrozenBeyondTheRetention(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		place string
		other bool // another runner settles the claim meanwhile
	}{
		"before it decides to publish, another settles": {"schedule_claimed", true},
		"before it publishes, another settles":          {"schedule_publishing", true},
		"before it decides to publish, alone":           {"schedule_claimed", false},
		"before it publishes, alone":                    {"schedule_publishing", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tickFrozen(t, c.place, c.other)
		})
	}
}

func tickFrozen(t *testing.T, place string, other bool) {
	t.Helper()
	const retention, expires = time.Hour + time.Minute, 40 * time.Second
	w := newWorld(t)
	w.set("SHOP_LEDGER_RETENTION="+retention.String(), "SHOP_LEDGER_SWEEP_INTERVAL=1s", "RUNNER_TOPOLOGY_RESULTS_MAX_AGE=5s",
		"RUNNER_TOPOLOGY_RESULTS_MIN_AGE=1s", "RUNNER_TOPOLOGY_JOBS_DUPLICATE_WINDOW=1s")
	published, err := w.conn.SubscribeSync("dbrunner.jobs.shop.transaction")
	require.NoError(t, err)
	first := w.start("first", "DBRUNNER_FREEZE_AT="+place)
	w.serving()
	at := w.tickOnce(expires)
	require.Eventually(t, first.isFrozen, testTimeout, 10*time.Millisecond)
	id, effects := w.scheduleState("once").Claim.JobID, 0
	if other {
		w.start("second")
		require.Equal(t, "succeeded", w.stored(id).Status)
		effects = 1
	}
	require.Eventually(t, func() bool { return time.Now().After(at.Add(expires)) }, testTimeout, 50*time.Millisecond)
	w.exec(`UPDATE dbrunner.ledger SET recorded_at = recorded_at - $1::interval`, retention.String())
	require.Eventually(t, func() bool {
		var rows int
		err := w.pool.QueryRow(t.Context(), `SELECT count(*) FROM dbrunner.ledger`).Scan(&rows)
		return err == nil && rows == 0 && w.lookup(id) == nil
	}, testTimeout, 50*time.Millisecond, "ledger and results have not forgotten the job")
	first.thaw()
	if other { // what the first one publishes too, unless its request has timed out
		late, err := published.NextMsg(testTimeout)
		require.NoError(t, err)
		late.Reply = ""
		_, err = w.js.PublishMsg(t.Context(), late)
		require.NoError(t, err)
		require.Equal(t, "expired", w.stored(id).Status)
	}
	require.Eventually(t, func() bool { return w.scheduleState("once").Status == contract.ScheduleFinished }, testTimeout, 50*time.Millisecond)
	w.drained()
	s := w.scheduleState("once")
	require.Nil(t, s.Claim)
	require.EqualValues(t, 1, s.Fired+s.Unconfirmed, "%+v", s)
	require.Zero(t, s.Missed+s.Skipped, "%+v", s)
	if other || place == "schedule_claimed" {
		require.EqualValues(t, effects, s.Fired, "%+v", s)
	}
	require.Equal(t, effects, w.effects("once"), "no second effect")
}

// Promise: each of 1,000 ticks is counted once and has at most one effect, while 5 runners are killed, also between claim, publication
// and confirmation, and NATS restarts.
func TestThousandTicksWithKills(t *testing.T) {
	t.Parallel()
	const runners, schedules, wanted, kills = 5, 100, 1000, 25 // one is killed each 25 ticks
	w := newWorld(t)
	places := []string{"schedule_claimed", "schedule_published", "schedule_confirmed"}
	start := func(i, generation int) *runner {
		if generation == 0 {
			return w.start(fmt.Sprintf("runner%d", i))
		}
		return w.start(fmt.Sprintf("runner%d", i), fmt.Sprintf("DBRUNNER_CRASH_AT=%s:%d", places[generation%len(places)], 10+generation))
	}
	var fleet []*runner
	for i := range runners {
		fleet = append(fleet, start(i, 0))
	}
	w.serving()
	var names []string
	for i := range schedules {
		names = append(names, fmt.Sprintf("tick%d", i))
		w.schedule(names[i])
	}
	counted := func() (n uint64) {
		for _, name := range names {
			_, c := ticks(w.scheduleState(name))
			n += c
		}
		return n
	}
	died, restarted := 0, false
	replace := func(i int) {
		died++
		fleet[i] = start(i, died)
	}
	for next := uint64(kills); next <= wanted; next += kills {
		require.Eventually(t, func() bool {
			for i, r := range fleet {
				select {
				case <-r.exited: // it died where it was to die
					replace(i)
				default:
				}
			}
			return counted() >= next
		}, testTimeout, tickEvery)
		if victim := died % runners; next < wanted/2 || restarted {
			fleet[victim].kill()
			replace(victim)
		} else {
			w.node.Restart()
			restarted = true
		}
	}
	for i := range fleet {
		fleet[i].kill()
		fleet[i] = start(i, 0)
	}
	total := w.ticksAreCounted(names)
	require.GreaterOrEqual(t, total, uint64(wanted))
	require.True(t, restarted)
	require.Greater(t, died, runners)
	var fired, missed, unconfirmed uint64
	for _, name := range names {
		s := w.scheduleState(name)
		fired, missed, unconfirmed = fired+s.Fired, missed+s.Missed, unconfirmed+s.Unconfirmed
	}
	t.Logf("%d ticks: %d fired, %d missed, %d unconfirmed, %d deaths", total, fired, missed, unconfirmed, died)
}
