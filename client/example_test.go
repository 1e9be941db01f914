package client_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/app"
	"dbrunner/internal/bus/bustest"
)

// world is a runner with an embedded NATS server and a SQLite database named demo.
func world(ctx context.Context) (url string, end func(), err error) {
	demo, err := app.NewDemo(ctx, 0, zap.NewNop())
	if err != nil {
		return "", nil, err
	}
	demo.Config.API.Run = true
	runner, err := app.New(app.Options{Config: demo.Config, Logger: zap.NewNop(), Version: "test", Migrations: demo.Migrations})
	if err != nil {
		return "", nil, errors.Join(err, demo.Close(ctx))
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	end = func() {
		stop()
		if err := errors.Join(<-done, demo.Close(ctx)); err != nil {
			panic(err)
		}
	}
	select {
	case <-runner.Started():
		return demo.URL(), end, nil
	case err := <-done:
		return "", nil, errors.Join(err, demo.Close(ctx))
	}
}

var server string // URL of the world's NATS server

func TestMain(m *testing.M) {
	url, end, err := world(context.Background())
	if err != nil {
		panic(err)
	}
	server = url
	code := m.Run()
	end()
	os.Exit(code)
}

func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, err := nats.Connect(server)
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	c, err := client.New(nc, client.Options{})
	if err != nil {
		panic(err)
	}

	job := &client.Job{
		Database: "demo", Kind: "query", ID: "example-1",
		Body: []byte(`{"id": "example-1", "sql": "SELECT owner, balance FROM accounts WHERE id = :id", "params": {"id": 1}}`),
	}
	if _, err := c.Submit(ctx, job); err != nil {
		panic(err)
	}
	result, err := c.Await(ctx, job.Database, job.ID)
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Status, string(result.Rows))
	// Output: succeeded [{"owner":"Ada","balance":1000}]
}

func ExampleClient_Rows() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	job := &client.Job{
		Database: "demo", Kind: "query", ID: "example-rows",
		Body: []byte(`{"id": "example-rows", "sql": "SELECT id, owner FROM accounts ORDER BY id", "output": "object"}`),
	}
	if _, err := c.Submit(ctx, job); err != nil {
		panic(err)
	}
	result, err := c.Await(ctx, job.Database, job.ID)
	if err != nil {
		panic(err)
	}
	if err := c.Rows(ctx, result.Object, os.Stdout); err != nil {
		panic(err)
	}
	// Output:
	// {"id":1,"owner":"Ada"}
	// {"id":2,"owner":"Grace"}
	// {"id":3,"owner":"Edsger"}
	// {"id":4,"owner":"Barbara"}
}

func open(t *testing.T) *client.Client {
	t.Helper()
	nc, err := nats.Connect(server)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := client.New(nc, client.Options{})
	require.NoError(t, err)
	return c
}

func query(id, sql string) *client.Job {
	return &client.Job{Database: "demo", Kind: "query", ID: id, Body: fmt.Appendf(nil, `{"id": %q, "sql": %q}`, id, sql)}
}

func TestSubmitAgain(t *testing.T) {
	t.Parallel()
	c := open(t)
	job := query("again-"+rand.Text(), "SELECT 1 AS n")
	first, err := c.Submit(t.Context(), job)
	require.NoError(t, err)
	require.False(t, first.Duplicate)
	again, err := c.Submit(t.Context(), job)
	require.NoError(t, err)
	require.Equal(t, client.Receipt{Sequence: first.Sequence, Duplicate: true}, again)
	require.Empty(t, job.Headers, "the caller's headers stay as they are")
}

