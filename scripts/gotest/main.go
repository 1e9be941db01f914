// Command gotest runs go test with the arguments that it is given, prints what go test would print, and at the end
// lists the tests that were skipped, each with its reason: a green run must not hide what it did not look at.
package main

import (
	"fmt"
	"os"
	"os/exec"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 1
	}
	os.Exit(code)
}

// run returns the exit code of go test, which is the answer whatever the report says.
func run(args []string) (int, error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	readErr := newReport(os.Stdout).read(out)
	if err := cmd.Wait(); err != nil {
		return max(1, cmd.ProcessState.ExitCode()), readErr
	}
	return 0, readErr
}
