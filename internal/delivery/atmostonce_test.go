package delivery_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
)

// outage is how an execution at most once goes wrong in a test.
type outage uint8

const (
	noOutage      outage = iota
	heldElsewhere        // another session has the job's lock
	cutAtStart           // no answer to the row of the begin, which is not there
	cutInside            // started and executed, no answer
	cutAtEnd             // executed and answered, its end not written
	cutBehind            // its end written, no answer to that
	outages
)

// statements is a real database whose executions outside of transactions can be made to go wrong.
type statements struct {
	db.Database
	mu        sync.Mutex
	outages   []outage
	fail      error          // instead of an execution
	concludes []func() error // next calls of Conclude: an error instead of the work
	locked    int            // calls of Conclude that find the job's lock held
}

func (f *statements) Execute(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once,
) (db.ResultSet, error) {
	f.mu.Lock()
	next := noOutage
	if len(f.outages) > 0 {
		next, f.outages = f.outages[0], f.outages[1:]
	}
	f.mu.Unlock()
	cut := db.OutcomeUnknown(nil)
	switch next {
	case heldElsewhere, cutAtStart:
		if err := call.Begin(); err != nil {
			return db.ResultSet{}, err
		}
		if next == cutAtStart {
			return db.ResultSet{}, cut
		}
		return db.ResultSet{}, db.Errorf(db.ClassLocked, contract.CodeLockTimeout, "held")
	case cutInside, cutAtEnd:
		return f.half(ctx, call, stmt, opts, once, next == cutAtEnd)
	default:
	}
	if f.fail != nil {
		if err := call.Begin(); err != nil {
			return db.ResultSet{}, err
		}
		return db.ResultSet{}, f.fail
	}
	set, err := f.Database.Execute(ctx, call, stmt, opts, once)
	if next == cutBehind {
		return db.ResultSet{}, cut
	}
	return set, err
}

// half executes without writing the end.
func (f *statements) half(
	ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions, once *db.Once, known bool,
) (db.ResultSet, error) {
	if _, inserted, err := f.Record(ctx, once.Start); err != nil || !inserted {
		return db.ResultSet{}, db.Errorf(db.ClassAlreadyRecorded, contract.CodeUnique, "taken")
	}
	set, err := f.Database.Execute(ctx, call, stmt, opts, nil)
	if known {
		once.End(set, err)
	}
	return db.ResultSet{}, db.OutcomeUnknown(err)
}

func (f *statements) RecordEnd(ctx context.Context, end *db.Entry, own bool) (*db.Entry, bool, error) {
	if err := pop(&f.mu, &f.concludes)(); err != nil {
		return nil, false, err
	}
	f.mu.Lock()
	held := !own && f.locked > 0
	if held {
		f.locked--
	}
	f.mu.Unlock()
	if held {
		row, err := f.Lookup(ctx, end.JobID)
		return row, false, err
	}
	return f.Database.RecordEnd(ctx, end, own)
}

func setupStatements(t *testing.T) (*stage, *statements) {
	t.Helper()
	s := setup(t)
	f := &statements{Database: s.database}
	s.faults.Database = f
	return s, f
}

func statementJob(id, sql string) string {
	return job(id, fmt.Sprintf(`"sql":%q,"reply_to":"_INBOX.x.y","labels":{"a":"b"}`, sql))
}

// dies runs a first delivery whose runner starts the job and dies.
func (s *stage) dies(f *statements, body string) {
	s.t.Helper()
	f.outages, f.locked = []outage{cutInside}, 1
	require.Equal(s.t, delivery.Undecided, s.run(deliver("statement", body, 1, 1)).Action)
}

