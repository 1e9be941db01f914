package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/mattn/go-isatty"
)

// printJSON prints a value as one indented JSON document.
func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows in columns that line up.
func table(w io.Writer, indent string, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, row := range rows {
		_, _ = fmt.Fprint(tw, indent)
		for i, cell := range row {
			if i > 0 {
				_, _ = fmt.Fprint(tw, "\t")
			}
			_, _ = fmt.Fprint(tw, cell)
		}
		_, _ = fmt.Fprintln(tw)
	}
	return tw.Flush()
}

// tableWithHead is table with a first row of names in bold and a second one of types, dim.
func tableWithHead(w io.Writer, s style, indent string, rows [][]string) error {
	var buf bytes.Buffer
	if err := table(&buf, indent, rows); err != nil {
		return err
	}
	paint := []func(string) string{s.bold, s.dim}
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

// style colours text on a terminal and leaves it alone elsewhere.
type style struct{ on bool }

// styleFor follows https://no-color.org: no colours where NO_COLOR is set.
func styleFor(w io.Writer) style {
	file, ok := w.(*os.File)
	return style{on: ok && os.Getenv("NO_COLOR") == "" && isatty.IsTerminal(file.Fd())}
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
