package figures

import (
	"fmt"
	"os"
	"strings"
)

// The table of a page stands between these lines.
const (
	tableBegin = "<!-- table: written by make bench -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// Table is the rows in Markdown.
func (r Rows) Table() string {
	var b strings.Builder
	b.WriteString("| work | mode | CPU µs per job | times bare | rounds | worker | NATS | PostgreSQL | jobs/s | ratio to bare | peak MB |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, x := range r {
		cpu, times, rounds := cell("%.0f", x.CPU), cell("%.2f", x.CPURatio), ""
		if x.Highest > 0 {
			rounds = fmt.Sprintf("%.0f–%.0f", x.Lowest, x.Highest)
		}
		_, _ = fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", x.Work, x.Mode, cpu, times, rounds,
			cell("%.0f", x.Worker), cell("%.0f", x.NATS), cell("%.0f", x.Postgres), thousands(x.Rate), cell("%.2f", x.Ratio), cell("%.0f", x.Peak))
	}
	return strings.ReplaceAll(b.String(), "  |", " |")
}

func cell(format string, v float64) string {
	if v == 0 {
		return ""
	}
	return fmt.Sprintf(format, v)
}

// thousands writes a number with a comma after its thousands.
func thousands(v float64) string {
	n := int64(v + 0.5)
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// Fill puts the table into a page, in the place of the one that is there.
func (r Rows) Fill(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return fmt.Errorf("%s has no place for the table: the lines %q and %q", page, tableBegin, tableEnd)
	}
	return os.WriteFile(page, []byte(before+tableBegin+r.Table()+tableEnd+after), 0o644)
}
