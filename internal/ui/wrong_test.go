package ui_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/ui"
)

// publish stores a message in a stream.
func (w *world) publish(subject string, value any) {
	w.t.Helper()
	text, err := json.Marshal(value)
	require.NoError(w.t, err)
	_, err = w.js.Publish(context.Background(), subject, text)
	require.NoError(w.t, err)
}

// beat publishes what a runner reports that is not there; seconds is the interval of its heartbeats.
func (w *world) beat(state string, seconds float64, databases ...contract.DatabaseStatus) {
	w.t.Helper()
	now := time.Now().UTC()
	w.publish("dbrunner.health.runner.node1-1", contract.RunnerHeartbeat{
		Version: 1, Instance: "node1-1", Process: "p1", Build: "1.4.0", State: state, StartedAt: now, At: now, Interval: seconds, Databases: databases,
	})
	for i := range databases {
		d := &databases[i]
		w.publish("dbrunner.health.database."+d.Name+".node1-1", contract.DatabaseHeartbeat{
			Version: 1, Database: d.Name, Engine: "postgres", Instance: "node1-1", Process: "p1", RunnerState: state, At: now, Interval: seconds,
			Condition: d.Condition, CheckedAt: &now, Health: &contract.Health{Verdict: d.Verdict, Reasons: []string{}},
		})
	}
}

func healthy(name string, lanes ...contract.LaneStatus) contract.DatabaseStatus {
	return contract.DatabaseStatus{Name: name, Engine: "postgres", Verdict: contract.Healthy, Condition: contract.Condition{State: contract.DatabaseUp}, Lanes: lanes}
}

// TestWhoIsSilent distinguishes: no runner has reported, runners have no databases, a database's runner is not heard any more, and a database without
// any runner, whose heartbeats have expired.
func TestWhoIsSilent(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	s := w.open(t, ui.Options{}, user("admin"))
	s.shows("/", "No runner has reported. Has one been started with this namespace (dbrunner) and account?", "None is known.")
	w.beat(contract.RunnerRunning, 3600)
	require.NotContains(t, plain(s.shows("/", "Runners report, but have no databases.")), "No runner has reported")
	s.shows("/db/shop", "No runner has reported shop. Has one been started with this namespace (dbrunner) and account?")

	w.beat(contract.RunnerRunning, 0.1, healthy("shop"))
	s.shows("/", "shop no runner", "no heartbeat from node1-1", "node1-1 silent", "1 silent")
	s.shows("/db/shop", "No runner has reported shop for")
	w.beat(contract.RunnerRunning, 3600, healthy("shop"))
	s.shows("/", "Nothing. 1 database is healthy.")

	_, err := w.js.CreateStream(t.Context(), streamConfig("DBRUNNER_JOBS_gone", "dbrunner.jobs.gone.*"))
	require.NoError(t, err)
	w.publish("dbrunner.jobs.gone.query", "a")
	w.publish("dbrunner.jobs.gone.query", "b")
	later := w.open(t, ui.Options{}, user("admin")) // long after
	page := later.shows("/", "gone no runner", "no runner reports it: start one", "2 wait")
	require.Regexp(t, "gone no runner 2 [0-9]+ m?s ", plain(page), "the oldest job")
	require.Less(t, strings.Index(page, `href="/db/gone"`), strings.Index(page, `href="/db/shop"`), "the worst first")
	later.shows("/db/gone", "No runner has reported gone", "1 other database")
	w.beat(contract.RunnerStopped, 3600, healthy("gone"))
	w.open(t, ui.Options{}, user("admin")).shows("/", "gone no runner", "2 wait")
	w.beat(contract.RunnerRunning, 3600, healthy("shop"), healthy("gone"))
	later.shows("/", "Nothing. 2 databases are healthy.")
	require.Contains(t, plain(w.open(t, ui.Options{}, user("health")).get("/").body), "Databases without a runner are not shown: This user may not read the names of streams")
}

// TestFailedHead names the job that an ordered queue waits for, since when, and the command that goes on.
func TestFailedHead(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	failed := &contract.FailedJob{JobID: "feed-771", Kind: "transaction", Status: contract.Failed, Code: "unique_violation", Sequence: 9, Since: time.Now().Add(-70 * time.Minute)}
	shop := healthy("shop", contract.LaneStatus{Name: "work", Slots: 4}, contract.LaneStatus{Name: "queue_feed", Queue: "feed", Slots: 1, Failed: failed})
	shop.Verdict = contract.Degraded
	w.beat(contract.RunnerRunning, 3600, shop)
	s := w.open(t, ui.Options{}, user("admin"))
	s.shows("/", "shop degraded 1h10m")
	s.shows("/db/shop", "queue feed", "waits for a failed job feed-771 failed unique_violation, 1h10m", "Repair what it needs, then: runner resume shop --queue feed --job feed-771")
}

