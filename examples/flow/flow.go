package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
)

const (
	// healthAgain is the pause between two looks at a database that is not well.
	healthAgain = time.Second

	// mostTries bounds how often a step is tried whose failure is retryable.
	mostTries = 3

	// reportEvery is after how many answers a line is printed.
	reportEvery = 20
)

// flow is one run: the same run id is the same run, however often it is started.
type flow struct {
	runners    runners
	run        string
	databases  []string
	wait       time.Duration
	retryPause time.Duration

	mu  sync.Mutex
	out io.Writer
}

// perform does the whole flow: prerequisites, preparation, fan-out, check.
func (f *flow) perform(ctx context.Context, opts *options) error {
	if err := f.prerequisites(ctx, opts.health); err != nil {
		return err
	}
	if err := f.prepare(ctx); err != nil {
		return err
	}
	steps := fan(f.run, f.databases, opts.jobs)
	if opts.trouble {
		steps = append(steps, trouble(f.databases[0])...)
	}
	start := time.Now()
	outcomes, err := f.all(ctx, steps)
	if err != nil {
		return err
	}
	f.summary(outcomes, time.Since(start))
	return errors.Join(f.checkBookings(ctx, outcomes), f.export(ctx, opts.export), failures(outcomes))
}

// export writes the run's bookings in the first database to a file, if one is wanted: as CSV, however many they are. The
// file has its name only when it is whole.
func (f *flow) export(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	o, err := f.do(ctx, export(f.run, f.databases[0]))
	if err != nil {
		return err
	}
	if o.next != done || o.result.Object == nil {
		return fmt.Errorf("the bookings could not be exported: %s", o)
	}
	file, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(f.runners.Rows(ctx, o.result.Object, file), file.Close()); err != nil {
		return err
	}
	f.printf("%s has the bookings of %s\n", name, f.databases[0])
	return os.Rename(name+".part", name)
}

// prerequisites waits until every database is well enough to begin with.
func (f *flow) prerequisites(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for _, database := range f.unique() {
		if err := f.prerequisite(ctx, database); err != nil {
			return fmt.Errorf("%w; nothing was done, start it again when the database is well", err)
		}
	}
	return nil
}

// prerequisite requests health checks of the database until it is healthy, or degraded: then jobs run, and an operator should
// look. No runner, a runner that is busy, and a database that is not well may all get better; each new reason is logged.
func (f *flow) prerequisite(ctx context.Context, database string) error {
	logged := ""
	for {
		var reason string
		health, err := f.runners.Health(ctx, database)
		switch {
		case err != nil:
			reason = err.Error()
		case health.Verdict == contract.Healthy || health.Verdict == contract.Degraded:
			f.printf("%s is %s\n", database, withReasons(health))
			return nil
		default:
			reason = "it is " + withReasons(health)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("database %s is not ready: %s", database, cmp.Or(logged, reason))
		}
		if reason != logged {
			f.printf("waiting for database %s: %s\n", database, reason)
			logged = reason
		}
		pause(ctx, healthAgain)
	}
}

// prepare makes the table in every database.
func (f *flow) prepare(ctx context.Context) error {
	for _, database := range f.unique() {
		outcome, err := f.do(ctx, prepare(database))
		if err != nil {
			return err
		}
		if outcome.next != done {
			return fmt.Errorf("the table could not be made: %s", outcome)
		}
	}
	return nil
}

// all does the steps concurrently and returns what became of each, in their order.
func (f *flow) all(ctx context.Context, steps []*step) ([]*outcome, error) {
	outcomes, errs := make([]*outcome, len(steps)), make([]error, len(steps))
	answered := 0
	var wg sync.WaitGroup
	for i, step := range steps {
		wg.Go(func() {
			outcomes[i], errs[i] = f.do(ctx, step)
			f.mu.Lock()
			defer f.mu.Unlock()
			if answered++; answered%reportEvery == 0 {
				_, _ = fmt.Fprintf(f.out, "%d of %d answered\n", answered, len(steps))
			}
		})
	}
	wg.Wait()
	return outcomes, errors.Join(errs...)
}

