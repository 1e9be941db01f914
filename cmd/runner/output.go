package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"
	"github.com/spf13/cobra"

	"dbrunner/internal/plaintext"
)

// printJSON prints a value as one indented JSON document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows in columns that line up, the first ones in the styles of paint.
func table(w io.Writer, indent string, rows [][]string, paint ...func(string) string) error {
	var buf bytes.Buffer
	tw := tabwriter.NewWriter(&buf, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i := range row {
			cells[i] = plaintext.Visible(row[i], "")
		}
		_, _ = fmt.Fprintln(tw, indent+strings.Join(cells, "\t")) // a buffer takes everything
	}
	_ = tw.Flush()
	if len(paint) == 0 {
		_, err := buf.WriteTo(w)
		return err
	}
	for i, line := range strings.SplitAfter(buf.String(), "\n") {
		text := strings.TrimRight(line, " \n")
		if text == "" {
			continue
		}
		if i < len(paint) {
			text = indent + paint[i](strings.TrimPrefix(text, indent))
		}
		if _, err := fmt.Fprintln(w, text); err != nil {
			return err
		}
	}
	return nil
}

// lineWidth is how long a line on a terminal may get: a longer one would wrap, and could not be rewritten.
const lineWidth = 79

// statusLine is a line on a terminal that is rewritten to show that something goes on.
type statusLine struct {
	out   io.Writer
	on    bool // out is a terminal; elsewhere nothing is written
	width int  // of the text that is there
}

// draw rewrites the line, with blanks over what is left of a longer one.
func (l *statusLine) draw(text string) {
	if !l.on {
		return
	}
	text = clip(text, lineWidth)
	width := len([]rune(text))
	_, _ = fmt.Fprint(l.out, "\r"+text+strings.Repeat(" ", max(0, l.width-width))+"\r"+text)
	l.width = width
}

// clear takes the line away.
func (l *statusLine) clear() {
	if l.width > 0 {
		l.draw("")
	}
}

// clip shortens a text to a number of characters.
func clip(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return string(runes[:most-1]) + "…"
}

// style colours text on a terminal and leaves it alone elsewhere.
type style struct{ on bool }

// styleFor follows https://no-color.org: no colours where NO_COLOR is set.
func styleFor(w io.Writer) style {
	return style{on: os.Getenv("NO_COLOR") == "" && onTerminal(w)}
}

func (s style) bold(text string) string  { return s.wrap("1", text) }
func (s style) dim(text string) string   { return s.wrap("2", text) }
func (s style) green(text string) string { return s.wrap("32", text) }
func (s style) red(text string) string   { return s.wrap("31", text) }

func (s style) wrap(code, text string) string {
	if !s.on {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// confirm asks a question and returns nil if the answer is yes.
func confirm(ctx context.Context, cmd *cobra.Command, question string) error {
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s [y/N] ", question)
	answer, err := readLine(ctx, cmd.InOrStdin())
	if err == nil && !isYes(answer) {
		err = errors.New("not confirmed; nothing was changed")
	}
	return err
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
