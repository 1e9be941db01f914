// Package figures computes the benchmark's medians, decides whether the machine was quiet enough for them, and writes
// them as a table.
package figures

import (
	"cmp"
	"slices"
	"strings"
)

// Sample is one backlog drained.
type Sample struct {
	Rate     float64 // jobs a second
	Worker   float64 // CPU of each process, µs a job
	NATS     float64
	Postgres float64
	// Memory of the worker, bytes: when the clock starts, when it stops, and the most that it ever had.
	Begin, End, Peak int64
	// Least and Most are the smallest and the largest share of a worker, if several share the backlog: percent of a fair one.
	Least, Most float64
}

// CPU is that of all processes, µs a job: what a job costs the machine, which other programs on it change least.
func (s Sample) CPU() float64 { return s.Worker + s.NATS + s.Postgres }

// Row is the medians of one work in one mode over all rounds. A ratio is one of a round, to the bare worker of the same
// round.
type Row struct {
	Work     string  `json:"work"`
	Mode     string  `json:"mode"`
	Jobs     int     `json:"jobs,omitempty"`
	CPU      float64 `json:"all_cpu_us_per_job,omitempty"`
	CPURatio float64 `json:"cpu_times_bare,omitempty"`
	Lowest   float64 `json:"all_cpu_us_lowest,omitempty"` // of the rounds
	Highest  float64 `json:"all_cpu_us_highest,omitempty"`
	Worker   float64 `json:"cpu_us_per_job,omitempty"`
	NATS     float64 `json:"nats_cpu_us_per_job,omitempty"`
	Postgres float64 `json:"postgres_cpu_us_per_job,omitempty"`
	Rate     float64 `json:"jobs_per_s"`
	Ratio    float64 `json:"ratio_to_bare,omitempty"`
	Peak     float64 `json:"peak_mb,omitempty"`
	// Measured is the number of rounds, if there were more than those that count.
	Measured int `json:"rounds_measured,omitempty"`

	samples []Sample
}

// Rows are those of all works and modes.
type Rows []*Row

// Add adds what one round has measured. jobs is the size of its backlog.
func (r *Rows) Add(work, mode string, jobs int, s Sample) {
	at := slices.IndexFunc(*r, func(x *Row) bool { return x.Work == work && x.Mode == mode })
	if at < 0 {
		at = len(*r)
		*r = append(*r, &Row{Work: work, Mode: mode, Jobs: jobs})
	}
	(*r)[at].samples = append((*r)[at].samples, s)
}

// modes in the order of the table.
var modes = []string{"bare", "stored", "reply", "exactly_once", "at_least_once", "shared", "raw-pgx", "raw-jetstream"}

// Finish computes the medians and sorts the rows.
func (r Rows) Finish() {
	for _, x := range r {
		x.finish()
		x.Ratio, x.CPURatio = r.ratio(x, func(s Sample) float64 { return s.Rate }), r.ratio(x, Sample.CPU)
	}
	slices.SortStableFunc(r, func(a, b *Row) int {
		return cmp.Or(cmp.Compare(len(a.Work), len(b.Work)), strings.Compare(a.Work, b.Work),
			slices.Index(modes, a.Mode)-slices.Index(modes, b.Mode))
	})
}

// finish computes the medians but for the ratios.
func (x *Row) finish() {
	x.Rate = Round(x.median(func(s Sample) float64 { return s.Rate }), 1)
	x.Worker = Round(x.median(func(s Sample) float64 { return s.Worker }), 10)
	x.NATS = Round(x.median(func(s Sample) float64 { return s.NATS }), 10)
	x.Postgres = Round(x.median(func(s Sample) float64 { return s.Postgres }), 10)
	x.CPU = Round(x.median(Sample.CPU), 10)
	x.Lowest, x.Highest = x.bounds()
	x.Peak = Megabytes(slices.MaxFunc(x.samples, func(a, b Sample) int { return cmp.Compare(a.Peak, b.Peak) }).Peak)
}

func (x *Row) median(of func(Sample) float64) float64 {
	values := make([]float64, 0, len(x.samples))
	for _, s := range x.samples {
		values = append(values, of(s))
	}
	return Median(values)
}

// bounds are the lowest and the highest CPU per job of the rounds.
func (x *Row) bounds() (lowest, highest float64) {
	for i, s := range x.samples {
		if i == 0 || s.CPU() < lowest {
			lowest = s.CPU()
		}
		highest = max(highest, s.CPU())
	}
	return Round(lowest, 10), Round(highest, 10)
}

// ratio is the median of the ratios to the bare worker of the same round; 0 if there is none.
func (r Rows) ratio(x *Row, of func(Sample) float64) float64 {
	var ratios []float64
	for _, bare := range r {
		if bare.Work != x.Work || bare.Mode != "bare" {
			continue
		}
		for i := range min(len(x.samples), len(bare.samples)) {
			if per := of(bare.samples[i]); per > 0 {
				ratios = append(ratios, of(x.samples[i])/per)
			}
		}
	}
	return Round(Median(ratios), 1000)
}

// Median is the middle value, or the mean of the two in the middle; 0 of none. It sorts the values.
func Median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return (values[len(values)/2] + values[(len(values)-1)/2]) / 2
}

// Round rounds to one of so many parts of 1.
func Round(v, parts float64) float64 { return float64(int64(v*parts+0.5)) / parts }

// Megabytes converts bytes.
func Megabytes(bytes int64) float64 { return Round(float64(bytes)/1e6, 10) }
