package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clockSkewVariable is how far ahead the clock of a skewed runner is, in seconds.
const clockSkewVariable = "DBRUNNER_CLOCK_SKEW"

// skewed is a runner whose clock can be wrong. The system's clock belongs to all processes, so that the runner is built with a
// library of Go whose time.Now adds what the environment says.
func skewed() mutant {
	return mutant{name: "skewed", edits: []edit{
		{
			"src/time/time.go", "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}",
			"\tsec, nsec, mono := runtimeNow()\n\tsec += clockSkew\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}",
		},
		{"src/time/sys_unix.go", "// for testing: whatever interrupts a sleep\n", `// clockSkew is how far ahead this process's clock is, in seconds.
var clockSkew = func() (n int64) {
	text, _ := syscall.Getenv("` + clockSkewVariable + `")
	minus := len(text) > 0 && text[0] == '-'
	for _, c := range []byte(text) {
		if c >= '0' && c <= '9' {
			n = 10*n + int64(c-'0')
		}
	}
	if minus {
		return -n
	}
	return n
}()

// for testing: whatever interrupts a sleep
`},
	}}
}

// buildSkewed builds a runner whose clock can be wrong.
func (w *world) buildSkewed(ctx context.Context) (string, error) {
	if path := w.binaries["skewed"]; path != "" {
		return path, nil
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("find Go's library: %w", err)
	}
	overlay, err := skewed().overlay(strings.TrimSpace(string(out)), filepath.Join(w.dir, "skewed"))
	if err != nil {
		return "", err
	}
	return w.build(ctx, "skewed", overlay)
}

// clockSkew restarts a runner with a clock that is wrong by up to an hour, for as long as it lives.
func clockSkew(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m := r.anyone(rng)
	seconds := rng.IntN(2*3600) - 3600
	if rng.IntN(2) == 0 {
		seconds /= 600 // some seconds
	}
	m.kill(ctx, fmt.Sprintf("%s=%d", clockSkewVariable, seconds))
	return fmt.Sprintf("%s by %s", m.name, time.Duration(seconds)*time.Second), nil
}
