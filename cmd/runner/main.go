// Runner is the command of dbrunner: it serves the databases of a configuration, shows itself in a demo, and has the
// clients that publishers and operators need at hand. This package is flags and text; internal/app does the work.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
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
	started := markStart(root)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if readerGone(err) {
		return exitPipe
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintln(errOut, "runner:", text)
	}
	return codeOf(err, *started)
}