// TestAuditStream: an action that cannot be recorded is not done, except where there is no audit stream, which is reported.
func TestAuditStream(t *testing.T) {
	t.Parallel()
	w := worldOfUsers(t)
	s := w.open(t, ui.Options{Write: true}, user("admin"))
	require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_AUDIT"))
	full := streamConfig("DBRUNNER_AUDIT", "dbrunner.audit.>")
	full.MaxMsgs, full.Discard = 1, jetstream.DiscardNew
	_, err := w.js.CreateStream(t.Context(), full)
	require.NoError(t, err)
	w.publish("dbrunner.audit.fleet.topology", "full")
	refused := s.act("/db/shop/pause", url.Values{"why": {"x"}})
	require.Equal(t, http.StatusConflict, refused.status)
	require.Contains(t, plain(refused.body), "Nothing was done, because it could not be recorded: the audit stream is full.")
	bucket, err := w.js.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	_, err = bucket.Get(t.Context(), "pause.shop")
	require.ErrorIs(t, err, jetstream.ErrKeyNotFound)

	require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_AUDIT"))
	s.outcome(s.act("/db/shop/pause", url.Values{"why": {"x"}}), "shop is paused", "Not recorded: the audit stream DBRUNNER_AUDIT is missing; runner topology apply creates it.")
	_, err = bucket.Get(t.Context(), "pause.shop")
	require.NoError(t, err)
}

// TestPanelFailsAlone within its time: the others do not wait for it.
func TestPanelFailsAlone(t *testing.T) {
	t.Parallel()
	s := newWorld(t).open(t, ui.Options{}).server
	_, err := s.LoadOld("slow", func(ctx context.Context) (any, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Equal(t, "No answer within 2 s.", ui.Problem(err))
}

// TestStreamGoesOn: a tab keeps its stream for longer than another answer may take.
func TestStreamGoesOn(t *testing.T) {
	t.Parallel()
	s := newWorld(t).open(t, ui.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	defer cancel()
	opened := time.Now()
	for next := s.stream(ctx, "/"); time.Since(opened) < ui.WriteTimeout+6*time.Second; { // one of them has the time, every 5 s
		event, _ := next()
		require.NotEmpty(t, event)
	}
}

// TestDryRuns shows the dry runs that wait for an approval, and the command; then what became of them.
func TestDryRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.fleet(t)
	s := w.open(t, ui.Options{})
	w.dryRun("close-7")
	w.dryRun("close-8")
	s.shows("/db/shop/jobs", "2 dry runs wait for approval", "to commit it: runner approve shop close-7")
	page := s.shows("/db/shop/job/close-7", "succeeded", "nothing of it is there", "dry_run · rolled_back", "2 1 1 hidden", "commit the same effect: runner approve shop close-7")
	require.NotContains(t, page, "secret-note", "no parameter and no SQL text is on the page")
	w.approve("close-7")
	s.shows("/db/shop/job/close-7", "Its approval close-7_approved succeeded")
	s.shows("/db/shop/job/close-7_approved", "It took effect", "It approves the dry run close-7 .")
	waiting := s.shows("/db/shop/jobs?status=waits+for+approval", "1 of the newest", "runner approve shop close-8")
	require.NotContains(t, waiting, "approve shop close-7<")
	s.shows("/db/shop/jobs?kind=dry_run", "2 of the newest", "its approval succeeded", "1 dry run waits for approval")
}

// dryRun makes a dry run that has succeeded.
func (w *world) dryRun(id string) {
	w.t.Helper()
	w.submit("shop", "dry_run", id, `{"id":"`+id+`","statements":[{"sql":"CREATE TABLE IF NOT EXISTS notes (note TEXT)"},{"sql":"INSERT INTO notes VALUES (:note) RETURNING 1 AS n","params":{"note":"secret-note"}}]}`)
	w.awaitResult("shop", id)
}

// approve commits it.
func (w *world) approve(id string) {
	w.t.Helper()
	stream, err := w.js.Stream(context.Background(), "DBRUNNER_RESULTS_shop")
	require.NoError(w.t, err)
	m, err := stream.GetLastMsgForSubject(context.Background(), "dbrunner.results.shop."+id)
	require.NoError(w.t, err)
	var dryRun struct {
		Digest string `json:"effect_digest"`
	}
	require.NoError(w.t, json.Unmarshal(m.Data, &dryRun))
	w.submit("shop", "approve", id+"_approved", `{"id":"`+id+`_approved","approves":"`+id+`","expect_digest":"`+dryRun.Digest+`"}`)
	w.awaitResult("shop", id+"_approved")
}
