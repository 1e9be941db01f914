package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"dbrunner/internal/db/migration"
)

// ask returns what an action is about to destroy or to overrule, and asks whether it shall, on a terminal.
func (w *migrateWork) ask(ctx context.Context) error {
	asks := !w.flags.yes && onTerminal(w.cmd.InOrStdin())
	switch {
	case w.req.Action == migration.Repair:
		if err := w.tellWrong(ctx); err != nil {
			return err
		}
		if asks {
			return confirm(ctx, w.cmd, fmt.Sprintf("Set the version of %s to %s?", w.database, w.req.Target))
		}
	case w.flags.mayAsk(w.req.Action) && asks:
		n, err := w.tellReverts(ctx)
		if err == nil && n > 0 {
			err = confirm(ctx, w.cmd, fmt.Sprintf("Revert %s of %s?", countOf(n, "file"), w.database))
		}
		return err
	}
	return nil
}

// tellWrong prints what is wrong, before repair changes it.
func (w *migrateWork) tellWrong(ctx context.Context) error {
	report, err := w.m.Run(ctx, migration.Request{Action: migration.Validate, Timeout: w.req.Timeout, OutOfOrder: true})
	if err != nil {
		return w.exit(report, errors.Join(err, w.print(report, err)))
	}
	if report.Problem != "" {
		w.told = append(w.told, report.Problem)
	}
	for i := range report.Faults {
		w.told = append(w.told, report.Faults[i].String())
	}
	out := w.cmd.ErrOrStderr()
	_, _ = fmt.Fprintf(out, "%s is at version %s\n", w.database, report.After.Label)
	for _, text := range w.told {
		_, _ = fmt.Fprintln(out, "wrong:", text)
	}
	if len(w.told) == 0 {
		_, _ = fmt.Fprintln(out, "no problems found")
	}
	return nil
}

// tellReverts prints the files that would be run to revert, and returns how many. What would be refused is left to
// the action itself.
func (w *migrateWork) tellReverts(ctx context.Context) (int, error) {
	report, err := w.m.Run(ctx, migration.Request{Action: migration.Plan, Target: w.req.Target, Timeout: w.req.Timeout})
	if err != nil {
		return 0, w.exit(report, errors.Join(err, w.print(report, err)))
	}
	if len(report.Faults) > 0 || len(report.Plan) == 0 || report.Plan[0].Direction == "up" {
		return 0, nil
	}
	for i := range report.Plan {
		_, _ = fmt.Fprintf(w.cmd.ErrOrStderr(), "%s reverts version %s\n", report.Plan[i].File, report.Plan[i].Version.Label)
	}
	return len(report.Plan), nil
}

// confirm asks a question and returns nil if the answer is yes.
func confirm(ctx context.Context, cmd *cobra.Command, question string) error {
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := readLine(ctx, cmd.InOrStdin())
	if err != nil {
		return err
	}
	if !isYes(answer) {
		return errors.New("not confirmed; nothing was changed")
	}
	return nil
}

func isYes(answer string) bool {
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// readLine reads a line, or ends with ctx. A read of a terminal cannot be ended: then its goroutine lives until the
// process ends, which is immediately.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	read := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // without a line it is no yes
		read <- line
	}()
	select {
	case line := <-read:
		return line, nil
	case <-ctx.Done():
		return "", errors.New("stopped at the question; nothing was changed")
	}
}

// onTerminal reports whether a stream is a terminal.
func onTerminal(stream any) bool {
	file, ok := stream.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}
