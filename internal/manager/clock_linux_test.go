package manager

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestLeaseClock(t *testing.T) {
	t.Parallel()
	now := LeaseClock()
	started, startedHere := now(), time.Now()
	time.Sleep(20 * time.Millisecond) // by the clock: it is what is tested
	passed := now().Sub(started)
	require.GreaterOrEqual(t, passed, 20*time.Millisecond)
	require.LessOrEqual(t, passed, time.Since(startedHere)+10*time.Millisecond)
	require.Less(t, started.Year(), 2000, "it counts from the boot and cannot be set")
}

// TestLeaseClockGoesOnWhileSuspended puts a process on a machine that seems to have been suspended for a day: its clocks of the
// time since the boot and of the time awake differ by that.
func TestLeaseClockGoesOnWhileSuspended(t *testing.T) {
	t.Parallel()
	const variable = "DBRUNNER_TEST_LEASE_CLOCK"
	if os.Getenv(variable) != "" {
		fmt.Println("clock:", LeaseClock()().Unix())
		return
	}
	read := func(command ...string) int64 {
		cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], os.Args[0], "-test.run=^"+t.Name()+"$")...)
		cmd.Env = append(os.Environ(), variable+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Skipf("SKIPPED, not tested: no namespace of clocks can be made here: %s", out)
		}
		_, text, _ := strings.Cut(string(out), "clock: ")
		text, _, _ = strings.Cut(text, "\n")
		seconds, err := strconv.ParseInt(text, 10, 64)
		require.NoError(t, err, "%s", out)
		return seconds
	}
	const day = 24 * 60 * 60
	here := read("env")
	there := read("unshare", "--time", "--boottime", strconv.Itoa(day), "--fork")
	require.InDelta(t, here+day, there, 600)
}
