package delivery_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/delivery"
)

// asked are requests to cancel, with their time; the zero time is never.
type asked struct {
	mu  sync.Mutex
	ids map[string]time.Time
}

func (a *asked) Requested(id string, stored time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return stored.Before(a.ids[id])
}

func (a *asked) cancel(ids ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range ids {
		a.ids[id] = time.Unix(1_900_000_000, 0)
	}
}

// setupCancel is setup with requests to cancel.
func setupCancel(t *testing.T) (*stage, *asked) {
	t.Helper()
	a := &asked{ids: map[string]time.Time{}}
	s := setup(t)
	var err error
	s.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r1", Database: s.faults, Policy: &s.policy, Results: s,
		MaxBody: 1 << 20, MaxResult: 1 << 20, Cancellations: a,
	})
	require.NoError(t, err)
	return s, a
}

func atLeastOnce(id, name string) string {
	return job(id, `"effect":"at_least_once","statements":[{"sql":"`+effect(name)+`"}]`)
}

func TestCancelBeforeItStarts(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]struct{ kind, text string }{
		"exactly_once":  {"transaction", transaction("a1", effect("a"))},
		"at_least_once": {"transaction", atLeastOnce("a1", "a")},
		"read_only":     {"query", job("a1", `"sql":"SELECT 1 AS n"`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, a := setupCancel(t)
			a.cancel("a1")
			d := deliver(body.kind, body.text, 1, 1)
			require.True(t, s.executor.Canceled(d))
			s.settle(d, s.run(d))
			got := read(t, s.results["a1"])
			require.Equal(t, "cancelled", got.Status)
			require.Equal(t, "cancelled", got.Error.Code)
			require.Zero(t, got.Attempts)
			require.Zero(t, s.count("a"))
			require.Empty(t, s.deadLetters)
			row, err := s.database.Lookup(t.Context(), "a1")
			require.NoError(t, err)
			require.Equal(t, name == "exactly_once", row != nil, "its end is on record where its effect would be")
		})
	}
}

func TestCancelIsNotForWhatIsStoredLater(t *testing.T) {
	t.Parallel()
	s, a := setupCancel(t)
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	a.ids["a1"] = d.Timestamp // at the same nanosecond is not before
	require.False(t, s.executor.Canceled(d))
	s.settle(d, s.run(d))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
}

// TestCancelNeverTearsAnEffectFromItsResult: whatever the moment of the request, and whatever is lost on the way, the
// effect is there if and only if the result says so.
func TestCancelNeverTearsAnEffectFromItsResult(t *testing.T) {
	t.Parallel()
	t.Run("redelivered after its effect", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		body := transaction("a1", effect("a"))
		require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status) // dies before the result
		a.cancel("a1")
		again := deliver("transaction", body, 1, 2)
		s.settle(again, s.run(again))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	})
	t.Run("in the moment of COMMIT", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		ctx, stop := context.WithCancelCause(t.Context())
		s.faults.inSeal = func() {
			a.cancel("a1")
			stop(errors.New("cancelled"))
		}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		out := s.executor.Run(ctx, d, nil)
		if out.Action != delivery.Settle {
			require.Equal(t, delivery.Undecided, out.Action)
			s.faults.inSeal = nil
			out = s.run(d) // as the worker does, under another context
		}
		s.settle(d, out)
		require.Equal(t, s.count("a") == 1, read(t, s.results["a1"]).Status == "succeeded")
	})
	t.Run("a COMMIT without an answer that took place", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		s.faults.after = []func() error{func() error {
			a.cancel("a1")
			return classed(db.ClassUnknown, contract.CodeConnectionLost)()
		}}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	})
	t.Run("a COMMIT without an answer that did not", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		s.faults.before = []func() error{func() error {
			a.cancel("a1")
			return classed(db.ClassUnknown, contract.CodeConnectionLost)()
		}}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "cancelled", read(t, s.results["a1"]).Status)
		require.Zero(t, s.count("a"))
	})
	t.Run("while its database is down", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		a.cancel("a1")
		s.faults.onRecord = []func() error{classed(db.ClassUnavailable, contract.CodeUnavailable)}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		require.Equal(t, delivery.AwaitDatabase, s.run(d).Action, "nothing is decided on a guess")
		s.settle(d, s.run(d))
		require.Equal(t, "cancelled", read(t, s.results["a1"]).Status)
	})
}

