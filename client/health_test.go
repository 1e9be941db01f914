package client_test

import (
	"context"
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
