package schedule_test

import (
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

var fleetCost = flag.Duration("cost", 0, "measure this long what tracking costs; 0: not at all")

// TestFleetCost measures the CPU time of 16 runners that track 10,000 schedules, each of which fires once an hour, as a share of one
// core per runner. The server is in the same process, so it is an upper bound.
func TestFleetCost(t *testing.T) {
	if *fleetCost == 0 {
		t.Skip("only with -cost 1m")
	}
	const runners, schedules = 16, 10_000
	f := newFleet(t)
	for i := range schedules {
		record := fmt.Sprintf(`{"cron":"%d * * * *","overlap":"allow","job":%s}`, i%60, job)
		_, err := f.JS.PublishAsync(fmt.Sprintf("$KV.DBRUNNER_SCHEDULES.jobs.demo.query.s%d", i), []byte(record))
		require.NoError(t, err)
		if i%1000 == 999 {
			<-f.JS.PublishAsyncComplete()
		}
	}
	for i := range runners {
		f.start(fmt.Sprintf("runner%d", i))
	}
	for i := range schedules {
		f.await(fmt.Sprintf("jobs.demo.query.s%d", i), func(s *contract.ScheduleState) bool { return s.Next != nil })
	}
	used := func() time.Duration {
		var u syscall.Rusage
		require.NoError(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before, started := used(), time.Now()
	require.Eventually(t, func() bool { return time.Since(started) >= *fleetCost }, 2**fleetCost, time.Second)
	spent, elapsed := used()-before, time.Since(started)
	t.Logf("%.2f %% of a core per runner, server included", 100*spent.Seconds()/elapsed.Seconds()/runners)
}
