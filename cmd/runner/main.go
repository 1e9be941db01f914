// Runner is the command of dbrunner: it serves the databases of a configuration, shows itself in a demo, and has the
// clients that publishers and operators need at hand. This package is flags and text; internal/app does the work.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = ""

func main() {
	ignoreOutputSignals()
	ctx := signalContext()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRoot() //nolint:contextcheck // the commands get the context from ExecuteContext
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	started := false // the command's own code: an error before that is cobra's, about the command line
	root.PersistentPreRun = func(*cobra.Command, []string) { started = true }
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Path == os.Stdout.Name() && errors.Is(e, syscall.EPIPE) {
		return exitPipe // the reader of standard output has gone
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintln(errOut, "runner:", text)
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if !started {
		return exitUsage
	}
	return exitFailure
}
