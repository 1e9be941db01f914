package containers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"dbrunner/client"
)

// up starts a profile, and removes it with its volumes after the test. A test that fails shows the last lines of its containers.
func up(t *testing.T, profile string) {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := compose(context.Background(), profile, "logs", "--tail", "40")
			t.Log(logs)
		}
		_, err := compose(context.Background(), profile, "down", "--volumes", "--timeout", "45")
		require.NoError(t, err)
	})
	_, err := compose(t.Context(), profile, "up", "--detach", "--no-build", "--wait", "--wait-timeout", "240")
	require.NoError(t, err)
}

// container is the name that Compose gives the container of a service.
func container(service string) string { return "dbrunner-test-" + service + "-1" }

// inspect returns one value of a container.
func inspect(t *testing.T, service, format string) string {
	t.Helper()
	value, err := docker(t.Context(), "inspect", "--format", format, container(service))
	require.NoError(t, err)
	return value
}

// connect connects as a publisher on the machine would.
func connect(t *testing.T, urls string) *client.Client {
	t.Helper()
	nc, err := nats.Connect(urls, nats.MaxReconnects(-1), nats.ReconnectWait(200*time.Millisecond), nats.IgnoreDiscoveredServers())
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	c, err := client.New(nc, client.Options{})
	require.NoError(t, err)
	return c
}

// do publishes a job under its id and waits for the result, again and again while NATS is down: the id makes that safe.
func do(ctx context.Context, c *client.Client, kind, id, body string) (*client.Result, error) {
	job := &client.Job{Database: "stock", Kind: kind, ID: id, Body: []byte(body)}
	var last error
	for ctx.Err() == nil {
		within, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, last = c.Submit(within, job)
		cancel()
		if last == nil {
			var result *client.Result
			within, cancel = context.WithTimeout(ctx, 15*time.Second)
			result, last = c.Await(within, job.Database, job.ID)
			cancel()
			if last == nil {
				return result, nil
			}
		}
		time.Sleep(100 * time.Millisecond) // by the clock: NATS may be down
	}
	return nil, fmt.Errorf("job %s: %w", id, last)
}

// must runs a job that has to succeed, and returns its rows.
func must(t *testing.T, c *client.Client, kind, id, body string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	result, err := do(ctx, c, kind, id, body)
	require.NoError(t, err)
	require.Equalf(t, "succeeded", string(result.Status), "%+v", result.Error)
	return string(result.Rows)
}

// requireBounded holds what the runner's container may and may not: and that the kernel never killed it for its memory.
func requireBounded(t *testing.T, service string) {
	t.Helper()
	require.Equal(t, "true", inspect(t, service, "{{.HostConfig.ReadonlyRootfs}}"))
	require.Equal(t, "10001:10001", inspect(t, service, "{{.Config.User}}"))
	require.Equal(t, "134217728", inspect(t, service, "{{.HostConfig.Memory}}"))
	require.Equal(t, "false", inspect(t, service, "{{.State.OOMKilled}}"))
}

func TestSingle(t *testing.T) {
	up(t, "single")
	requireBounded(t, "runner")
	c := connect(t, "nats://127.0.0.1:4222")
	must(t, c, "transaction", "create", `{"id": "create", "statements": [{"sql": "CREATE TABLE effect (job text)"}]}`)
	must(t, c, "transaction", "insert", `{"id": "insert", "statements": [{"sql": "INSERT INTO effect VALUES ('insert')"}]}`)
	require.JSONEq(t, `[{"n": 1}]`, must(t, c, "query", "count", `{"id": "count", "sql": "SELECT count(*)::int AS n FROM effect"}`))

	// The image's own check asks whether the process lives: an outage of NATS is no reason to restart it.
	_, err := docker(t.Context(), "run", "--detach", "--name", "dbrunner-test-outage", "--network", "dbrunner-test_default",
		"--read-only", "--memory", "128m", "--health-interval", "1s", "--health-retries", "2",
		"--env", "RUNNER_NATS_URLS=nats://nats:4222", "--env", "RUNNER_DATABASES=stock", "--env", "STOCK_TYPE=postgres",
		"--env", "STOCK_CONNECTION_STRING=postgres://dbrunner:Runner-4711@postgres:5432/stock?sslmode=disable", image)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := docker(context.Background(), "rm", "--force", "dbrunner-test-outage")
		require.NoError(t, err)
	})
	health := func() string {
		value, err := docker(t.Context(), "inspect", "--format", "{{.State.Health.Status}}", "dbrunner-test-outage")
		require.NoError(t, err)
		return value
	}
	require.Eventually(t, func() bool { return health() == "healthy" }, time.Minute, 200*time.Millisecond)
	_, err = docker(t.Context(), "stop", container("nats"))
	require.NoError(t, err)
	for range 20 {
		require.Equal(t, "healthy", health())
		time.Sleep(500 * time.Millisecond) // by the clock: nothing may happen meanwhile
	}
	_, err = docker(t.Context(), "start", container("nats"))
	require.NoError(t, err)
	must(t, c, "query", "after", `{"id": "after", "sql": "SELECT 1 AS n"}`)
	require.Equal(t, "0", inspect(t, "runner", "{{.RestartCount}}"), "a NATS outage ends no runner")
	requireBounded(t, "runner")
}

