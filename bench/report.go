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
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
)

// row is the medians of one work in one mode over all rounds.
type row struct {
	Work     string  `json:"work"`
	Mode     string  `json:"mode"`
	Jobs     int     `json:"jobs,omitempty"`
	Rate     float64 `json:"jobs_per_s"`
	Ratio    float64 `json:"ratio_to_bare,omitempty"`
	Worker   float64 `json:"cpu_us_per_job,omitempty"`
	NATS     float64 `json:"nats_cpu_us_per_job,omitempty"`
	Postgres float64 `json:"postgres_cpu_us_per_job,omitempty"`
	Peak     float64 `json:"peak_mb,omitempty"`

	samples []sample
}

// report is latest.json.
type report struct {
	Host        map[string]string            `json:"host"`
	Rounds      int                          `json:"rounds"`
	Rows        []*row                       `json:"rows"`
	Latency     map[string]latency           `json:"latency,omitempty"`
	Memory      map[string]float64           `json:"memory,omitempty"`
	Allocations map[string]allocationsPerJob `json:"allocations,omitempty"`
	Flat        map[string]float64           `json:"flat,omitempty"`
	Sizes       map[string]float64           `json:"sizes,omitempty"`
	Large       map[string]float64           `json:"large,omitempty"`

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

func (r *report) add(name, mode string, s sample) {
	for _, known := range r.Rows {
		if known.Work == name && known.Mode == mode {
			known.samples = append(known.samples, s)
			return
		}
	}
	added := &row{Work: name, Mode: mode, samples: []sample{s}}
	for _, k := range works() {
		if k.name == name && mode != "raw-pgx" {
			added.Jobs = r.options.size(&k)
		}
	}
	r.Rows = append(r.Rows, added)
}

// finish computes the medians. A ratio is one of a round, to the bare worker of the same round.
func (r *report) finish() {
	for _, x := range r.Rows {
		x.Rate = round(median(x.samples, func(s sample) float64 { return s.rate }), 1)
		x.Worker = round(median(x.samples, func(s sample) float64 { return s.worker }), 10)
		x.NATS = round(median(x.samples, func(s sample) float64 { return s.nats }), 10)
		x.Postgres = round(median(x.samples, func(s sample) float64 { return s.postgres }), 10)
		x.Peak = megabytes(slices.MaxFunc(x.samples, func(a, b sample) int { return int(a.peak - b.peak) }).peak)
		x.Ratio = r.ratio(x)
	}
	order := []string{"bare", "stored", "reply", "exactly_once", "at_least_once", "raw-pgx", "raw-jetstream"}
	slices.SortStableFunc(r.Rows, func(a, b *row) int {
		if a.Work != b.Work {
			return strings.Compare(fmt.Sprint(len(a.Work), a.Work), fmt.Sprint(len(b.Work), b.Work))
		}
		return slices.Index(order, a.Mode) - slices.Index(order, b.Mode)
	})
}

func (r *report) ratio(x *row) float64 {
	for _, bare := range r.Rows {
		if bare.Work != x.Work || bare.Mode != "bare" {
			continue
		}
		var ratios []sample
		for i := range min(len(x.samples), len(bare.samples)) {
			ratios = append(ratios, sample{rate: x.samples[i].rate / bare.samples[i].rate})
		}
		return round(median(ratios, func(s sample) float64 { return s.rate }), 1000)
	}
	return 0
}

func median(samples []sample, of func(sample) float64) float64 {
	values := make([]float64, 0, len(samples))
	for _, s := range samples {
		values = append(values, of(s))
	}
	slices.Sort(values)
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}

func round(v, parts float64) float64 { return float64(int64(v*parts+0.5)) / parts }

func megabytes(bytes int64) float64 { return round(float64(bytes)/1e6, 10) }

func (r *report) print(out io.Writer) error {
	r.finish()
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "work\tmode\tjobs/s\tratio\tCPU µs/job: worker\tnats\tpostgres\tpeak MB\t")
	for _, x := range r.Rows {
		_, _ = fmt.Fprintf(t, "%s\t%s\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t\n",
			x.Work, x.Mode, x.Rate, x.Ratio, x.Worker, x.NATS, x.Postgres, x.Peak)
	}
	if err := t.Flush(); err != nil {
		return err
	}
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

func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}