func TestStatementOnRecord(t *testing.T) {
	t.Parallel()
	s, _ := setupStatements(t)
	body := statementJob("a1", effect("a"))
	first := deliver("statement", body, 1, 1)
	require.Equal(t, contract.Succeeded, s.run(first).Status) // the result is lost
	again := deliver("statement", body, 1, 2)
	s.settle(again, s.run(again))
	got := read(t, s.results["a1"])
	require.Equal(t, "succeeded", got.Status)
	require.True(t, got.Duplicate)
	row, err := s.database.Lookup(t.Context(), "a1")
	require.NoError(t, err)
	require.Equal(t, contract.MarkDuplicate(row.Answer), s.results["a1"])
	require.Contains(t, string(row.Answer), `"rows_affected":1`)
	require.Equal(t, 1, s.count("a"))
	require.Empty(t, s.deadLetters)
}

func TestStatementStartedWithoutOutcome(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	body := statementJob("a1", effect("a"))
	s.dies(f, body)
	for number := uint64(2); number <= 3; number++ {
		d := deliver("statement", body, 1, number)
		s.settle(d, s.run(d))
		got := read(t, s.results["a1"])
		require.Equal(t, "unknown", got.Status)
		require.False(t, got.Duplicate)
		require.Equal(t, "outcome_unknown", got.Error.Code)
		require.Contains(t, string(s.results["a1"]), `"labels":{"a":"b"}`)
	}
	require.Equal(t, 1, s.count("a"), "never again")
	require.Equal(t, "unknown", s.deadLetters[0].Reason)
	row, err := s.database.Lookup(t.Context(), "a1")
	require.NoError(t, err)
	require.Equal(t, s.results["a1"], row.Answer)
}

func TestStatementWaitsWhileItGoesOn(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	body := statementJob("a1", effect("a"))
	s.dies(f, body)
	f.locked = 2
	d := deliver("statement", body, 1, 2)
	require.Equal(t, delivery.Undecided, s.run(d).Action)
	require.Equal(t, delivery.Undecided, s.run(d).Action)
	row, err := s.database.Lookup(t.Context(), "a1")
	require.NoError(t, err)
	require.Equal(t, db.StatusStarted, row.Status)
	other := *row // the first runner writes its end at last
	other.Status, other.Answer = "succeeded", jobsResult(t, s, body)
	_, written, err := s.database.RecordEnd(t.Context(), &other, true)
	require.NoError(t, err)
	require.True(t, written)
	s.settle(d, s.run(d))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
	require.Equal(t, 1, s.count("a"))
}

// jobsResult is a success's result of message 1, as another stage has it.
func jobsResult(t *testing.T, s *stage, body string) []byte {
	t.Helper()
	elsewhere, _ := setupStatements(t)
	d := deliver("statement", body, 1, 1)
	elsewhere.settle(d, elsewhere.run(d))
	require.NotSame(t, s, elsewhere)
	return elsewhere.results["a1"]
}

func TestStatementWhoseEndIsWrittenLater(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]outage{"not written": cutAtEnd, "written without an answer": cutBehind} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, f := setupStatements(t)
			f.outages = []outage{how}
			f.concludes = []func() error{classed(db.ClassUnavailable, contract.CodeUnavailable)}
			d := deliver("statement", statementJob("a1", effect("a")), 1, 1)
			require.Equal(t, delivery.AwaitDatabase, s.run(d).Action)
			s.settle(d, s.run(d))
			got := read(t, s.results["a1"])
			require.Equal(t, "succeeded", got.Status)
			require.False(t, got.Duplicate)
			require.Equal(t, 1, s.count("a"))
			row, err := s.database.Lookup(t.Context(), "a1")
			require.NoError(t, err)
			require.Equal(t, s.results["a1"], row.Answer)
		})
	}
}

func TestStatementWhoseEndComesTooLate(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	body := statementJob("a1", effect("a"))
	f.outages = []outage{cutAtEnd}
	f.concludes = []func() error{classed(db.ClassUnavailable, contract.CodeUnavailable)}
	slow := deliver("statement", body, 1, 1)
	require.Equal(t, delivery.AwaitDatabase, s.run(slow).Action)
	quick := deliver("statement", body, 1, 2)
	s.settle(quick, s.run(quick))
	s.settle(slow, s.run(slow))
	require.Equal(t, "unknown", read(t, s.results["a1"]).Status, "the first writer wins")
	require.Equal(t, 1, s.count("a"))
}