// outcome is what became of a step.
type outcome struct {
	step   *step
	result *client.Result
	next   next
	known  bool
}

// do does one step: a try, and another one where the answer allows it. A try that was made in an earlier life of the
// run has its result under its id, so that a restart neither forgets nor repeats it.
func (f *flow) do(ctx context.Context, s *step) (*outcome, error) {
	for try := 1; ; try++ {
		job, err := s.job(f.run, try)
		if err != nil {
			return nil, err
		}
		result, known, err := f.runners.Do(ctx, job, cmp.Or(s.wait, f.wait))
		if err != nil {
			return nil, err
		}
		o := &outcome{step: s, result: result, next: decide(&result.Result), known: known}
		if o.next != repeat || try == mostTries {
			return o, nil
		}
		pause(ctx, f.retryPause)
	}
}

// checkBookings counts what is in the databases: each booking that succeeded is there once, and no other one is.
func (f *flow) checkBookings(ctx context.Context, outcomes []*outcome) error {
	var errs []error
	for _, database := range f.unique() {
		want := 0
		for _, o := range outcomes {
			if o.step.database == database && o.step.kind == "transaction" && o.next == done {
				want++
			}
		}
		errs = append(errs, f.checkDatabase(ctx, database, want))
	}
	return errors.Join(errs...)
}

func (f *flow) checkDatabase(ctx context.Context, database string, want int) error {
	o, err := f.do(ctx, check(f.run, database))
	if err != nil {
		return err
	}
	if o.next != done || o.result.RowCount != 1 {
		return fmt.Errorf("the bookings in %s cannot be counted: %s", database, o)
	}
	var rows [1][2]int // bookings, distinct steps
	if err := json.Unmarshal(o.result.Rows, &rows); err != nil {
		return fmt.Errorf("read the count of the bookings in %s: %w", database, err)
	}
	counts := rows[0]
	f.printf("%s: %d bookings succeeded, %d are there\n", database, want, counts[0])
	if counts[0] != want || counts[1] != want {
		return fmt.Errorf("%s has %d bookings of %d steps, not %d: an effect is missing or there twice", database, counts[0], counts[1], want)
	}
	return nil
}

// summary returns how many steps ended in which way, and each one that did not succeed.
func (f *flow) summary(outcomes []*outcome, took time.Duration) {
	counts, known := map[contract.Status]int{}, 0
	for _, o := range outcomes {
		counts[o.result.Status]++
		if o.known {
			known++
		}
	}
	var parts []string
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[status], status))
	}
	f.printf("%d answers in %s: %s; %d of them were stored before this start\n",
		len(outcomes), took.Round(time.Millisecond), strings.Join(parts, ", "), known)
	for _, o := range outcomes {
		if o.next != done {
			f.printf("  %s\n", o)
		}
	}
}

// errNoSuccess is returned if a job finished otherwise.
var errNoSuccess = errors.New("did not succeed")

// failures returns nil if every step succeeded.
func failures(outcomes []*outcome) error {
	n := 0
	for _, o := range outcomes {
		if o.next != done {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%d of %d steps %w", n, len(outcomes), errNoSuccess)
	}
	return nil
}

// unique returns the databases, each once.
func (f *flow) unique() []string { return slices.Compact(slices.Sorted(slices.Values(f.databases))) }

func (f *flow) printf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _ = fmt.Fprintf(f.out, format, args...)
}

func withReasons(h *contract.HealthAnswer) string {
	if len(h.Reasons) == 0 {
		return string(h.Verdict)
	}
	return string(h.Verdict) + " (" + strings.Join(h.Reasons, "; ") + ")"
}

// pause waits, or not so long where ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
