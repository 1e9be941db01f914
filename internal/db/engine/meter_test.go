package engine_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/engine"
)

func TestWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var w engine.Waits
		require.False(t, w.Any())
		first := w.Begin()
		time.Sleep(time.Second)
		second := w.Begin()
		time.Sleep(time.Second)
		waiting, longest := w.Longest()
		require.Equal(t, 2, waiting)
		require.Equal(t, 2*time.Second, longest)
		require.True(t, w.Any())
		require.Equal(t, 2*time.Second, first())
		waiting, longest = w.Longest()
		require.Equal(t, 1, waiting)
		require.Equal(t, time.Second, longest)
		require.Equal(t, time.Second, second())
		waiting, longest = w.Longest()
		require.Zero(t, waiting)
		require.Zero(t, longest)
		require.False(t, w.Any())
	})
}
