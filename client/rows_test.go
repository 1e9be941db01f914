package client_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/internal/bus/bustest"
)

// storedRows are an object of several chunks.
func storedRows(t *testing.T) (nc *nats.Conn, js jetstream.JetStream, rows *contract.RowsObject, content []byte) {
	t.Helper()
	nc, js = bustest.Plain(t, bustest.Server(t).ClientURL())
	bucket, err := js.CreateObjectStore(t.Context(), jetstream.ObjectStoreConfig{Bucket: "ROWS"})
	require.NoError(t, err)
	content = bustest.Content(1 << 20)
	info, err := bucket.PutBytes(t.Context(), "a", content)
	require.NoError(t, err)
	return nc, js, &contract.RowsObject{Bucket: "ROWS", Name: "a", Digest: info.Digest}, content
}

// slowWriter takes its time for the first rows, as a pager does.
type slowWriter struct {
	rows  bytes.Buffer // not embedded: it would read by itself
	pause time.Duration
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.rows.Len() == 0 {
		time.Sleep(w.pause) // by the clock: it is what is tested
	}
	return w.rows.Write(p)
}

// TestRowsWaitForTheirWriter: the limit is on how long nothing comes, not on how long the caller takes for what has come.
func TestRowsWaitForTheirWriter(t *testing.T) {
	t.Parallel()
	nc, _, rows, content := storedRows(t)
	const limit = 2 * time.Second
	to := &slowWriter{pause: 2 * limit}
	require.NoError(t, client.RowsWithin(t.Context(), newClient(t, nc), rows, to, limit))
	require.True(t, bytes.Equal(content, to.rows.Bytes()))
}

// TestRowsWithoutTheirChunks ends by itself, naming what is missing, and when its caller ends it: the library's own read does neither.
func TestRowsWithoutTheirChunks(t *testing.T) {
	t.Parallel()
	nc, js, rows, _ := storedRows(t)
	c := newClient(t, nc)
	stream, err := js.Stream(t.Context(), "OBJ_ROWS")
	require.NoError(t, err)
	require.NoError(t, stream.Purge(t.Context(), jetstream.WithPurgeSubject("$O.ROWS.C.>")))
	var to bytes.Buffer
	err = client.RowsWithin(t.Context(), c, rows, &to, 100*time.Millisecond)
	require.ErrorIs(t, err, client.ErrRowsStalled)
	require.NotErrorIs(t, err, context.Canceled)
	require.Empty(t, to.Bytes())

	other, _ := bustest.Plain(t, nc.ConnectedUrl())
	ended, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	c = newClient(t, other)
	go func() { done <- c.Rows(ended, rows, &to) }()
	require.Eventually(t, func() bool { return other.NumSubscriptions() > 1 }, time.Minute, time.Millisecond, "it waits for the first chunk, besides the answers to its requests")
	cancel()
	select {
	case err := <-done:
		require.ErrorIs(t, err, context.Canceled)
	case <-time.After(20 * time.Second): // it gives up by itself after 30
		require.FailNow(t, "it went on although its caller had ended it")
	}
}
