package process

import (
	"context"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAProcessIsWaitedForByWhatItDoes(t *testing.T) {
	t.Parallel()
	p, err := Start(os.Environ(), "sh", "-c", "echo ready; read word; echo failed >&2; exit 3")
	require.NoError(t, err)
	line, err := p.Line()
	require.NoError(t, err)
	require.Equal(t, "ready", line)
	require.Positive(t, p.Memory("VmHWM"))

	ok := make(chan struct{})
	close(ok)
	ctx, cancel := context.WithCancel(t.Context())
	require.NoError(t, List{p}.Await(ctx, ok, func() {}))
	cancel()
	require.ErrorIs(t, p.Await(ctx, nil), context.Canceled)

	require.NoError(t, p.hold(), "it reads no word and fails")
	err = p.Await(t.Context(), nil)
	require.ErrorContains(t, err, "ended")
	require.ErrorContains(t, err, "failed")
	require.True(t, p.Ended())
	require.ErrorContains(t, List{p}.Stop(), "exit status 3")
}

func TestWaitingTicks(t *testing.T) {
	t.Parallel()
	list, err := One(Start(os.Environ(), "sleep", "600"))
	require.NoError(t, err)
	ok, ticks := make(chan struct{}), 0
	require.NoError(t, list.Await(t.Context(), ok, func() {
		if ticks++; ticks == 1 {
			close(ok)
		}
	}))
	require.Equal(t, 1, ticks)
	require.Error(t, list.Stop(), "it ends by the signal")
}
