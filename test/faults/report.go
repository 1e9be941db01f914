package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"dbrunner/test/faults/check"
)

// resultsCount is the limit of the results streams, the runners' own default.
const resultsCount = 2_000_000

func progress(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
}

// run does what the command line asks for.
func (o *options) run(ctx context.Context) error {
	w, err := newWorld(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if o.mutants || o.mutant != "" {
		return o.runMutants(ctx, w)
	}
	if o.soak > 0 {
		return o.runSoak(ctx, w)
	}
	return o.runSeeds(ctx, w)
}

func (o *options) runSeeds(ctx context.Context, w *world) error {
	binary := o.runner
	var err error
	if binary == "" {
		if binary, err = w.build(ctx, "plain", ""); err != nil {
			return err
		}
	}
	rep := newReport()
	for i, one := range o.rounds() {
		s, err := w.runSeed(ctx, &one, binary, one.seed, i+1)
		if err != nil {
			return fmt.Errorf("seed %d: %w", one.seed, err)
		}
		rep.add(s)
		progress("%s", s)
	}
	return rep.finish(o)
}

// rounds are the options of each run.
func (o *options) rounds() []options {
	var list []options
	if o.quick {
		for i, only := range quickMixes {
			one := *o
			one.only, one.mix, one.seed = only, true, o.seed+uint64(i)
			one.jobs, one.length, one.drain = quickJobs, quickLength, quickDrain
			list = append(list, one)
		}
		return list
	}
	for i := range o.seeds {
		one := *o
		one.seed = o.seed + uint64(i)
		list = append(list, one)
	}
	return list
}

// The quick run is for every change, on machines that have much else to do: few jobs, and patience.
const (
	quickJobs   = 1200
	quickLength = 6 * time.Second
	quickDrain  = 3 * time.Minute
)

// quickMixes are the nemeses of each seed of the quick run.
var quickMixes = [][]string{
	{"runner_crash", "nats_stepdown", "pg_cut_after"},
	{"runner_stop", "pg_late_commit", "runner_term"},
	{"runner_kill", "nats_kill", "pg_restart"},
}

// runSeed runs one seed and checks it.
func (w *world) runSeed(ctx context.Context, o *options, binary string, seed uint64, serial int) (*summary, error) {
	r, err := w.newRound(ctx, o, binary, seed, serial)
	if r != nil {
		defer r.close(context.WithoutCancel(ctx))
	}
	if err != nil {
		return nil, err
	}
	started := time.Now()
	if err := r.run(ctx); err != nil {
		return nil, errors.Join(err, r.lastWords())
	}
	h, err := r.collect(ctx)
	if err != nil {
		return nil, err
	}
	s := summarize(r, h, time.Since(started))
	if o.verbose {
		r.latest(h)
	}
	s.Violations = check.Check(h)
	if len(s.Violations) > 0 || o.keepAll {
		if s.kept, err = r.keep(o, h, s.Violations); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// latest tells which jobs were answered last.
func (r *round) latest(h *check.History) {
	publications := slices.Clone(h.Publications)
	slices.SortFunc(publications, func(a, b check.Publication) int { return b.Until.Compare(a.Until) })
	for i := range min(5, len(publications)) {
		p := &publications[i]
		progress("  published from %6.2fs to %6.2fs: %s, %t %s", p.From.Sub(r.began).Seconds(), p.Until.Sub(r.began).Seconds(), p.Request, p.Acked, p.Error)
	}
	list := slices.Clone(h.Stored)
	slices.SortFunc(list, func(a, b check.Answer) int { return b.At.Compare(a.At) })
	for i := range min(5, len(list)) {
		a := &list[i]
		progress("  answered at %6.2fs: %s, %s, delivery %d", a.At.Sub(r.began).Seconds(), a.Key, a.Result.Status, a.Result.Deliveries)
	}
}

// lastWords are the ends of the runners' logs, for a run that did not come to its end.
func (r *round) lastWords() error {
	var errs []error
	for _, m := range r.fleet.all {
		text, err := os.ReadFile(filepath.Join(r.dir, m.name+".log"))
		if err == nil {
			errs = append(errs, fmt.Errorf("%s: …%s", m.name, text[max(0, len(text)-1500):]))
		}
	}
	return errors.Join(errs...)
}

// summary is one run in figures.
type summary struct {
	Seed        uint64            `json:"seed"`
	Nemeses     string            `json:"nemeses"`
	Faults      int               `json:"faults"`
	Published   int               `json:"published"` // messages that the streams acknowledged
	Jobs        int               `json:"jobs"`      // with a result
	Statuses    map[string]int    `json:"statuses"`
	Redelivered int               `json:"redelivered"` // results of a second or later delivery
	Letters     int               `json:"letters"`
	Seconds     float64           `json:"seconds"`
	Drain       float64           `json:"drain_s"`
	Recovery    []float64         `json:"recovery_s,omitempty"` // of each fault
	Peak        float64           `json:"peak_mb"`
	Violations  []check.Violation `json:"violations,omitempty"`

	recoveries map[string][]float64
	codes      map[string]int
	kept       string
}

func (s *summary) String() string {
	verdict := "kept every promise"
	if len(s.Violations) > 0 {
		verdict = fmt.Sprintf("%d VIOLATIONS", len(s.Violations))
	}
	text := fmt.Sprintf("seed %-5d %-44s %6d jobs %4d faults %5d redelivered %4d letters  drained in %5.1f s  %5.1f s in all  %s  %v",
		s.Seed, s.Nemeses, s.Jobs, s.Faults, s.Redelivered, s.Letters, s.Drain, s.Seconds, verdict, s.codes)
	for i, v := range s.Violations {
		if i == 10 {
			text += fmt.Sprintf("\n    … %d more", len(s.Violations)-i)
			break
		}
		text += fmt.Sprintf("\n    %s: %s %s", v.Rule, v.Request, v.Text)
	}
	if s.kept != "" {
		text += "\n    the whole history is in " + s.kept
	}
	return text
}

func summarize(r *round, h *check.History, took time.Duration) *summary {
	s := &summary{
		Seed: r.seed, Nemeses: r.names(), Faults: len(h.Faults), Jobs: len(h.Stored), Letters: len(h.Letters), Statuses: map[string]int{},
		Seconds: round2(took.Seconds()), Drain: round2(h.Drain.Seconds()), recoveries: map[string][]float64{}, codes: map[string]int{},
	}
	for i := range h.Publications {
		if p := &h.Publications[i]; p.Acked && !p.Duplicate {
			s.Published++
		}
	}
	for i := range h.Stored {
		a := &h.Stored[i].Result
		s.Statuses[a.Status]++
		if a.Deliveries > 1 {
			s.Redelivered++
		}
		if a.Status != check.Succeeded {
			s.codes[a.Status+"/"+a.Error.Code]++
		}
	}
	for _, peak := range h.Memory {
		s.Peak = max(s.Peak, round2(float64(peak)/1e6))
	}
	for name, list := range recoveries(h) {
		s.recoveries[name] = list
		s.Recovery = append(s.Recovery, list...)
	}
	return s
}

func round2(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }

// recoveries are, by nemesis, how long after the end of each fault the last of the jobs was answered that had been
// published before it ended; jobs that take long by themselves are left out.
func recoveries(h *check.History) map[string][]float64 {
	type job struct{ published, answered time.Time }
	acked := map[string]time.Time{}
	for i := range h.Publications {
		p := &h.Publications[i]
		if first, ok := acked[p.Request]; p.Acked && (!ok || p.Until.Before(first)) {
			acked[p.Request] = p.Until
		}
	}
	var jobs []job
	for i := range h.Stored {
		a := &h.Stored[i]
		q := h.Requests[a.Result.Request()]
		if q == nil || slices.Contains([]string{"slow", "migration", "killer", "canceled", "guarded"}, q.Class) {
			continue
		}
		if at, ok := acked[q.Name]; ok {
			jobs = append(jobs, job{at, a.At})
		}
	}
	out := map[string][]float64{}
	for _, f := range h.Faults {
		last := f.Until
		for _, j := range jobs {
			if j.published.Before(f.Until) && j.answered.After(last) {
				last = j.answered
			}
		}
		out[f.Name] = append(out[f.Name], round2(last.Sub(f.Until).Seconds()))
	}
	return out
}

// report is all runs in figures.
type report struct {
	Command     string            `json:"command"`
	Time        string            `json:"time"`
	Cores       int               `json:"cores"`
	Go          string            `json:"go"`
	Seeds       int               `json:"seeds"`
	Jobs        int               `json:"jobs"`
	Published   int               `json:"published"`
	Faults      int               `json:"faults"`
	Redelivered int               `json:"redelivered"`
	Violations  int               `json:"violations"`
	Statuses    map[string]int    `json:"statuses"`
	Nemeses     []*nemesisSummary `json:"nemeses"`
	Drain       percentiles       `json:"drain_s"`
	Runs        []*summary        `json:"runs"`
}

// nemesisSummary is what one nemesis did in all runs together.
type nemesisSummary struct {
	Name     string      `json:"name"`
	Runs     int         `json:"runs"`
	Faults   int         `json:"faults"`
	Jobs     int         `json:"jobs"`
	Recovery percentiles `json:"recovery_s"`

	recoveries []float64
}

// percentiles of a list of seconds.
type percentiles struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

func percentilesOf(list []float64) percentiles {
	if len(list) == 0 {
		return percentiles{}
	}
	slices.Sort(list)
	at := func(p float64) float64 { return list[min(len(list)-1, int(p*float64(len(list))))] }
	return percentiles{P50: at(0.5), P99: at(0.99), Max: list[len(list)-1]}
}

func newReport() *report {
	return &report{
		Command: "go run ./test/faults " + strings.Join(os.Args[1:], " "), Time: time.Now().UTC().Format(time.RFC3339),
		Cores: runtime.NumCPU(), Go: runtime.Version(), Statuses: map[string]int{},
	}
}

func (p *report) add(s *summary) {
	p.Runs = append(p.Runs, s)
	p.Seeds++
	p.Jobs += s.Jobs
	p.Published += s.Published
	p.Faults += s.Faults
	p.Redelivered += s.Redelivered
	p.Violations += len(s.Violations)
	for status, n := range s.Statuses {
		p.Statuses[status] += n
	}
	for _, name := range strings.Split(s.Nemeses, "+") {
		i := slices.IndexFunc(p.Nemeses, func(n *nemesisSummary) bool { return n.Name == name })
		if i < 0 {
			p.Nemeses = append(p.Nemeses, &nemesisSummary{Name: name})
			i = len(p.Nemeses) - 1
		}
		n := p.Nemeses[i]
		n.Runs++
		n.Jobs += s.Jobs
		n.Faults += len(s.recoveries[name])
		n.recoveries = append(n.recoveries, s.recoveries[name]...)
	}
}

// finish prints the table, writes the report, and fails if a promise was not kept.
func (p *report) finish(o *options) error {
	var drains []float64
	for _, s := range p.Runs {
		drains = append(drains, s.Drain)
	}
	p.Drain = percentilesOf(drains)
	slices.SortFunc(p.Nemeses, func(a, b *nemesisSummary) int { return strings.Compare(a.Name, b.Name) })
	fmt.Printf("%-18s %6s %8s %9s %28s\n", "nemesis", "runs", "faults", "jobs", "recovery p50 / p99 / max (s)")
	for _, n := range p.Nemeses {
		n.Recovery = percentilesOf(n.recoveries)
		fmt.Printf("%-18s %6d %8d %9d %12.2f %7.2f %7.2f\n", n.Name, n.Runs, n.Faults, n.Jobs, n.Recovery.P50, n.Recovery.P99, n.Recovery.Max)
	}
	fmt.Printf("%d seeds, %d jobs, %d faults, %d jobs ended by a second or later delivery, drained in %.1f s (p50) %.1f s (max): %d violations\n",
		p.Seeds, p.Jobs, p.Faults, p.Redelivered, p.Drain.P50, p.Drain.Max, p.Violations)
	if o.out != "" {
		text, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(o.out, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if p.Violations > 0 {
		return fmt.Errorf("%d promises were not kept", p.Violations)
	}
	return nil
}
