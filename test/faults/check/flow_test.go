package check

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// flowing is a history in which the promises of queues, outboxes, schedules and pauses were kept.
func flowing() *History {
	h := good()
	h.FleetSlots = map[string]int{"shop.bulk": 2}
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	for i, s := range []Span{{"q1", at(0), at(100)}, {"q2", at(50), at(200)}, {"q3", at(100), at(150)}, {"q4", at(200), at(300)}} {
		sequence := uint64(100 + i)
		r := request(s.Request, ExactlyOnce, Succeeded)
		r.Queue = "bulk"
		a := answer(s.Request, s.Request, sequence, Succeeded, "")
		h.Requests[s.Request] = r
		h.Publications = append(h.Publications, Publication{Request: s.Request, Acked: true, Sequence: sequence})
		h.Effects = append(h.Effects, Row{"shop", s.Request, 0, 0, 0})
		h.Spans = append(h.Spans, s)
		keepAnswer(h, &a)
	}
	for i, name := range []string{"committed", "rolledback"} {
		r := request(name, ExactlyOnce, Succeeded)
		r.Outbox = "shop"
		h.Requests[name] = r
		if i == 0 {
			a := answer(name, name, 110, Succeeded, "")
			h.Publications = append(h.Publications, Publication{Request: name, Acked: true})
			h.Effects = append(h.Effects, Row{"shop", name, 0, 0, 0})
			keepAnswer(h, &a)
		}
	}
	h.Committed = map[string]bool{"committed": true}
	withTicks(h)
	h.PauseBound, h.AckWait = time.Second, 2*time.Second
	h.Pauses = []Pause{
		{Database: "shop", From: at(2000), Until: at(8000)},
		{Database: "shop", Queue: "bulk", From: at(2000), Until: at(8000)},
		{Database: "shop", Schedule: "jobs.shop.transaction.nightly", From: at(2000)},
	}
	return h
}

// withTicks adds a schedule with five ticks: two fired, one missed, one skipped, one unconfirmed, which has run.
func withTicks(h *History) {
	r := request("nightly", ExactlyOnce, Succeeded)
	r.ID, r.Schedule, r.Every = "", "jobs.shop.transaction.nightly", time.Second
	h.Requests["nightly"] = r
	s := Schedule{Request: "nightly", IDs: "nightly-abc-", Records: []time.Time{start.Add(-time.Millisecond)}}
	s.State = ScheduleState{Status: "active", Position: start.Add(5 * time.Second), Fired: 2, Missed: 1, Skipped: 1, Unconfirmed: 1}
	for i, tick := range s.Ticks(time.Second) {
		h.Publications = append(h.Publications, Publication{Request: "nightly", ID: s.ID(tick)})
		if i < 3 {
			a := answer(s.ID(tick), "nightly", uint64(120+i), Succeeded, "")
			h.Effects = append(h.Effects, Row{"shop", "nightly", 0, 0, 0})
			keepAnswer(h, &a)
		}
	}
	h.Schedules, h.SchedulesEnded = []Schedule{s}, start.Add(5*time.Second)
}

// startedAt moves the start of a job by a runner.
func startedAt(h *History, key string, ms int) *Answer {
	a := stored(h, key)
	a.Result.StartedAt = start.Add(time.Duration(ms) * time.Millisecond)
	return a
}

// keepAnswer stores an answer with its ledger row.
func keepAnswer(h *History, a *Answer) {
	h.Stored = append(h.Stored, *a)
	h.Ledger = append(h.Ledger, LedgerRow{Database: a.Database, JobID: a.Key, Status: a.Result.Status, Sequence: a.Result.Sequence, Answer: a.Body})
	h.Results[0].Messages++
	h.Results[0].Last++
}

