package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// clockSkewVariable is how far ahead the clock of a skewed runner is, in seconds: one value, or values that take turns for a second each.
const clockSkewVariable = "DBRUNNER_CLOCK_SKEW"

// skewed is a runner whose clock can be wrong, and step. The system's clock belongs to all processes, so that the runner is built with a
// library of Go whose time.Now adds what the environment says. The monotonic clock goes on, as it does when a system's clock is set.
func skewed() mutant {
	return mutant{name: "skewed", edits: []edit{
		{
			"src/time/time.go", "\tsec, nsec, mono := runtimeNow()\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}",
			"\tsec, nsec, mono := runtimeNow()\n\tsec += clockSkew(mono)\n\tif mono == 0 {\n\t\treturn Time{uint64(nsec), sec + unixToInternal, Local}",
		},
		{"src/time/sys_unix.go", "// for testing: whatever interrupts a sleep\n", `// clockSkews is how far ahead this process's clock is, in seconds.
var clockSkews = func() (all []int64) {
	text, _ := syscall.Getenv("` + clockSkewVariable + `")
	n, sign := int64(0), int64(1)
	for _, c := range []byte(text + ",") {
		switch {
		case c == '-':
			sign = -1
		case c >= '0' && c <= '9':
			n = 10*n + int64(c-'0')
		default:
			all, n, sign = append(all, sign*n), 0, 1
		}
	}
	return all
}()

func clockSkew(mono int64) int64 {
	if len(clockSkews) == 0 {
		return 0
	}
	return clockSkews[uint64(mono)/1e9%uint64(len(clockSkews))]
}

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

// clockSkew restarts a runner with a clock that is wrong by up to an hour, for as long as it lives, or steps both ways each second.
func clockSkew(ctx context.Context, r *round, rng *rand.Rand) (string, error) {
	m := r.anyone(rng)
	values := make([]string, 1+rng.IntN(2)*7)
	for i := range values {
		seconds := rng.IntN(2*3600) - 3600
		if rng.IntN(2) == 0 {
			seconds /= 600 // some seconds
		}
		values[i] = strconv.Itoa(seconds)
	}
	ahead := strings.Join(values, ",")
	m.kill(ctx, clockSkewVariable+"="+ahead)
	return fmt.Sprintf("%s by %s s", m.name, ahead), nil
}
