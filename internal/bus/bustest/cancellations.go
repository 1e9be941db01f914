package bustest

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
)

// WatchCancellations runs the reading of requests to cancel jobs of Database until the test's end.
func WatchCancellations(t *testing.T, conn *bus.Conn) *control.Cancellations {
	t.Helper()
	n := control.NewCancellations(conn, []string{Database})
	FollowCancellations(t, n)
	return n
}

// FollowCancellations runs the reading of requests to cancel until the test's end, and returns when all have been read.
func FollowCancellations(t *testing.T, n *control.Cancellations) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.NoError(t, n.Ready(t.Context()))
}
