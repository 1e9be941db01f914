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
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"dbrunner/internal/plaintext"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = ""

func main() {
	// A process whose output has no reader goes on: writing to a pipe without a reader, or to a terminal from the background,
	// is an error of that write and no reason to stop work.
	signal.Ignore(syscall.SIGPIPE, syscall.SIGTTOU)
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
	err := unknownCommand(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	if err == nil {
		return exitOK
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && e.Path == os.Stdout.Name() && errors.Is(e, syscall.EPIPE) {
		return exitPipe // the reader of standard output has gone
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintln(errOut, "runner:", plaintext.Visible(text, "\n\t"))
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		return e.code
	}
	if !started {
		return exitUsage
	}
	return exitFailure
}

// unknownCommand returns what is wrong with a line that names no command of a group: cobra would print the group's help.
func unknownCommand(root *cobra.Command, args []string) error {
	group, rest, err := root.Find(args)
	if err != nil || !group.HasParent() || group.Runnable() || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil
	}
	group.SuggestionsMinimumDistance = 2
	words, what := group.SuggestionsFor(rest[0]), "did you mean %s?"
	if len(words) == 0 {
		what = "write one of %s"
		for _, c := range group.Commands() {
			words = append(words, c.Name())
		}
	}
	return fmt.Errorf("unknown command %q for %q; "+what, rest[0], group.CommandPath(), strings.Join(words, ", "))
}

// arguments checks how many arguments a command has.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		what := "few"
		switch {
		case len(args) > most:
			what = "many"
		case len(args) >= least:
			return nil
		}
		return fmt.Errorf("too %s arguments; write %s", what, strings.TrimSuffix(cmd.UseLine(), " [flags]"))
	}
}

const rootHelp = `Run SQL jobs from NATS JetStream on databases. Each job takes effect exactly once, and its result is published exactly once.

Start with "runner demo", which needs nothing else. "runner serve" is the service.

Exit codes: 0 done; 1 failed; 78 the command line or the configuration is wrong; 130 a second signal stopped the process; 141
standard output was closed. "submit", "cancel" and "job" have further codes. 2 is a crash of the Go runtime (SIGQUIT prints
all goroutines).`

// newRoot returns the whole tree of commands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:               "runner",
		Short:             "SQL jobs over NATS JetStream, exactly once",
		Long:              rootHelp,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.AddCommand(
		newServe(), newDemo(), newSubmit(), newApprove(), newCall(), newResult(), newCheck(), newDiagnose(),
		newWait(), newHealthcheck(), newPs(), newCancel(), newPause(), newResume(), newSchedule(), newJob(), newDead(), newTopology(),
		newLedger(), newOutbox(), newVerify(), newContract(), newMigrate(), newAudit(), newUI(), newMCP(), newVersion(),
	)
	return root
}

// The exit codes. They are part of the product: the help of the root command lists them.
const (
	exitOK      = 0
	exitFailure = 1   // what was asked for could not be done
	exitJob     = 3   // submit: the job ended failed, rejected, cancelled or expired: it has no effect; cancel: ended already
	exitUnknown = 4   // submit: the job ended unknown: it may have taken effect
	exitTimeout = 5   // submit: no answer in time, the job goes on; cancel: the request is kept
	exitUsage   = 78  // the command line or the configuration is wrong; not 2, with which the Go runtime ends a crash
	exitSignal  = 130 // a second signal ended the process immediately
	exitPipe    = 141 // standard output has no reader any more
)

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

// usage marks an error as the caller's: a flag, an argument or the configuration.
func usage(err error) error {
	if err == nil {
		return nil
	}
	return &exitError{code: exitUsage, err: err}
}
