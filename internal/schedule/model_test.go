package schedule_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/cron"
	"dbrunner/internal/schedule"
)

// The size of the model in the tests. With two faults or two ticks it takes minutes.
var (
	modelFaults = flag.Int("faults", 1, "faults in each history of the model")
	modelTicks  = flag.Int("ticks", 1, "ticks in each history of the model")
)

// The model runs the rule in all histories of a few runners, of whose steps each may come at any moment, with a number of faults: a
// runner that forgets everything, a publish whose answer is lost, a stream that refuses, an edit, a deletion and a recreation. A
// runner that does not get its turn is one that is frozen.

const (
	modelKey  = "jobs.demo.query.model"
	modelStep = 10 * time.Second // between two ticks
)

// modelRunner is a runner: its copies, and what it is about to do.
type modelRunner struct {
	Record schedule.Record
	State  schedule.State
	Fresh  bool
	Own    bool
	Before schedule.Predecessor
	Do     string // put, publish, confirm; empty: it decides next
	Action schedule.Action
	Claim  contract.ScheduleClaim
	Seq    uint64
}

// world is a moment of a history.
type world struct {
	Now     int // half steps
	Record  schedule.Record
	Edits   int
	State   schedule.State
	Rev     uint64
	Jobs    []string // tick and job, in the order of the stream
	Outcome map[string]string
	Faults  int
	Runners []modelRunner
}

// model explores.
type model struct {
	t     *testing.T
	rules *schedule.Rules
	start time.Time
	seen  map[string]bool
	defs  map[string]*schedule.Definition
	names map[*contract.ScheduleState]string
	texts map[string]string
	buf   []byte
	ends  int
}

func (m *model) time(half int) time.Time {
	return m.start.Add(time.Duration(half)*modelStep/2 + 300*time.Millisecond)
}

func (m *model) definition(r *schedule.Record) *schedule.Definition {
	if !r.Exists {
		return nil
	}
	key := string(r.Value) + r.Stored.String()
	if d := m.defs[key]; d != nil {
		return d
	}
	id, err := contract.ParseScheduleKey(modelKey)
	require.NoError(m.t, err)
	d, err := m.rules.Read(id, r.Value, r.Stored)
	require.NoError(m.t, err)
	m.defs[key] = d
	return d
}

func (w *world) clone() *world {
	out := *w
	out.Jobs = append([]string(nil), w.Jobs...)
	out.Outcome = map[string]string{}
	for k, v := range w.Outcome {
		out.Outcome[k] = v
	}
	out.Runners = append([]modelRunner(nil), w.Runners...)
	return &out
}