func TestSubmitRefuses(t *testing.T) {
	t.Parallel()
	c := open(t)
	for _, job := range []client.Job{
		{Database: "a.b", Kind: "query"}, {Database: "demo", Kind: "*"}, {Database: "demo", Kind: "query", ID: "s1_1"},
	} {
		_, err := c.Submit(t.Context(), &job)
		require.Error(t, err)
		_, err = c.Run(t.Context(), &job, 0)
		require.Error(t, err)
		require.NotErrorIs(t, err, client.ErrNoService, "it is not sent")
	}
	_, err := c.Submit(t.Context(), &client.Job{Database: "nowhere", Kind: "query", Body: []byte(`{}`)})
	require.ErrorIs(t, err, client.ErrNoStream)
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := c.Result(t.Context(), "demo", "never")
	require.ErrorIs(t, err, client.ErrNoResult)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Await(ctx, "demo", "never")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Await(t.Context(), "demo", "no.id")
	require.Error(t, err)
	for _, read := range []func(context.Context, string, string) (*client.Result, error){c.Result, c.LatestResult} {
		_, err = read(t.Context(), "nowhere", "never")
		var unknown *client.UnknownDatabaseError
		require.ErrorAs(t, err, &unknown)
		require.Equal(t, client.UnknownDatabaseError{Database: "nowhere", Stream: "DBRUNNER_RESULTS_nowhere"}, *unknown)
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	c := open(t)
	seen := errors.New("seen")
	done := make(chan error, 1)
	go func() {
		done <- c.Watch(t.Context(), "demo", func(r *client.Result) error {
			if strings.HasPrefix(r.JobID, "watched-") {
				return seen
			}
			return nil
		})
	}()
	for n := 0; ; n++ { // until the subscription exists: what was stored before is not seen
		_, err := c.Submit(t.Context(), query("watched-"+strconv.Itoa(n), "SELECT 1 AS n"))
		require.NoError(t, err)
		select {
		case err := <-done:
			require.ErrorIs(t, err, seen)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	c := open(t)
	result, err := c.Run(t.Context(), query("run", "SELECT 1 AS n"), 30*time.Second)
	require.NoError(t, err)
	require.JSONEq(t, `[{"n": 1}]`, string(result.Rows))

	health, err := c.Health(t.Context(), "demo")
	require.NoError(t, err)
	require.Equal(t, contract.Healthy, health.Verdict)

	answer, err := c.Cancel(t.Context(), "demo", "run", client.CancelOptions{By: "test"})
	require.NoError(t, err)
	require.Equal(t, contract.CancelTooLate, answer.Outcome)
	require.Equal(t, contract.Succeeded, answer.Status)

	recorded, err := c.RecordedResult(t.Context(), "demo", "run")
	require.NoError(t, err)
	require.Equal(t, contract.Succeeded, recorded.Status)
	_, err = c.RecordedResult(t.Context(), "demo", "never")
	require.ErrorIs(t, err, client.ErrNoResult)

	queued := query("queued", "SELECT 1 AS n")
	queued.Queue = "bulk"
	_, err = c.Run(t.Context(), queued, 30*time.Second)
	require.ErrorIs(t, err, client.ErrQueued)
	_, err = c.Result(t.Context(), "demo", "queued")
	require.ErrorIs(t, err, client.ErrNoResult, "it did not run outside of its queue")

	_, err = c.Health(t.Context(), "nowhere")
	refused := &client.ServiceError{}
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 404, refused.Status)
	require.Equal(t, "unknown_database", refused.Refusal.Error.Code)
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	c := open(t)
	id := "dead-" + rand.Text()
	_, err := c.Submit(t.Context(), query(id, "SELECT * FROM nowhere"))
	require.NoError(t, err)
	_, err = c.Await(t.Context(), "demo", id)
	require.NoError(t, err)
	var deadLetter *client.DeadLetter
	require.Eventually(t, func() bool {
		require.NoError(t, c.DeadLetters(t.Context(), client.DeadLetterFilter{Database: "demo"}, func(l *client.DeadLetter) error {
			if l.JobID() == id {
				deadLetter = l
			}
			return nil
		}))
		return deadLetter != nil
	}, 10*time.Second, 20*time.Millisecond)
	require.Equal(t, string(contract.Failed), deadLetter.Reason())
	same, err := c.DeadLetter(t.Context(), deadLetter.Database, deadLetter.Kind, deadLetter.Key)
	require.NoError(t, err)
	require.Equal(t, deadLetter, same)
	require.NoError(t, c.DeleteDeadLetter(t.Context(), deadLetter))
	require.NoError(t, c.DeleteDeadLetter(t.Context(), deadLetter))
	_, err = c.DeadLetter(t.Context(), deadLetter.Database, deadLetter.Kind, deadLetter.Key)
	require.ErrorIs(t, err, client.ErrNoDeadLetter)
}

// TestDenied: what the server's permissions refuse is not published again until the context ends.
func TestDenied(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *natsserver.Options) {
		o.Users = []*natsserver.User{{Username: "tester", Password: "tester", Permissions: &natsserver.Permissions{
			Publish: &natsserver.SubjectPermission{Deny: []string{"dbrunner.jobs.>", "$JS.API.DIRECT.GET.>"}},
		}}}
	})
	nc, err := nats.Connect(node.ClientURL(), nats.UserInfo("tester", "tester"))
	require.NoError(t, err)
	defer nc.Close()
	c, err := client.New(nc, client.Options{})
	require.NoError(t, err)
	_, err = c.Submit(t.Context(), query("denied", "SELECT 1 AS n"))
	require.ErrorIs(t, err, client.ErrDenied)
	require.EqualError(t, err, "publish to dbrunner.jobs.demo.query: denied by NATS permissions")
	_, err = c.Result(t.Context(), "demo", "denied")
	require.ErrorIs(t, err, client.ErrDenied)
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = c.Await(soon, "demo", "denied")
	require.ErrorIs(t, err, client.ErrDenied)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	subscriptions, awaited := nc.NumSubscriptions(), make(chan *client.Result, 1)
	go func() {
		r, _ := c.Await(t.Context(), "demo", "later")
		awaited <- r
	}()
	require.Eventually(t, func() bool { return nc.NumSubscriptions() > subscriptions }, 30*time.Second, time.Millisecond)
	require.NoError(t, nc.Publish("dbrunner.results.demo.later", []byte(`{"job_id":"later","status":"succeeded"}`)))
	r := <-awaited
	require.NotNil(t, r, "the subscription is permitted")
	require.Equal(t, "later", r.JobID)
}