func TestCancelWhileItWaitsForItsRetry(t *testing.T) {
	t.Parallel()
	s, a := setupCancel(t)
	s.faults.before = []func() error{func() error {
		a.cancel("a1")
		return classed(db.ClassTransient, contract.CodeDeadlock)()
	}}
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "cancelled", got.Status)
	require.Zero(t, s.count("a"))
}

// TestCancelOfAtLeastOnce ends unknown only where the effect may really be there.
func TestCancelOfAtLeastOnce(t *testing.T) {
	t.Parallel()
	t.Run("stopped by its only delivery", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		ctx, stop := context.WithCancelCause(t.Context())
		long := `WITH RECURSIVE c (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000000) SELECT count(*) AS n FROM c`
		d := deliver("transaction", job("a1", `"effect":"at_least_once","statements":[{"sql":"`+effect("a")+`"},{"sql":"`+long+`"}]`), 1, 1)
		out := s.executor.Run(ctx, d, func() error {
			a.cancel("a1")
			stop(errors.New("cancelled"))
			return nil
		})
		require.Equal(t, delivery.Undecided, out.Action)
		d.MaybeRedelivered = true // as the worker has it for what was started
		s.settle(d, s.run(d))
		require.Equal(t, "cancelled", read(t, s.results["a1"]).Status, "it was rolled back")
		require.Zero(t, s.count("a"))
	})
	t.Run("delivered again", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		a.cancel("a1")
		d := deliver("transaction", atLeastOnce("a1", "a"), 1, 2)
		s.settle(d, s.run(d))
		require.Equal(t, "unknown", read(t, s.results["a1"]).Status)
	})
	t.Run("a COMMIT without an answer", func(t *testing.T) {
		t.Parallel()
		s, a := setupCancel(t)
		s.faults.after = []func() error{func() error {
			a.cancel("a1")
			return classed(db.ClassUnknown, contract.CodeConnectionLost)()
		}}
		d := deliver("transaction", atLeastOnce("a1", "a"), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "unknown", read(t, s.results["a1"]).Status)
	})
}

func TestCancelOfAJobThatWasDeliveredTooOften(t *testing.T) {
	t.Parallel()
	s, a := setupCancel(t)
	a.cancel("a1", "a2")
	d := deliver("transaction", transaction("a1", effect("a")), 1, 21)
	s.settle(d, s.run(d))
	require.Equal(t, "cancelled", read(t, s.results["a1"]).Status)
	d = deliver("transaction", atLeastOnce("a2", "b"), 2, 21)
	s.settle(d, s.run(d))
	require.Equal(t, "unknown", read(t, s.results["a2"]).Status)
}

func TestCancelByADerivedID(t *testing.T) {
	t.Parallel()
	s, a := setupCancel(t)
	d := deliver("query", `{"sql":"SELECT 1 AS n"}`, 7, 1)
	id := contract.DerivedID(d.Sequence, d.Timestamp)
	a.cancel(id)
	s.settle(d, s.run(d))
	require.Equal(t, "cancelled", read(t, s.results[id]).Status)
}

// halfway is a migrator whose action is stopped when its first file is applied.
type halfway struct{ stop func() }

func (h *halfway) Run(_ context.Context, req migration.Request) (*migration.Report, error) {
	if err := req.Begin(); err != nil {
		return nil, err
	}
	h.stop()
	return &migration.Report{Action: req.Action}, classed(db.ClassCanceled, contract.CodeCanceled)()
}

// TestCancelOfAMigrationReportsWhatStays, but one that only reads changes nothing.
func TestCancelOfAMigrationReportsWhatStays(t *testing.T) {
	t.Parallel()
	for action, status := range map[string]string{"up": "unknown", "status": "cancelled"} {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			a := &asked{ids: map[string]time.Time{}}
			ctx, stop := context.WithCancelCause(t.Context())
			var err error
			s.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
				Namespace: "dbrunner", Runner: "r1", Database: s.faults, Policy: &s.policy, Results: s,
				MaxBody: 1 << 20, MaxResult: 1 << 20, Cancellations: a,
				Migrations: &halfway{stop: func() {
					a.cancel("a1")
					stop(errors.New("cancelled"))
				}},
			})
			require.NoError(t, err)
			d := deliver("migration", job("a1", `"action":"`+action+`"`), 1, 1)
			out := s.executor.Run(ctx, d, nil)
			if status == "cancelled" {
				require.Equal(t, delivery.Undecided, out.Action)
				out = s.run(d) // as the worker does
			}
			s.settle(d, out)
			require.Equal(t, status, read(t, s.results["a1"]).Status)
		})
	}
}