func TestBrokenPromisesOfFlowAreReported(t *testing.T) {
	t.Parallel()
	require.Empty(t, Check(flowing()))
	for name, c := range map[string]struct {
		rule  string
		spoil func(h *History)
	}{
		"more jobs than fleet slots":       {"fleet_slots", func(h *History) { h.Spans[2].From = start.Add(99 * time.Millisecond) }},
		"a job of a queue executed twice":  {"fleet_slots", func(h *History) { h.Spans = append(h.Spans, h.Spans[0]) }},
		"a job of a queue without request": {"fleet_slots", func(h *History) { h.Spans[0].Request = "who" }},
		"a row that is left":               {"outbox", func(h *History) { h.Outbox = []OutboxRow{{"shop", "committed", ""}} }},
		"a row that is lost":               {"outbox", func(h *History) { without(h, "committed") }},
		"a row that was rolled back":       {"outbox", func(h *History) { h.Committed = map[string]bool{} }},
		"an effect of a row that was rolled back": {"outbox", func(h *History) {
			h.Effects = append(h.Effects, Row{"shop", "rolledback", 0, 0, 0})
		}},
		"a tick that is not counted":   {"ticks", func(h *History) { h.Schedules[0].State.Missed = 0 }},
		"a tick that is counted twice": {"ticks", func(h *History) { h.Schedules[0].State.Skipped = 2 }},
		"a tick that was lost": {"ticks", func(h *History) {
			h.Schedules[0].State.Fired, h.Schedules[0].State.Unconfirmed, h.Schedules[0].State.Missed = 4, 0, 0
		}},
		"a tick that is counted as missed": {"ticks", func(h *History) { h.Schedules[0].State.Unconfirmed, h.Schedules[0].State.Missed = 0, 2 }},
		"a schedule that stands still":     {"ticks", func(h *History) { h.SchedulesEnded = start.Add(6 * time.Second) }},
		"a tick that was not due": {"known_result", func(h *History) {
			*stored(h, "nightly-abc-20260301T120001Z") = answer("nightly-abc-20260301T115959Z", "nightly", 120, Succeeded, "")
		}},
		"a tick with two effects":           {"effects", func(h *History) { h.Effects = append(h.Effects, Row{"shop", "nightly", 0, 0, 0}) }},
		"a job that starts during a pause":  {"pauses", func(h *History) { startedAt(h, "move", 3100) }},
		"a job that starts late in a pause": {"pauses", func(h *History) { startedAt(h, "move", 7900) }},
		"a job that starts in a paused queue": {"pauses", func(h *History) {
			h.Pauses = h.Pauses[1:]
			startedAt(h, "q1", 3100)
		}},
		"a tick that is published during a pause": {"pauses", func(h *History) {
			stored(h, "nightly-abc-20260301T120003Z").Result.QueuedAt = start.Add(4 * time.Second)
			h.Pauses[2].From = start
		}},
		"a job that starts long after a fault": {"pauses", func(h *History) {
			h.Faults = []Fault{{Name: "nats_kill", From: start, Until: start.Add(3 * time.Second)}}
			startedAt(h, "move", 6100)
		}},
		"a job that starts after a fault of the database's network": {"pauses", func(h *History) {
			h.Faults = []Fault{{Name: "way_database", From: start, Until: start.Add(3 * time.Second)}}
			startedAt(h, "move", 5900)
		}},
		"a job that starts long after a slow read": {"pauses", func(h *History) {
			h.Delays = []Delay{{From: start.Add(1900 * time.Millisecond), Until: start.Add(2400 * time.Millisecond)}, {From: start.Add(6 * time.Second), Until: start.Add(9 * time.Second)}}
			startedAt(h, "move", 4600)
		}},
		"a job that another runner starts": {"pauses", func(h *History) {
			h.Faults = []Fault{{Name: "runner_stop", Note: "r2 for 5s", From: start, Until: start.Add(5 * time.Second)}}
			startedAt(h, "move", 3100)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := flowing()
			c.spoil(h)
			var reported []string
			for _, v := range Check(h) {
				require.NotEmpty(t, v.Text)
				reported = append(reported, v.Rule)
			}
			require.Contains(t, reported, c.rule)
		})
	}
}

func TestWhatFlowAllowsIsNotReported(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(h *History){
		"a job that starts within a second":     func(h *History) { startedAt(h, "move", 2900) },
		"a job that starts after the resume":    func(h *History) { startedAt(h, "move", 8100) },
		"a health check during a pause":         func(h *History) { startedAt(h, "move", 4000).Result.Kind = "health" },
		"a job of no queue while one is paused": func(h *History) { h.Pauses = h.Pauses[1:]; startedAt(h, "move", 4000) },
		"a runner that was frozen": func(h *History) {
			h.Faults = []Fault{{Name: "runner_stop", Note: "r1 for 5s", From: start, Until: start.Add(5 * time.Second)}}
			startedAt(h, "move", 5900)
		},
		"a runner that was cut off": func(h *History) {
			h.Faults = []Fault{{Name: "nats_cut", From: start, Until: start.Add(3 * time.Second)}}
			startedAt(h, "move", 5900)
		},
		"a runner whose network was slow": func(h *History) {
			h.Faults = []Fault{{Name: "way_slow", From: start, Until: start.Add(3 * time.Second)}}
			startedAt(h, "move", 5900)
		},
		"a fault that comes later": func(h *History) {
			h.Faults = []Fault{{Name: "nats_kill", From: start.Add(4 * time.Second), Until: start.Add(5 * time.Second)}}
			startedAt(h, "move", 2900)
		},
		"a busy machine": func(h *History) {
			h.Delays = []Delay{{From: start.Add(1900 * time.Millisecond), Until: start.Add(2400 * time.Millisecond)}}
			startedAt(h, "move", 4400)
		},
		"a schedule that stands still while clocks are wrong": func(h *History) { h.SchedulesEnded, h.Skewed = start.Add(time.Minute), true },
		"clocks that are wrong":                               func(h *History) { startedAt(h, "move", 4000); h.Skewed = true },
		"a claim that is settled during a pause": func(h *History) {
			stored(h, "nightly-abc-20260301T120002Z").Result.QueuedAt = start.Add(4 * time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := flowing()
			change(h)
			require.Empty(t, Check(h))
		})
	}
}
