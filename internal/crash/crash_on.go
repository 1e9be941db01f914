//go:build crashpoints

// Package crash marks the places where a runner is killed by the crash tests. In an ordinary build a mark
// is an empty function; a build with the tag crashpoints kills the process there when the environment asks.
package crash

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// passes counts how often the place was passed at which the process is to die; stopped: it was stopped once.
var (
	passes  = new(atomic.Int64)
	stopped = new(atomic.Bool)
)

// stopTime is how long the signal may take until it has stopped all threads.
const stopTime = 200 * time.Millisecond

// At kills the process with SIGKILL if the environment variable DBRUNNER_CRASH_AT names this place, or, as "place:n", when it
// is passed for the n-th time. It stops the process with SIGSTOP the first time, if DBRUNNER_FREEZE_AT names this place.
func At(place string) {
	if os.Getenv("DBRUNNER_FREEZE_AT") == place && !stopped.Swap(true) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
		time.Sleep(stopTime)
	}
	name, count, _ := strings.Cut(os.Getenv("DBRUNNER_CRASH_AT"), ":")
	if name != place {
		return
	}
	n, _ := strconv.ParseInt(count, 10, 64)
	if passes.Add(1) >= n {
		die()
	}
}

// AtJob kills the process with SIGKILL if the environment variable DBRUNNER_CRASH_JOB names this job.
func AtJob(id string) {
	if os.Getenv("DBRUNNER_CRASH_JOB") == id {
		die()
	}
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // nothing behind this line runs
}
