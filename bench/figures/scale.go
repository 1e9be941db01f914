package figures

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Scaled is the medians of one size of something that grows, such as of 16 runners. The ratios are those to its first size.
type Scaled struct {
	Stage    string  `json:"stage"`
	Size     string  `json:"size"`
	Jobs     int     `json:"jobs"`
	Rounds   int     `json:"rounds"`
	CPU      float64 `json:"all_cpu_us_per_job"`
	CPURatio float64 `json:"cpu_ratio"`
	Worker   float64 `json:"runner_cpu_us_per_job"`
	NATS     float64 `json:"nats_cpu_us_per_job"`
	Postgres float64 `json:"postgres_cpu_us_per_job"`
	Rate     float64 `json:"jobs_per_s"`
	Ratio    float64 `json:"rate_ratio"`
	Slowest  float64 `json:"jobs_per_s_lowest"` // of the rounds
	Fastest  float64 `json:"jobs_per_s_highest"`
	Begin    float64 `json:"begin_mb"`
	End      float64 `json:"end_mb"`
	Peak     float64 `json:"peak_mb"`
	Least    float64 `json:"least_share_percent,omitempty"` // of all rounds
	Most     float64 `json:"most_share_percent,omitempty"`
}

// Scale returns the medians of the rows, whose works are the stages and whose modes are their sizes, in the order in which
// they were added.
func (r Rows) Scale() []Scaled {
	var out []Scaled
	for _, x := range r {
		x.finish()
		s := Scaled{
			Stage: x.Work, Size: x.Mode, Jobs: x.Jobs, Rounds: len(x.samples), CPU: x.CPU, Worker: x.Worker, NATS: x.NATS,
			Postgres: x.Postgres, Rate: x.Rate, Peak: x.Peak,
			Begin: Megabytes(int64(x.median(func(s Sample) float64 { return float64(s.Begin) }))),
			End:   Megabytes(int64(x.median(func(s Sample) float64 { return float64(s.End) }))),
		}
		s.Slowest, s.Fastest = x.extremes(func(s Sample) float64 { return s.Rate }, func(s Sample) float64 { return s.Rate })
		s.Least, s.Most = x.extremes(func(s Sample) float64 { return s.Least }, func(s Sample) float64 { return s.Most })
		first := s
		if at := slices.IndexFunc(out, func(o Scaled) bool { return o.Stage == s.Stage }); at >= 0 {
			first = out[at]
		}
		s.CPURatio, s.Ratio = ratioTo(first.CPU, s.CPU), ratioTo(first.Rate, s.Rate)
		out = append(out, s)
	}
	return out
}

func ratioTo(first, v float64) float64 {
	if first == 0 {
		return 0
	}
	return Round(v/first, 100)
}

// extremes are the lowest and the highest figure of the rounds.
func (x *Row) extremes(low, high func(Sample) float64) (lowest, highest float64) {
	by := func(of func(Sample) float64) func(a, b Sample) int {
		return func(a, b Sample) int { return cmp.Compare(of(a), of(b)) }
	}
	return Round(low(slices.MinFunc(x.samples, by(low))), 1), Round(high(slices.MaxFunc(x.samples, by(high))), 1)
}

// PrintScale writes a table; of no sizes, nothing.
func PrintScale(out io.Writer, all []Scaled) error {
	if len(all) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "stage\tsize\tjobs\tCPU µs/job\ttimes first\trunner\tnats\tpostgres\tjobs/s\trounds\tratio\tMB begin\tend\tpeak\tshares %\t")
	for _, x := range all {
		shares := ""
		if x.Most > 0 {
			shares = fmt.Sprintf("%.0f–%.0f", x.Least, x.Most)
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%.0f\t%.0f–%.0f\t%.2f\t%.0f\t%.0f\t%.0f\t%s\t\n", x.Stage, x.Size, x.Jobs,
			x.CPU, x.CPURatio, x.Worker, x.NATS, x.Postgres, x.Rate, x.Slowest, x.Fastest, x.Ratio, x.Begin, x.End, x.Peak, shares)
	}
	return t.Flush()
}
