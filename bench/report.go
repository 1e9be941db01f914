package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"dbrunner/bench/figures"
)

// report is latest.json.
type report struct {
	Host        map[string]string            `json:"host"`
	Load        float64                      `json:"load_before"`
	Spread      float64                      `json:"bare_spread"`
	Rounds      int                          `json:"rounds"`
	Rows        figures.Rows                 `json:"rows"`
	Latency     map[string]latency           `json:"latency,omitempty"`
	Memory      map[string]float64           `json:"memory,omitempty"`
	Allocations map[string]allocationsPerJob `json:"allocations,omitempty"`
	Flat        map[string]float64           `json:"flat,omitempty"`
	Sizes       map[string]float64           `json:"sizes,omitempty"`
	Large       map[string]float64           `json:"large,omitempty"`
	Scale       *scaleReport                 `json:"scale,omitempty"`

	options options
}

func newReport(ctx context.Context, w *world) *report {
	r := &report{Rounds: w.opts.rounds, options: w.opts, Host: map[string]string{
		"time": time.Now().UTC().Format(time.RFC3339), "system": runtime.GOOS + "/" + runtime.GOARCH,
		"cores": fmt.Sprint(runtime.NumCPU()), "cpu": cpuModel(), "go": runtime.Version(),
		"postgres_settings": strings.Join(postgresSettings, " "), "connections": fmt.Sprint(connections),
	}}
	if conn, err := pgx.Connect(ctx, w.databaseURL()); err == nil {
		r.Host["postgres"] = conn.PgConn().ParameterStatus("server_version")
		_ = conn.Close(ctx)
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if strings.Contains(m.Path, "nats") || strings.Contains(m.Path, "pgx") || m.Path == "modernc.org/sqlite" {
				r.Host[m.Path] = m.Version
			}
		}
	}
	return r
}

func cpuModel() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.Trim(name, "\t :\n")
		}
	}
	return ""
}

func (r *report) add(name, mode string, s figures.Sample) {
	jobs := 0
	for _, k := range works() {
		if k.name == name && mode != "raw-pgx" {
			jobs = r.options.size(&k)
		}
	}
	r.Rows.Add(name, mode, jobs, s)
}

func (r *report) print(out io.Writer) error {
	r.Rows.Finish()
	r.Spread, _ = r.Rows.Spread()
	if r.Scale != nil {
		if err := r.Scale.print(out); err != nil {
			return err
		}
	}
	if len(r.Rows) > 0 {
		if err := r.printRows(out); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(out, "load before the start: %.0f %%; the bare loop's CPU per job varies by %.0f %%\n", r.Load*100, r.Spread*100)
	return r.printParts(out)
}

func (r *report) printRows(out io.Writer) error {
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "work\tmode\tCPU µs/job\ttimes bare\trounds\tworker\tnats\tpostgres\tjobs/s\tratio\tpeak MB\t")
	for _, x := range r.Rows {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.0f–%.0f\t%.0f\t%.0f\t%.0f\t%.0f\t%.2f\t%.0f\t\n",
			x.Work, x.Mode, x.CPU, x.CPURatio, x.Lowest, x.Highest, x.Worker, x.NATS, x.Postgres, x.Rate, x.Ratio, x.Peak)
	}
	return t.Flush()
}

func (r *report) printParts(out io.Writer) error {
	for _, part := range []struct {
		name  string
		value any
	}{{"latency", r.Latency}, {"memory", r.Memory}, {"allocations", r.Allocations}, {"flat", r.Flat}, {"sizes", r.Sizes}, {"large", r.Large}} {
		text, err := json.Marshal(part.value)
		if err != nil {
			return err
		}
		if string(text) != "null" {
			_, _ = fmt.Fprintf(out, "%s: %s\n", part.name, text)
		}
	}
	return nil
}

// write keeps the figures: as JSON, and in the page's table. Those of a busy machine are not kept.
func (r *report) write(path, page string) error {
	if path == "" {
		return nil
	}
	if err := r.Rows.CheckSpread(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil || page == "" || len(r.Rows) == 0 {
		return err
	}
	return r.Rows.Fill(page)
}
