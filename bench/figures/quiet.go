package figures

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// MostLoad is how much of the machine other programs may use before the start, for figures that are to be kept.
	MostLoad = 0.10
	// MostSpread is how far the bare loop's CPU per job may vary between rounds, from the lowest to the highest, for figures
	// that are to be kept: a part of its median.
	MostSpread = 0.15
	// MoreRounds is how many further rounds a work may have whose bare loop varied by more than MostSpread.
	MoreRounds = 5
	// loadSpan is how long the load is watched.
	loadSpan = 5 * time.Second
)

// Load returns how much of the machine's CPU is in use, from 0 to 1, including what its host gives to others. It takes five
// seconds, or until the context ends.
func Load(ctx context.Context) (float64, error) {
	busyBefore, allBefore, err := clock()
	if err != nil {
		return 0, err
	}
	select {
	case <-time.After(loadSpan):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	busy, all, err := clock()
	if err != nil {
		return 0, err
	}
	return Round((busy-busyBefore)/max(all-allBefore, 1), 1000), nil
}

// clock reads the time that all CPUs were in use, and that has passed on all of them.
func clock() (busy, all float64, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	return parseClock(string(text))
}

// parseClock reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal.
func parseClock(text string) (busy, all float64, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return 0, 0, errors.New("/proc/stat has no line of all CPUs")
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %w", err)
		}
		all += n
		if i != 3 && i != 4 {
			busy += n
		}
	}
	return busy, all, nil
}

// ErrBusy is why figures are not kept.
var ErrBusy = errors.New("the machine is busy, so nothing is written")

// CheckLoad returns an error if other programs use too much of the machine.
func CheckLoad(load float64) error {
	if load <= MostLoad {
		return nil
	}
	return fmt.Errorf(`%w: other programs use %.0f %% of its CPU, at most %.0f %% are allowed; stop them, or add -out "" to measure all the same`,
		ErrBusy, load*100, MostLoad*100)
}

// Spread is how far the bare loop's CPU per job has varied between the rounds, as a part of its median: that of the work
// where it has varied most.
func (r Rows) Spread() (spread float64, work string) {
	for _, x := range r {
		if x.Mode == "bare" && x.CPU > 0 && (x.Highest-x.Lowest)/x.CPU > spread {
			spread, work = (x.Highest-x.Lowest)/x.CPU, x.Work
		}
	}
	return Round(spread, 1000), work
}

// Quiet reports whether a work has so many rounds between which the bare loop's CPU per job varies by at most MostSpread.
func (r Rows) Quiet(work string, rounds int) bool {
	var bare Rows
	for _, x := range r {
		if x.Work == work && x.Mode == "bare" {
			bare = Rows{{Work: work, Mode: "bare", samples: x.samples}}
		}
	}
	bare.Keep(rounds)
	bare.Finish()
	return bare.CheckSpread() == nil
}

// Keep leaves each work so many rounds: those between which the bare loop's CPU per job varies least. What the runner needed
// in a round does not count.
func (r Rows) Keep(rounds int) {
	for _, bare := range r {
		if bare.Mode != "bare" || len(bare.samples) <= rounds {
			continue
		}
		order := make([]int, len(bare.samples))
		for i := range order {
			order[i] = i
		}
		cpu := func(i int) float64 { return bare.samples[order[i]].CPU() }
		slices.SortFunc(order, func(a, b int) int { return cmp.Compare(bare.samples[a].CPU(), bare.samples[b].CPU()) })
		first := 0
		for i := range len(order) - rounds + 1 {
			if cpu(i+rounds-1)-cpu(i) < cpu(first+rounds-1)-cpu(first) {
				first = i
			}
		}
		kept := slices.Sorted(slices.Values(order[first : first+rounds]))
		for _, x := range r {
			if x.Work == bare.Work {
				x.keep(kept)
			}
		}
	}
}

// keep leaves the samples of some rounds.
func (x *Row) keep(rounds []int) {
	x.Measured = len(x.samples)
	kept := make([]Sample, 0, len(rounds))
	for _, i := range rounds {
		kept = append(kept, x.samples[i])
	}
	x.samples = kept
}

// CheckSpread returns an error if the bare loop's CPU per job has varied too much between the rounds.
func (r Rows) CheckSpread() error {
	spread, work := r.Spread()
	if spread <= MostSpread {
		return nil
	}
	return fmt.Errorf("%w: the bare loop's CPU per job of work %s varies by %.0f %% between the rounds, at most %.0f %% are allowed; measure again",
		ErrBusy, work, spread*100, MostSpread*100)
}
