//go:build crashpoints

// Package crash marks the places where a runner is killed by the crash tests. In an ordinary build a mark
// is an empty function; a build with the tag crashpoints kills the process there when the environment asks.
package crash

import (
	"os"
	"syscall"
)

// At kills the process with SIGKILL if the environment variable DBRUNNER_CRASH_AT names this place.
func At(place string) {
	if os.Getenv("DBRUNNER_CRASH_AT") == place {
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
