package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

func TestFanOutOverTwoDatabases(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.startRunner()
	file := filepath.Join(t.TempDir(), "bookings.csv")
	code, text := w.startFlow("--run", "whole", "--export", file).end()
	require.Zero(t, code, text)
	rows, err := os.ReadFile(file)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(string(rows), "flow_run,step\r\nwhole,book-0000\r\n"), "%.100s", rows)
	require.Equal(t, 51, strings.Count(string(rows), "\r\n"))
	for _, part := range []string{
		"lite is healthy", "shop is healthy", "200 succeeded; 0 of them were stored",
		"lite: 50 bookings succeeded, 50 are there", "shop: 50 bookings succeeded, 50 are there",
	} {
		require.Contains(t, text, part)
	}
	code, text = w.startFlow("--run", "whole").end()
	require.Zero(t, code, text)
	require.Contains(t, text, "200 succeeded; 200 of them were stored", "a run that is over is read, not repeated")
	requireBookings(t, w, "whole", 50)
}

// The flow is killed in the middle, with jobs answered, published and not yet published; then no runner is there any
// more. The next life waits for one, reads what is stored, publishes the rest again, and everything is there once.
func TestKilledInTheMiddle(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.slowBookings()
	endRunner := w.startRunner()
	first := w.startFlow("--run", "killed")
	first.await("120 of 200 answered")
	require.NoError(t, first.cmd.Process.Kill())
	code, text := first.end()
	require.Equal(t, -1, code, "killed, not ended: %s", text)
	require.NotContains(t, text, "200 of 200")
	endRunner()

	second := w.startFlow("--run", "killed")
	second.await("waiting for database lite: no runner is there")
	w.startRunner()
	code, text = second.end()
	require.Zero(t, code, text)
	stored := regexp.MustCompile(`200 succeeded; (\d+) of them were stored`).FindStringSubmatch(text)
	require.NotNil(t, stored, text)
	n, err := strconv.Atoi(stored[1])
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, 120, "what was answered is read")
	require.Less(t, n, 200, "what was not answered is published again")
	requireBookings(t, w, "killed", 50)
}

// slowBookings makes bookings in shop slow enough to be in the middle of them.
func (w *world) slowBookings() {
	w.t.Helper()
	w.exec(`CREATE TABLE flow_bookings (flow_run varchar(100) NOT NULL, step varchar(100) NOT NULL);
		CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.2); RETURN NEW; END $$;
		CREATE TRIGGER slowly BEFORE INSERT ON flow_bookings FOR EACH ROW EXECUTE FUNCTION slowly()`)
}

func requireBookings(t *testing.T, w *world, run string, n int) {
	t.Helper()
	rows, steps := w.bookings(run)
	require.Equal(t, n, rows, "no effect is missing or there twice")
	require.Equal(t, n, steps)
}

func TestEveryProblemIsLogged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.startRunner()
	code, text := w.startFlow("--run", "trouble", "--jobs", "8", "--trouble").end()
	require.Equal(t, 3, code, "a flow with a step that did not succeed fails: %s", text)
	for _, part := range []string{
		"1 cancelled, 1 expired, 1 failed, 1 rejected, 8 succeeded",
		`trouble-mistaken on lite rejected`, `sqll: unknown key: did you mean "sql"?`,
		"trouble-impossible on lite failed: no such table",
		"trouble-late on lite expired", "too late",
		"trouble-endless on lite cancelled", "stopped on request",
		"4 of 12 steps did not succeed",
	} {
		require.Contains(t, text, part)
	}
}

func TestUnknownDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.startRunner()
	code, text := w.startFlow("--databases", "nosuch", "--health", "2s").end()
	require.Equal(t, 1, code, text)
	require.Contains(t, text, "database nosuch is not ready: no runner has the database nosuch")
}

func TestUsage(t *testing.T) {
	t.Parallel()
	require.ErrorIs(t, run(t.Context(), []string{"--nosuch"}, io.Discard), errUsage)
	require.ErrorIs(t, run(t.Context(), []string{"--run", "a/b"}, io.Discard), errUsage)
	require.ErrorIs(t, run(t.Context(), []string{"--jobs", "0"}, io.Discard), errUsage)
	require.ErrorContains(t, run(t.Context(), []string{"--run", "a.b"}, io.Discard), "--run")
	require.ErrorContains(t, run(t.Context(), []string{"--jobs", "0"}, io.Discard), "--jobs")
}

// Each status and what the flow makes of it, also those that no job of its own has.
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		result contract.Result
		next   next
	}{
		{contract.Result{Status: contract.Succeeded}, done},
		{contract.Result{Status: contract.Failed, Error: &contract.Error{Code: "unique_violation"}}, mend},
		{contract.Result{Status: contract.Failed, Error: &contract.Error{Code: "lock_timeout", Retryable: true}}, repeat},
		{contract.Result{Status: contract.Rejected, Error: &contract.Error{Code: "unknown_key", Retryable: true}}, mend},
		{contract.Result{Status: contract.Canceled}, stop},
		{contract.Result{Status: contract.Expired}, late},
		{contract.Result{Status: contract.Unknown, Error: &contract.Error{Code: "outcome_unknown", Retryable: true}}, ask},
		{contract.Result{Status: "a word of the future"}, ask},
	} {
		require.Equal(t, c.next, decide(&c.result), c.result.Status)
	}
}

// scripted answers each job with the next of its results. Its other methods are not called.
type scripted struct {
	runners
	results []contract.Result
	ids     []string
}

func (s *scripted) Do(_ context.Context, job *client.Job, _ time.Duration) (*client.Result, bool, error) {
	s.ids = append(s.ids, job.ID)
	return &client.Result{Result: s.results[len(s.ids)-1]}, false, nil
}

func TestTriesAreJobsOfTheirOwn(t *testing.T) {
	t.Parallel()
	busy := contract.Result{Status: contract.Failed, Error: &contract.Error{Code: "lock_timeout", Retryable: true}}
	unknown := contract.Result{Status: contract.Unknown, Error: &contract.Error{Code: "outcome_unknown"}}
	for _, c := range []struct {
		name    string
		results []contract.Result
		ids     []string
		next    next
	}{
		{"then it succeeds", []contract.Result{busy, {Status: contract.Succeeded}}, []string{"r-a", "r-a-t2"}, done},
		{"not indefinitely", []contract.Result{busy, busy, busy}, []string{"r-a", "r-a-t2", "r-a-t3"}, repeat},
		{"never what may have taken effect", []contract.Result{busy, unknown}, []string{"r-a", "r-a-t2"}, ask},
	} {
		s := &scripted{results: c.results}
		f := &flow{runners: s, run: "r", out: io.Discard}
		o, err := f.do(t.Context(), booking("r", "shop", "a"))
		require.NoError(t, err, c.name)
		require.Equal(t, c.ids, s.ids, c.name)
		require.Equal(t, c.next, o.next, c.name)
		require.Equal(t, c.next != done, failures([]*outcome{o}) != nil, c.name)
	}
}

// The same run makes the same requests in every life: another request under an id would be refused.
func TestARunIsTheSameInEveryLife(t *testing.T) {
	t.Parallel()
	first, second := fan("r", []string{"a", "b"}, 200), fan("r", []string{"a", "b"}, 200)
	ids := map[string]bool{}
	for i := range first {
		job, err := first[i].job("r", 1)
		require.NoError(t, err)
		again, err := second[i].job("r", 1)
		require.NoError(t, err)
		require.Equal(t, job, again)
		ids[job.ID] = true
	}
	require.Len(t, ids, 200)
}