func TestStatementHeldElsewhere(t *testing.T) {
	t.Parallel()
	for _, how := range []outage{heldElsewhere, cutAtStart} {
		s, f := setupStatements(t)
		f.outages = []outage{how}
		d := deliver("statement", statementJob("a1", effect("a")), 1, 1)
		require.Equal(t, delivery.Undecided, s.run(d).Action)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	}
}

func TestStatementFails(t *testing.T) {
	t.Parallel()
	s, _ := setupStatements(t)
	body := statementJob("a1", `INSERT INTO later (n) VALUES (1)`)
	require.Equal(t, contract.Failed, s.run(deliver("statement", body, 1, 1)).Status)
	s.mustDo("", `CREATE TABLE later (n INTEGER)`) // now it would succeed
	again := deliver("statement", body, 1, 2)
	s.settle(again, s.run(again))
	got := read(t, s.results["a1"])
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "undefined_object", got.Error.Code)
	require.Equal(t, "failed", s.deadLetters[0].Reason)
}

// What was not started is tried again; what was started never is.
func TestStatementRepetitions(t *testing.T) {
	t.Parallel()
	for _, class := range []db.Class{db.ClassTransient, db.ClassLost} {
		s, f := setupStatements(t)
		f.fail = classed(class, contract.CodeConnectionLost)()
		d := deliver("statement", statementJob("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		got := read(t, s.results["a1"])
		require.Equal(t, "failed", got.Status)
		require.EqualValues(t, s.policy.Retry.Attempts, got.Attempts)
	}
	s, _ := setupStatements(t)
	s.policy.Timeout = 50 * time.Millisecond
	d := deliver("statement", statementJob("a1", `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r`), 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "timeout", got.Error.Code)
	require.Contains(t, got.Error.Message, "may remain")
	require.Equal(t, 1, got.Attempts)
}

func TestStatementThatIsStopped(t *testing.T) {
	t.Parallel()
	s, _ := setupStatements(t)
	ctx, cancel := context.WithCancel(t.Context())
	d := deliver("statement", statementJob("a1", `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r`), 1, 1)
	out := s.executor.Run(ctx, d, func() error { time.AfterFunc(50*time.Millisecond, cancel); return nil })
	s.settle(d, out)
	got := read(t, s.results["a1"])
	require.Equal(t, "failed", got.Status, "it started: it cannot run elsewhere")
	require.Equal(t, "cancelled", got.Error.Code)
}

func TestStatementAnswersThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, effectOf := range map[string]string{"once": "at_most_once", "repeatedly": "at_least_once"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, _ := setupStatements(t)
			body := job("a1", `"effect":"`+effectOf+`","max_rows":1,"sql":"INSERT INTO effects (name) VALUES ('a'), ('ab') RETURNING name"`)
			d := deliver("statement", body, 1, 1)
			s.settle(d, s.run(d))
			got := read(t, s.results["a1"])
			require.Equal(t, "succeeded", got.Status, "it took effect, and says so")
			require.Equal(t, "result_too_large", got.Error.Code)
			require.Contains(t, string(s.results["a1"]), `"rows_affected":2`)
			require.Equal(t, 2, s.count("a"))
			require.Empty(t, s.deadLetters)
		})
	}
}

