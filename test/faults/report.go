package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/test/faults/check"
)

// resultsCount is the limit of the results streams, the runners' own default.
const resultsCount = 2_000_000

func progress(format string, args ...any) {
	_, _ = fmt.Fprintf(os.Stderr, format+"\n", args...)
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
	DeadLetters int               `json:"dead_letters"`
	Seconds     float64           `json:"seconds"`
	Drain       float64           `json:"drain_s"`
	Made        map[string]int    `json:"made"` // faults by nemesis
	Peak        float64           `json:"peak_mb"`
	SQLServer   int               `json:"sqlserver_jobs,omitempty"` // with a result, of those of a SQL Server
	Violations  []check.Violation `json:"violations,omitempty"`

	// Recovery is by nemesis how long each fault was felt after its end, in seconds, of runs that measure it.
	Recovery map[string][]float64 `json:"recovery_s,omitempty"`

	codes map[string]int
	kept  string
}

func (s *summary) String() string {
	verdict := "kept every promise"
	if len(s.Violations) > 0 {
		verdict = fmt.Sprintf("%d VIOLATIONS", len(s.Violations))
	}
	text := fmt.Sprintf("seed %-5d %-44s %6d jobs %4d faults %5d redelivered %4d dead letters  drained in %5.1f s  %5.1f s in all  %s  %v",
		s.Seed, s.Nemeses, s.Jobs, s.Faults, s.Redelivered, s.DeadLetters, s.Drain, s.Seconds, verdict, s.codes)
	if s.SQLServer > 0 {
		text += fmt.Sprintf("  %d jobs on SQL Server", s.SQLServer)
	}
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
		Seed: r.seed, Nemeses: r.names(), Faults: len(h.Faults), Jobs: len(h.Stored), DeadLetters: len(h.DeadLetters), Statuses: map[string]int{},
		Seconds: round2(took.Seconds()), Drain: round2(h.Drain.Seconds()), Made: map[string]int{}, codes: map[string]int{},
	}
	for i := range h.Faults {
		s.Made[h.Faults[i].Name]++
	}
	for i := range h.Publications {
		if p := &h.Publications[i]; p.Acked && !p.Duplicate {
			s.Published++
		}
	}
	for i := range h.Stored {
		a := &h.Stored[i].Result
		if h.Stored[i].Database == depot {
			s.SQLServer++
		}
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
	if r.opts.recovery {
		s.Recovery = recoveries(h)
	}
	return s
}

func round2(v float64) float64 { return float64(int64(v*100+0.5)) / 100 }

// recoveries are, by nemesis, how long after the end of each fault the last of the jobs was answered that had been
// published before it ended; jobs that take long by themselves are left out, and faults that others follow too soon.
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
		if q == nil || slices.Contains([]string{"slow", "migration", "killer", "canceled", "guarded", "poison", "queued", "queued_twice", "outboxed"}, q.Class) || strings.HasPrefix(q.Class, "ordered") {
			continue
		}
		if at, ok := acked[q.Name]; ok {
			jobs = append(jobs, job{at, a.At})
		}
	}
	out := map[string][]float64{}
	for i := range h.Faults {
		f := &h.Faults[i]
		if followed(h, i) {
			continue
		}
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

// followed reports whether another fault was made before the effects of one may be over.
func followed(h *check.History, i int) bool {
	for j := range h.Faults {
		if other := &h.Faults[j]; i != j && other.Until.After(h.Faults[i].From) && other.From.Before(h.Faults[i].Until.Add(recoveryBound)) {
			return true
		}
	}
	return false
}

// report is all runs in figures. It is written after each run, and a later call may add its runs to it.
type report struct {
	Commands    []string          `json:"commands"`
	Time        string            `json:"time"` // of the last run
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

	mu sync.Mutex
}

// nemesisSummary is what one nemesis did in all runs together.
type nemesisSummary struct {
	Name     string       `json:"name"`
	Runs     int          `json:"runs"`
	Faults   int          `json:"faults"`
	Jobs     int          `json:"jobs"`
	Recovery *percentiles `json:"recovery_s,omitempty"`
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

// report is an empty one, or with -resume the one that is there.
func (o *options) report() (*report, error) {
	p := &report{}
	if o.resume && o.out != "" {
		text, err := os.ReadFile(o.out)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		default:
			if err := json.Unmarshal(text, p); err != nil {
				return nil, fmt.Errorf("-resume: %s is no report: %w", o.out, err)
			}
		}
	}
	command := "go run ./test/faults " + strings.Join(os.Args[1:], " ")
	if !slices.Contains(p.Commands, command) {
		p.Commands = append(p.Commands, command)
	}
	return p, nil
}

// has reports whether a seed was run and every promise kept.
func (p *report) has(seed uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.Runs, func(s *summary) bool { return s.Seed == seed && len(s.Violations) == 0 })
}