func (w *world) hash() string {
	text, err := json.Marshal(w)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// name returns a short name of a moment: the same for the same.
func (m *model) name(w *world) string {
	buf := fmt.Appendf(m.buf[:0], "%d %d %d %d %s %s|", w.Now, w.Edits, w.Faults, w.Rev, m.recordName(&w.Record), m.stateName(&w.State))
	for _, job := range w.Jobs {
		buf = append(append(buf, job...), ' ')
	}
	buf = fmt.Append(buf, w.Outcome)
	for i := range w.Runners {
		r := &w.Runners[i]
		buf = fmt.Appendf(buf, "|%s %s %t %t %s", m.recordName(&r.Record), m.stateName(&r.State), r.Fresh, r.Own, r.Do)
		if r.Do == "put" {
			buf = fmt.Appendf(buf, " %s", m.stateName(&schedule.State{Value: r.Action.State}))
		}
		if r.Do == "publish" || r.Do == "confirm" {
			buf = fmt.Appendf(buf, " %d %s %d %d", r.Claim.Tick.Unix(), r.Claim.Job, r.Claim.At.Unix(), r.Seq)
		}
	}
	m.buf = buf
	return string(buf)
}

func (m *model) recordName(r *schedule.Record) string {
	return fmt.Sprint(r.Exists, string(r.Value), r.Revision, r.Stored.Unix(), r.Created, r.Removed)
}

func (m *model) stateName(s *schedule.State) string {
	if s.Value == nil {
		return "-"
	}
	name := m.names[s.Value]
	if name == "" {
		text, err := contract.EncodeScheduleState(s.Value)
		require.NoError(m.t, err)
		if m.texts[string(text)] == "" {
			m.texts[string(text)] = fmt.Sprint(len(m.texts) + 1)
		}
		name = m.texts[string(text)]
		m.names[s.Value] = name
	}
	return name + "." + fmt.Sprint(s.Revision)
}

func (m *model) input(w *world, i int) *schedule.Input {
	r := &w.Runners[i]
	return &schedule.Input{
		Record: r.Record, Definition: m.definition(&r.Record), Fresh: r.Fresh, State: r.State, StatesFrom: m.start.Add(-time.Hour),
		Now: m.time(w.Now), Predecessor: r.Before, Runner: fmt.Sprint(i), Own: r.Own,
		Rank: func(time.Time) time.Duration { return 0 },
	}
}

// explore goes on from a moment in all ways.
func (m *model) explore(w *world) {
	h := m.name(w)
	if m.seen[h] {
		return
	}
	m.seen[h] = true
	moved := false
	go1 := func(next *world) {
		moved = true
		m.explore(next)
	}
	for i := range w.Runners {
		for _, next := range m.step(w, i) {
			go1(next)
		}
		if w.Faults > 0 { // it dies, and starts again
			next := w.clone()
			next.Faults--
			next.Runners[i] = modelRunner{Record: w.Record, State: w.State}
			go1(next)
		}
	}
	if w.Now < 2**modelTicks+1 {
		next := w.clone()
		next.Now++
		go1(next)
	}
	if w.Faults > 0 && w.Edits < 2 {
		for _, edit := range []string{"job", "times", "again"} {
			go1(m.edit(w, edit))
		}
	}
	if !moved {
		m.ends++
		m.judgeEnd(w)
	}
}

// edit changes the record.
func (m *model) edit(w *world, how string) *world {
	next := w.clone()
	next.Faults--
	next.Edits++
	now := m.time(w.Now)
	revision := w.Record.Revision
	put := func(text string) {
		revision++
		next.Record.Take(&schedules.Entry{Value: []byte(text), Sequence: revision, Time: now})
	}
	switch how {
	case "job":
		put(fmt.Sprintf(`{"every":"10s","overlap":"allow","job":{"sql":"SELECT %d"}}`, next.Edits+1))
	case "times":
		put(`{"every":"15s","overlap":"allow","job":{"sql":"SELECT 1"}}`)
	case "again":
		revision++
		next.Record.Take(&schedules.Entry{Deleted: true, Sequence: revision, Time: now})
		put(`{"every":"10s","overlap":"allow","job":{"sql":"SELECT 1"}}`)
	}
	return next
}

// step returns what may come of a runner's next step; nothing: it waits for the clock.
func (m *model) step(w *world, i int) (out []*world) {
	switch w.Runners[i].Do {
	case "put", "confirm":
		return []*world{m.write(w, i)}
	case "publish":
		return m.publish(w, i)
	}
	// It reads what is new, or goes on with its old copies: both are possible.
	if r := &w.Runners[i]; r.State.Revision != w.State.Revision || r.Record.Revision != w.Record.Revision {
		next := w.clone()
		next.Runners[i].State, next.Runners[i].Record, next.Runners[i].Fresh = w.State, w.Record, false
		out = append(out, next)
	}
	a := schedule.Decide(m.input(w, i))
	next := w.clone()
	r := &next.Runners[i]
	switch a.Verb {
	case schedule.Wait, schedule.PurgeRecord, schedule.PurgeState, schedule.LookUp:
		return out
	case schedule.ReadRecord:
		r.Record, r.Fresh = w.Record, true
	case schedule.Put:
		r.Do, r.Action = "put", a
	case schedule.Publish:
		r.Do, r.Claim = "publish", *a.Claim
	}
	return append(out, next)
}

// write is a compare-and-set of the state.
func (m *model) write(w *world, i int) *world {
	next := w.clone()
	r := &next.Runners[i]
	s := r.Action.State
	if r.Do == "confirm" {
		if r.State.Value == nil || r.State.Value.Claim == nil || *r.State.Value.Claim != r.Claim {
			r.Do = ""
			return next
		}
		s = schedule.Confirmed(r.State.Value, m.definition(&r.Record), r.Seq)
	}
	r.Own = false
	if r.State.Revision != w.State.Revision { // refused: both are read again
		r.State, r.Record, r.Fresh = w.State, w.Record, true
		if r.Do == "put" {
			r.Do = ""
		}
		return next
	}
	m.judge(next, w.State.Value, s)
	next.Rev++
	next.State = schedule.State{Exists: true, Revision: next.Rev, Stored: m.time(w.Now), Value: s}
	r.Own = s.Claim != nil && (w.State.Value == nil || w.State.Value.Claim == nil)
	r.State, r.Do = next.State, ""
	return next
}

// publish offers a job to the stream: it is stored, or was stored before; the answer arrives or is lost; or the stream refuses.
func (m *model) publish(w *world, i int) (out []*world) {
	c := w.Runners[i].Claim
	d := m.definition(&w.Runners[i].Record)
	require.NotNil(m.t, d)
	require.Equal(m.t, c.Job, d.Hash, "another job is published than was claimed: %s", w.hash())
	name := c.Tick.Format(time.TimeOnly) + " " + c.Job
	stored := w.clone()
	seq := uint64(0)
	for n, have := range w.Jobs {
		if have[:8] == name[:8] { // within the deduplication window
			seq = uint64(n) + 1
		}
	}
	if seq == 0 {
		if o := w.Outcome[name[:8]]; o == "missed" || o == "skipped" {
			require.Failf(m.t, "published though it was counted as "+o, "%s: %s", name, w.hash())
		}
		stored.Jobs = append(stored.Jobs, name)
		seq = uint64(len(stored.Jobs))
	}
	r := &stored.Runners[i]
	r.Do, r.Seq, r.Own = "confirm", seq, false
	out = append(out, stored)
	if w.Faults == 0 {
		return out
	}
	lost := stored.clone()
	lost.Faults--
	lost.Runners[i].Do = ""
	refused := w.clone()
	refused.Faults--
	refused.Runners[i].Do, refused.Runners[i].Own = "", false
	return append(out, lost, refused)
}

// judge checks a change of the state, and notes the outcome of each tick that it settles.
func (m *model) judge(w *world, before, after *contract.ScheduleState) {
	if before == nil || before.Record.Created != after.Record.Created {
		if before != nil {
			w.Outcome = map[string]string{} // it starts afresh
		}
		return
	}
	require.False(m.t, after.Position.Before(before.Position), "the position goes back")
	if after.Fired > before.Fired {
		name := after.LastFired.Tick.Format(time.TimeOnly)
		require.Empty(m.t, w.Outcome[name], "%s has two outcomes: %s", name, w.hash())
		w.Outcome[name] = "fired"
		found := false
		for _, job := range w.Jobs {
			found = found || job[:8] == name
		}
		require.True(m.t, found, "%s counts as fired and was not published", name)
	}
	if after.Unconfirmed > before.Unconfirmed {
		w.Outcome[after.LastUnconfirmed.Tick.Format(time.TimeOnly)] = "unconfirmed"
	}
	if after.Missed > before.Missed {
		name := after.LastMissed.Tick.Format(time.TimeOnly)
		require.Empty(m.t, w.Outcome[name], "%s has two outcomes", name)
		w.Outcome[name] = "missed"
	}
}

// judgeEnd checks a history that is over.
func (m *model) judgeEnd(w *world) {
	s := w.State.Value
	require.NotNil(m.t, s)
	if s.Claim != nil {
		require.True(m.t, s.Claim.At.Add(5*time.Second).After(m.time(w.Now)), "a claim stays: %s", w.hash())
		return // its runner may be dead: it is settled later
	}
	times := cron.Every(modelStep, s.Anchor)
	if s.Every == "15s" {
		times = cron.Every(15*time.Second, s.Anchor)
	}
	next, _ := times.Next(s.Position)
	require.True(m.t, next.After(m.time(w.Now)), "a tick that is due was not settled: %s", w.hash())
	if w.Edits == 0 {
		require.Equal(m.t, times.Count(m.start, m.time(w.Now)), settled(s), w.hash())
	}
	perTick := map[string]string{}
	for _, job := range w.Jobs {
		tick, hash := job[:8], job[9:]
		if other := perTick[tick]; other != "" && s.Record.Created == 1 {
			require.Equal(m.t, other, hash, "two jobs under one id")
		}
		perTick[tick] = hash
	}
}

// TestModel runs all histories of two runners. "go test -run Model -faults 2" runs more.
func TestModel(t *testing.T) {
	t.Parallel()
	m := &model{
		t: t, rules: &schedule.Rules{Zones: cron.NewZones()}, start: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC),
		seen: map[string]bool{}, defs: map[string]*schedule.Definition{},
		names: map[*contract.ScheduleState]string{}, texts: map[string]string{},
	}
	w := &world{Faults: *modelFaults, Outcome: map[string]string{}, Runners: make([]modelRunner, 2)}
	w.Record.Take(&schedules.Entry{Value: []byte(`{"every":"10s","overlap":"allow","job":{"sql":"SELECT 1"}}`), Sequence: 1, Time: m.start})
	for i := range w.Runners {
		w.Runners[i].Record = w.Record
	}
	m.explore(w)
	t.Logf("%d moments, %d ends", len(m.seen), m.ends)
	require.Positive(t, m.ends)
}