// connect returns a client of the world's server for an example.
func connect() (c *client.Client, closeConn func()) {
	nc, err := nats.Connect(server)
	if err != nil {
		panic(err)
	}
	if c, err = client.New(nc, client.Options{}); err != nil {
		panic(err)
	}
	return c, nc.Close
}

func ExampleClient_Watch() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	done := errors.New("seen enough")
	go func() { // another program: Watch sees what is stored from now on
		for n := 0; ctx.Err() == nil; n++ {
			job := query("example-watch-"+strconv.Itoa(n), "SELECT 1 AS n")
			_, _ = c.Submit(ctx, job)
			_, _ = c.Await(ctx, job.Database, job.ID)
		}
	}()
	err := c.Watch(ctx, "demo", func(r *client.Result) error {
		if !strings.HasPrefix(r.JobID, "example-watch-") {
			return nil
		}
		fmt.Println(r.Kind, r.Status)
		return done
	})
	fmt.Println(err)
	// Output:
	// query succeeded
	// seen enough
}

func ExampleClient_DeadLetters() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	if _, err := c.Submit(ctx, query("example-dead", "SELECT * FROM nowhere")); err != nil {
		panic(err)
	}
	if _, err := c.Await(ctx, "demo", "example-dead"); err != nil {
		panic(err)
	}
	for found := false; !found; { // the dead letter is stored after the result
		err := c.DeadLetters(ctx, client.DeadLetterFilter{Database: "demo", Kind: "query"}, func(l *client.DeadLetter) error {
			if l.JobID() == "example-dead" {
				found = true
				fmt.Println(l.Reason(), l.Headers.Get(contract.HeaderCode))
				return c.DeleteDeadLetter(ctx, l)
			}
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	// Output: failed undefined_object
}

func ExampleClient_Cancel() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	endless := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"
	if _, err := c.Submit(ctx, query("example-cancel", endless)); err != nil {
		panic(err)
	}
	if _, err := c.Cancel(ctx, "demo", "example-cancel", client.CancelOptions{By: "example", Wait: 10 * time.Second}); err != nil {
		panic(err)
	}
	result, err := c.Await(ctx, "demo", "example-cancel")
	if err != nil {
		panic(err)
	}
	fmt.Println(result.Status)
	// Output: cancelled
}

func ExampleClient_Running() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	endless := "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS n FROM n"
	if _, err := c.Submit(ctx, query("example-running", endless)); err != nil {
		panic(err)
	}
	for found := false; !found; { // until a runner has started it
		running, err := c.Running(ctx, client.RunningOptions{Databases: []string{"demo"}, Wait: 10 * time.Second})
		if err != nil {
			panic(err)
		}
		for i := range running.Jobs {
			if job := &running.Jobs[i]; job.JobID == "example-running" && job.State == contract.JobExecuting {
				found = true
				fmt.Println(job.Database, job.Kind, job.Deliveries, job.Attempts)
			}
		}
	}
	if _, err := c.Cancel(ctx, "demo", "example-running", client.CancelOptions{Wait: 10 * time.Second}); err != nil {
		panic(err)
	}
	// Output: demo query 1 1
}

func ExampleClient_Health() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, closeConn := connect()
	defer closeConn()

	health, err := c.Health(ctx, "demo")
	if err != nil {
		panic(err)
	}
	fmt.Println(health.Verdict)
	// Output: healthy
}