// Ends of a statement job that is not run again, by what its first delivery has left behind.
func TestStatementEndsWithoutRunning(t *testing.T) {
	t.Parallel()
	past := `"expires_at":"2001-01-01T00:00:00Z",`
	plain := `"reply_to":"_INBOX.x.y","sql":"` + effect("a") + `"`
	ways := map[string]struct {
		number uint64
		rest   string
		change func(*jobs.Policy)
		never  string // the status where nothing was started
	}{
		"too many deliveries": {21, plain, nil, "failed"},
		"expired":             {2, past + plain, nil, "expired"},
		"rejected":            {2, plain, func(p *jobs.Policy) { p.Kinds = []string{"query"} }, "rejected"},
		"unreadable":          {21, `"effect":5,` + plain, nil, "unknown"},
	}
	for name, way := range ways {
		for left, want := range map[string]string{"nothing": way.never, "its begin": "unknown", "its end": "succeeded"} {
			t.Run(name+" after "+left, func(t *testing.T) {
				t.Parallel()
				s, f := setupStatements(t)
				switch left {
				case "its begin":
					s.dies(f, job("a1", plain))
				case "its end":
					require.Equal(t, contract.Succeeded, s.run(deliver("statement", job("a1", plain), 1, 1)).Status)
				}
				before := s.count("a")
				if way.change != nil {
					way.change(&s.policy)
				}
				d := deliver("statement", job("a1", way.rest), 1, way.number)
				s.settle(d, s.run(d))
				require.Equal(t, want, read(t, s.results["a1"]).Status)
				require.Equal(t, before, s.count("a"))
				row, err := s.database.Lookup(t.Context(), "a1")
				require.NoError(t, err)
				require.Equal(t, want, row.Status)
			})
		}
	}
}

func TestStatementSameRequestTwice(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	body := statementJob("a1", effect("a"))
	s.dies(f, body)
	second := deliver("statement", body, 2, 1) // another message, before the first one is delivered again
	s.settle(second, s.run(second))
	require.Empty(t, s.deadLetters, "the first message's own outcome leaves none")
	first := deliver("statement", body, 1, 2)
	s.settle(first, s.run(first))
	got := read(t, s.results["a1"])
	require.Equal(t, "unknown", got.Status)
	require.EqualValues(t, 1, got.Sequence, "it is the first message's end")
	require.Len(t, s.deadLetters, 1)
	require.Equal(t, 1, s.count("a"))

	other := deliver("statement", statementJob("a1", effect("b")), 3, 1)
	s.settle(other, s.run(other))
	require.Equal(t, "job_id_reused", read(t, s.replies[len(s.replies)-1]).Error.Code)
	require.Zero(t, s.count("b"))
}

func TestStatementWhoseIDHasAnotherResult(t *testing.T) {
	t.Parallel()
	for _, left := range []string{"nothing", "begin", "end"} {
		t.Run(left, func(t *testing.T) {
			t.Parallel()
			s, f := setupStatements(t)
			body := statementJob("a1", effect("a"))
			number := uint64(2)
			switch left {
			case "begin":
				s.dies(f, body)
			case "end":
				require.Equal(t, contract.Succeeded, s.run(deliver("statement", body, 1, 1)).Status)
			default:
				number = 1
			}
			other := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 7, 1)
			s.settle(other, s.run(other))
			d := deliver("statement", body, 1, number)
			s.settle(d, s.run(d))
			derived := contract.DerivedID(d.Sequence, d.Timestamp)
			if left == "nothing" {
				require.Equal(t, "job_id_reused", s.deadLetters[0].Reason)
				require.Zero(t, s.count("a"))
				return
			}
			want := map[string]string{"begin": "unknown", "end": "succeeded"}[left]
			require.Equal(t, want, read(t, s.results[derived]).Status)
			require.Equal(t, 1, s.count("a"))
		})
	}
}

func TestStatementRacing(t *testing.T) {
	t.Parallel()
	s, _ := setupStatements(t)
	body := statementJob("a1", effect("a"))
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			d := deliver("statement", body, 1, 2)
			out := s.run(d)
			for out.Action == delivery.Undecided {
				out = s.run(d)
			}
			s.settle(d, out)
		})
	}
	group.Wait()
	require.Equal(t, 1, s.count("a"))
	for _, reply := range s.replies {
		if got := read(t, reply); got.JobID == "a1" {
			require.Equal(t, "succeeded", got.Status)
		}
	}
}

