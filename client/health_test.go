package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// TestAwaitHealthy waits while the database is paused, and reports by whom.
func TestAwaitHealthy(t *testing.T) {
	t.Parallel()
	url, end, err := world(context.Background())
	require.NoError(t, err)
	defer end()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	c, err := client.New(nc, client.Options{})
	require.NoError(t, err)
	health, err := c.AwaitHealthy(t.Context(), "demo", nil)
	require.NoError(t, err)
	require.Equal(t, contract.Healthy, health.Verdict)

	js, err := jetstream.New(nc)
	require.NoError(t, err)
	bucket, err := js.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	revision, err := bucket.Put(t.Context(), "pause.demo", []byte(`{"reason":"upgrade","by":"ada"}`))
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		found, err := c.DatabaseHeartbeats(t.Context(), "demo")
		require.NoError(t, err)
		return len(found) == 1 && len(found[0].Pauses) == 1 && found[0].Pauses[0].Revision == revision
	}, 30*time.Second, 20*time.Millisecond)
	bounded, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = c.AwaitHealthy(bounded, "demo", nil)
	var paused *client.NotHealthyError
	require.ErrorAs(t, err, &paused)
	require.EqualError(t, err, "database demo is not healthy: jobs: they wait: paused by ada: upgrade")
	var changes []string
	health, err = c.AwaitHealthy(t.Context(), "demo", func(h *contract.HealthAnswer, _ error) {
		changes = append(changes, h.Reasons...)
		require.NoError(t, bucket.Delete(t.Context(), "pause.demo"))
	})
	require.NoError(t, err)
	require.Equal(t, contract.Healthy, health.Verdict)
	require.Equal(t, []string{"jobs: they wait: paused by ada: upgrade"}, changes)
	_, err = c.AwaitHealthy(t.Context(), "a.b", nil)
	require.ErrorIs(t, err, client.ErrSubject)
}

// TestHeartbeatsWhileTheyAreSent: a runner that sends another heartbeat while they are read is reported once, by the last one.
func TestHeartbeatsWhileTheyAreSent(t *testing.T) {
	t.Parallel()
	url, end, err := world(context.Background())
	require.NoError(t, err)
	defer end()
	nc, err := nats.Connect(url)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	const runners = 50
	send := func(i, running int) {
		instance := fmt.Sprint("r", i)
		body, err := json.Marshal(contract.DatabaseHeartbeat{Version: 1, Database: "many", Instance: instance, RunnerState: contract.RunnerRunning, Interval: 3600, Running: &running})
		require.NoError(t, err)
		_, err = js.Publish(context.Background(), "dbrunner.health.database.many."+instance, body)
		require.NoError(t, err)
	}
	for i := range runners {
		send(i, 0)
	}
	reader, err := nats.Connect(url)
	require.NoError(t, err)
	defer reader.Close()
	c, err := client.New(reader, client.Options{})
	require.NoError(t, err)
	var again sync.Once
	sent := make(chan struct{})
	_, err = nc.Subscribe("$JS.API.STREAM.MSG.GET.DBRUNNER_HEALTH", func(*nats.Msg) {
		again.Do(func() {
			send(0, 1)
			close(sent)
		})
	})
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	found, err := c.DatabaseHeartbeats(t.Context(), "many")
	require.NoError(t, err)
	<-sent
	require.Len(t, found, runners, "r0 is there once, read before or after its second heartbeat")
}
