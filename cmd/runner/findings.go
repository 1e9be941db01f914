package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"dbrunner/internal/inspect"
)

// printFindings shows findings as a table, a remedy below what it is for.
func printFindings(w io.Writer, findings []inspect.Finding) error {
	if len(findings) == 0 {
		return nil
	}
	rows := [][]string{{"VERDICT", "ABOUT", "PART", "LATENCY", "WHAT"}}
	for i := range findings {
		f := &findings[i]
		rows = append(rows, []string{string(f.Grade), f.About, f.Part, latency(f.Latency), f.Text})
		if f.Remedy != "" && f.Grade != inspect.GradeOK {
			rows = append(rows, []string{"", "", "", "", "→ " + f.Remedy})
		}
	}
	return tableNamed(w, rows)
}

// tableNamed is table with a first row of names in bold.
func tableNamed(w io.Writer, rows [][]string) error {
	var buf bytes.Buffer
	if err := table(&buf, "", rows); err != nil {
		return err
	}
	head, rest, _ := strings.Cut(buf.String(), "\n")
	_, err := fmt.Fprintln(w, styleFor(w).bold(strings.TrimRight(head, " "))+"\n"+strings.TrimRight(rest, "\n"))
	return err
}

func latency(d time.Duration) string {
	switch {
	case d <= 0:
		return ""
	case d < time.Millisecond:
		return d.Round(time.Microsecond).String()
	default:
		return d.Round(100 * time.Microsecond).String()
	}
}

// progress shows on a terminal's standard error that something goes on, and nothing elsewhere.
type progress struct {
	w    io.Writer
	on   bool
	seen int
}

func (p *progress) note(f inspect.Finding) {
	if !p.on {
		return
	}
	p.seen++
	_, _ = fmt.Fprintf(p.w, "\r\x1b[K%d checked, last %s %s", p.seen, f.About, f.Part)
}

func (p *progress) end() {
	if p.on {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// verdictError gives a look its exit code. What was found was printed: there is nothing more to say.
func verdictError(findings []inspect.Finding, strict bool) error {
	worst := inspect.Worst(findings)
	if worst == inspect.GradeFault || strict && worst == inspect.GradeWarning {
		return &exitError{code: exitFailure}
	}
	return nil
}
