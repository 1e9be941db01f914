package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/control"
)

// The first attempt after a success, or after a time without a link, is as short as the very first one.
func TestFailedAttemptsAreCountedInARow(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	lost := errors.New("no answer")
	ends := []error{lost, lost, nil, lost, control.ErrNoLink, lost, nil}
	var counted []int
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	require.NoError(t, control.Follow(ctx, b.Conn, time.Millisecond, func(_ context.Context, failed int) error {
		counted = append(counted, failed)
		if len(counted) == len(ends) {
			cancel()
		}
		return ends[len(counted)-1]
	}))
	require.Equal(t, []int{0, 1, 2, 0, 1, 0, 1}, counted)
}

func TestAttemptsBecomeLonger(t *testing.T) {
	t.Parallel()
	for failed, limit := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second} {
		require.Equal(t, limit, control.LimitOf(true, failed))
	}
	require.Equal(t, 5*time.Second, control.LimitOf(false, 0), "a bucket that was never read may have to be created")
}
