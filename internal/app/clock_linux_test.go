package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeaseClock(t *testing.T) {
	t.Parallel()
	now := leaseClock()
	begun, begunHere := now(), time.Now()
	time.Sleep(20 * time.Millisecond) // by the clock: it is what is tested
	passed := now().Sub(begun)
	require.GreaterOrEqual(t, passed, 20*time.Millisecond)
	require.LessOrEqual(t, passed, time.Since(begunHere)+10*time.Millisecond)
	require.Less(t, begun.Year(), 2000, "it counts from the boot: nobody sets it")
}