// add takes a run in, in place of an earlier one of its seed, and writes the report into a file if there is one.
func (p *report) add(s *summary, file string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.Runs = append(slices.DeleteFunc(p.Runs, func(other *summary) bool { return other.Seed == s.Seed }), s)
	slices.SortFunc(p.Runs, func(a, b *summary) int { return cmp.Compare(a.Seed, b.Seed) })
	p.sum()
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(file+".new", append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// sum works out the figures of all runs.
func (p *report) sum() {
	p.Time, p.Cores, p.Go = time.Now().UTC().Format(time.RFC3339), runtime.NumCPU(), runtime.Version()
	p.Seeds, p.Jobs, p.Published, p.Faults, p.Redelivered, p.Violations = len(p.Runs), 0, 0, 0, 0, 0
	p.Statuses = map[string]int{}
	var drains []float64
	nemeses, recoveries := map[string]*nemesisSummary{}, map[string][]float64{}
	for _, s := range p.Runs {
		p.Jobs += s.Jobs
		p.Published += s.Published
		p.Faults += s.Faults
		p.Redelivered += s.Redelivered
		p.Violations += len(s.Violations)
		drains = append(drains, s.Drain)
		for status, n := range s.Statuses {
			p.Statuses[status] += n
		}
		for _, name := range strings.Split(s.Nemeses, "+") {
			n := nemeses[name]
			if n == nil {
				n = &nemesisSummary{Name: name}
				nemeses[name] = n
			}
			n.Runs++
			n.Jobs += s.Jobs
			n.Faults += s.Made[name]
			recoveries[name] = append(recoveries[name], s.Recovery[name]...)
		}
	}
	p.Drain = percentilesOf(drains)
	p.Nemeses = nil
	for _, name := range slices.Sorted(maps.Keys(nemeses)) {
		n := nemeses[name]
		if list := recoveries[name]; len(list) > 0 {
			of := percentilesOf(list)
			n.Recovery = &of
		}
		p.Nemeses = append(p.Nemeses, n)
	}
}

// print writes the figures as a table.
func (p *report) print(out io.Writer) {
	_, _ = fmt.Fprintf(out, "%-18s %6s %8s %9s %28s\n", "nemesis", "runs", "faults", "jobs", "recovery p50 / p99 / max (s)")
	for _, n := range p.Nemeses {
		recovery := ""
		if n.Recovery != nil {
			recovery = fmt.Sprintf("%12.2f %7.2f %7.2f", n.Recovery.P50, n.Recovery.P99, n.Recovery.Max)
		}
		_, _ = fmt.Fprintf(out, "%-18s %6d %8d %9d %s\n", n.Name, n.Runs, n.Faults, n.Jobs, recovery)
	}
	_, _ = fmt.Fprintf(out, "%d seeds, %d jobs, %d faults, %d jobs ended by a second or later delivery, drained in %.1f s (p50) %.1f s (max): %d violations\n",
		p.Seeds, p.Jobs, p.Faults, p.Redelivered, p.Drain.P50, p.Drain.Max, p.Violations)
}

// verdict is an error if a promise was not kept.
func (p *report) verdict() error {
	if p.Violations > 0 {
		return fmt.Errorf("%d promises were not kept", p.Violations)
	}
	return nil
}