func TestStatementWithoutALedgerOrASession(t *testing.T) {
	t.Parallel()
	s, _ := setupStatements(t)
	s.policy.Ledger = false
	d := deliver("statement", statementJob("a1", effect("a")), 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "effect_not_allowed", got.Error.Code)
	require.Contains(t, got.Error.Message, "at_least_once")

	s.policy.Ledger, s.policy.Pooled = true, true
	d = deliver("statement", statementJob("a2", effect("a")), 2, 1)
	s.settle(d, s.run(d))
	got = read(t, s.results["a2"])
	require.Equal(t, "kind_not_allowed", got.Error.Code)
	require.Contains(t, got.Error.Message, "pooler")
	require.Zero(t, s.count("a"))
}

func TestStatementAtLeastOnce(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	f.fail = db.OutcomeUnknown(nil)
	d := deliver("statement", job("a1", `"effect":"at_least_once","sql":"`+effect("a")+`"`), 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "unknown", got.Status)
	require.EqualValues(t, s.policy.Retry.Attempts, got.Attempts)
	row, err := s.database.Lookup(t.Context(), "a1")
	require.NoError(t, err)
	require.Nil(t, row)
}

// TestStatementAtMostOnceUnderAllFailures: whichever failures its deliveries have, a statement takes effect at most once, its
// result never changes, says succeeded only of what took effect, and never that nothing happened where something may
// have.
func TestStatementAtMostOnceUnderAllFailures(t *testing.T) {
	t.Parallel()
	s, f := setupStatements(t)
	n := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		n++
		id := fmt.Sprintf("job-%d", n)
		body, name := statementJob(id, effect(id+".")), id+"."
		executed := false
		runOnce := func(d *delivery.Delivery) delivery.Outcome {
			f.locked = rapid.IntRange(0, 1).Draw(t, "locked")
			f.outages = []outage{outage(rapid.IntRange(0, int(outages)-1).Draw(t, "outage"))}
			f.concludes = nil
			if rapid.IntRange(0, 3).Draw(t, "conclude") == 0 {
				f.concludes = []func() error{classed(db.ClassUnavailable, contract.CodeUnavailable)}
			}
			out := s.run(d)
			executed = executed || s.count(name) > 0
			return out
		}
		var result []byte
		settle := func(d *delivery.Delivery, out delivery.Outcome) {
			s.settle(d, out)
			if result == nil {
				result = s.results[id]
			}
			require.Equal(t, result, s.results[id], "a result never changes")
		}
		held := map[int]*delivery.Delivery{} // by two runners, which may both have the message
		for number := uint64(1); number <= uint64(rapid.IntRange(1, 6).Draw(t, "deliveries")); number++ {
			runner := rapid.IntRange(0, 1).Draw(t, "runner")
			d := held[runner]
			if d == nil || rapid.Bool().Draw(t, "again") {
				d = deliver("statement", body, n, number)
			}
			held[runner] = d
			out := runOnce(d)
			if out.Action == delivery.Settle && rapid.Bool().Draw(t, "stored") {
				settle(d, out)
			}
		}
		last := deliver("statement", body, n, 9)
		out := s.run(last)
		for range 5 {
			if out.Action == delivery.Settle {
				break
			}
			f.locked, f.outages, f.concludes = 0, nil, nil
			out = s.run(last)
		}
		settle(last, out)
		effects := s.count(name)
		require.LessOrEqual(t, effects, 1)
		switch got := read(s.t, result); got.Status {
		case "succeeded":
			require.Equal(t, 1, effects)
		case "unknown":
			require.True(t, executed || effects == 0)
		default:
			require.Failf(t, "a statement that can do no wrong", "ended %s: %s", got.Status, result)
		}
	})
}