// kill ends the containers immediately, as a crash of their machine would, and starts them again.
func kill(ctx context.Context, pause time.Duration, services ...string) error {
	var names []string
	for _, service := range services {
		names = append(names, container(service))
	}
	if _, err := docker(ctx, append([]string{"kill"}, names...)...); err != nil {
		return err
	}
	time.Sleep(pause) // by the clock: for how long it is down
	_, err := docker(ctx, append([]string{"start"}, names...)...)
	return err
}

// TestCluster publishes transactions while everything that can be killed is killed: each has its effect once.
func TestCluster(t *testing.T) {
	const publishers, jobs = 32, 6000
	up(t, "cluster")
	c := connect(t, "nats://127.0.0.1:4222,nats://127.0.0.1:4223,nats://127.0.0.1:4224")
	must(t, c, "transaction", "create", `{"id": "create", "statements": [{"sql": "CREATE TABLE effect (job text)"}]}`)

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	var next, done atomic.Int64
	for range publishers {
		group.Go(func() error {
			for n := next.Add(1); n <= jobs; n = next.Add(1) {
				id := fmt.Sprintf("job-%d", n)
				result, err := do(ctx, c, "transaction", id,
					fmt.Sprintf(`{"id": %q, "statements": [{"sql": "INSERT INTO effect VALUES (:job)", "params": {"job": %q}}]}`, id, id))
				if err != nil {
					return err
				}
				if result.Status != "succeeded" {
					return fmt.Errorf("job %s: %s %+v", id, result.Status, result.Error)
				}
				done.Add(1)
			}
			return nil
		})
	}
	// Each kill waits for its share of the jobs, so that all of them happen under load.
	victims := [][]string{
		{"runner-1"}, {"nats-2"}, {"postgres"}, {"runner-2"}, {"nats-1", "nats-2", "nats-3"}, {"nats-3", "runner-1"}, {"postgres", "runner-2"},
	}
	group.Go(func() error {
		for i, services := range victims {
			for done.Load() < int64(jobs*(i+1)/(len(victims)+1)) {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(20 * time.Millisecond):
				}
			}
			t.Logf("killing %s after %d jobs", strings.Join(services, " and "), done.Load())
			if err := kill(ctx, time.Second, services...); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, group.Wait())
	require.LessOrEqual(t, next.Load(), int64(jobs+publishers))

	var counts []struct{ Effects, Jobs int }
	rows := must(t, c, "query", "count", `{"id": "count", "sql": "SELECT count(*)::int AS effects, count(DISTINCT job)::int AS jobs FROM effect"}`)
	require.NoError(t, json.Unmarshal([]byte(rows), &counts))
	require.Len(t, counts, 1)
	require.Equal(t, jobs, counts[0].Jobs, "every job has its effect")
	require.Equal(t, jobs, counts[0].Effects, "no job has two")
	t.Logf("%d jobs, %d kills, each job's effect once", jobs, len(victims))
	for _, service := range []string{"runner-1", "runner-2"} {
		requireBounded(t, service)
	}
}
