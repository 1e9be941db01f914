package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
)

// publisher is the upstream system: what it sends, and what it does with the answers.
type publisher struct {
	client *Client
	state  *State
	out    io.Writer
}

// show publishes one job of each sort, then many concurrently.
func (p *publisher) show(ctx context.Context, jobs int, sendOnly bool) error {
	run := newRun()
	if sendOnly {
		return p.sendAll(ctx, run.transfers(jobs))
	}
	steps := []func(context.Context, *runID) error{p.query, p.rejected, p.failed, p.export, p.reply}
	for _, step := range steps {
		if err := step(ctx, run); err != nil {
			return err
		}
	}
	return p.many(ctx, run, jobs)
}

func (p *publisher) query(ctx context.Context, run *runID) error {
	p.title("A query")
	result, err := p.do(ctx, run.total("query"))
	if err != nil {
		return err
	}
	return expect(result, contract.Succeeded)
}

func (p *publisher) rejected(ctx context.Context, run *runID) error {
	p.title("A job with mistakes: it is rejected without being executed, and its result lists all of them")
	result, err := p.do(ctx, run.mistaken())
	if err != nil {
		return err
	}
	return expect(result, contract.Rejected)
}

func (p *publisher) failed(ctx context.Context, run *runID) error {
	p.title("A valid job that the database refuses: it fails with a code for programs")
	result, err := p.do(ctx, run.impossible())
	if err != nil {
		return err
	}
	return expect(result, contract.Failed)
}

// export gets rows as a file: however many they are, the result is small and refers to them.
func (p *publisher) export(ctx context.Context, run *runID) error {
	p.title("A query whose rows go to the object store, as CSV")
	result, err := p.do(ctx, run.exported())
	if err != nil {
		return err
	}
	if err := expect(result, contract.Succeeded); err != nil {
		return err
	}
	if result.Object == nil {
		return errors.New("the result does not refer to its rows")
	}
	p.printf("    %d rows are in %s, object %s\n", result.RowCount, result.Object.Bucket, result.Object.Name)
	return p.client.Rows(ctx, result.Object, p.out)
}

// reply awaits the answer on an inbox of its own. The stored result is there all the same: a reply is a
// convenience that may be lost, for those who do not wait longer than their connection lives.
func (p *publisher) reply(ctx context.Context, run *runID) error {
	p.title("A query with reply_to")
	inbox := nats.NewInbox()
	sub, err := p.client.nc.SubscribeSync(inbox)
	if err != nil {
		return fmt.Errorf("subscribe to the reply: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	job := run.replied(inbox)
	if err = p.send(ctx, job); err != nil {
		return err
	}
	msg, err := sub.NextMsgWithContext(ctx)
	if err != nil {
		return fmt.Errorf("await the reply to %s: %w", job.ID, err)
	}
	result, err := contract.ReadResult(msg.Data)
	if err != nil {
		return err
	}
	p.print(result)
	return errors.Join(expect(result, contract.Succeeded), p.state.Answered(job.ID))
}

// many runs many jobs concurrently: every one gets its answer, and each transfer happened exactly once, so that no money
// appears or vanishes.
func (p *publisher) many(ctx context.Context, run *runID, n int) error {
	p.title(fmt.Sprintf("%d concurrent transfers", n))
	before, err := p.total(ctx, run, "before")
	if err != nil {
		return err
	}
	start := time.Now()
	tally, err := p.doAll(ctx, run.transfers(n))
	if err != nil {
		return err
	}
	p.printf("  %d answers in %s: %s\n", n, time.Since(start).Round(time.Millisecond), tally)
	after, err := p.total(ctx, run, "after")
	if err != nil {
		return err
	}
	p.printf("  total of all accounts: %s before, %s after\n", before, after)
	if before != after {
		return errors.New("the transfers changed the total: an effect is missing or there twice")
	}
	return tally.only(contract.Succeeded)
}

func (p *publisher) total(ctx context.Context, run *runID, name string) (string, error) {
	job := run.total(name)
	if err := p.send(ctx, job); err != nil {
		return "", err
	}
	result, err := p.answer(ctx, job.ID)
	if err != nil {
		return "", err
	}
	if err := expect(result, contract.Succeeded); err != nil {
		return "", err
	}
	return string(result.Rows), nil
}

// sendAll publishes jobs and leaves, as a publisher does that is killed at that moment.
func (p *publisher) sendAll(ctx context.Context, jobs []*Job) error {
	for _, job := range jobs {
		if err := p.send(ctx, job); err != nil {
			return err
		}
	}
	p.printf("%d jobs sent; leaving before their answers. Pick them up with --resume.\n", len(jobs))
	return nil
}

// resume picks up where an earlier run was ended. A job that was planned and perhaps published is published again
// under its id: whatever happened to it, its effect is there once.
func (p *publisher) resume(ctx context.Context) error {
	open := p.state.Open()
	p.printf("%d jobs have no answer yet\n", len(open))
	jobs := make([]*Job, 0, len(open))
	for i := range open {
		if open[i].Stage == planned {
			if err := p.send(ctx, &open[i].Job); err != nil {
				return err
			}
		}
		jobs = append(jobs, &open[i].Job)
	}
	tally, err := p.each(jobs, func(job *Job) (*contract.Result, error) { return p.answer(ctx, job.ID) })
	if err != nil {
		return err
	}
	p.printf("answers: %s\n", tally)
	return nil
}

// doAll publishes jobs and awaits their results, all concurrently.
func (p *publisher) doAll(ctx context.Context, jobs []*Job) (tally, error) {
	return p.each(jobs, func(job *Job) (*contract.Result, error) {
		if err := p.send(ctx, job); err != nil {
			return nil, err
		}
		return p.answer(ctx, job.ID)
	})
}

// each does the same for every job concurrently and counts the answers' statuses.
func (p *publisher) each(jobs []*Job, do func(*Job) (*contract.Result, error)) (tally, error) {
	counts := tally{}
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	for _, job := range jobs {
		wg.Go(func() {
			result, err := do(job)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs = append(errs, err)
				return
			}
			counts[result.Status]++
		})
	}
	wg.Wait()
	return counts, errors.Join(errs...)
}

// do sends one job, awaits its answer and prints both.
func (p *publisher) do(ctx context.Context, job *Job) (*contract.Result, error) {
	if err := p.send(ctx, job); err != nil {
		return nil, err
	}
	p.printf("  sent  %s\n", job.Body)
	result, err := p.answer(ctx, job.ID)
	if err != nil {
		return nil, err
	}
	p.print(result)
	return result, nil
}

// send publishes a job, noting it before and after: whenever this process dies, the next one knows what to do.
func (p *publisher) send(ctx context.Context, job *Job) error {
	if err := p.state.Planned(job); err != nil {
		return err
	}
	if err := p.client.Publish(ctx, job); err != nil {
		return err
	}
	return p.state.Sent(job.ID)
}

func (p *publisher) answer(ctx context.Context, id string) (*contract.Result, error) {
	result, err := p.client.Await(ctx, p.client.database, id)
	if err != nil {
		return nil, err
	}
	return &result.Result, p.state.Answered(id)
}

func (p *publisher) title(text string) { p.printf("\n%s\n", text) }

func (p *publisher) print(r *contract.Result) {
	p.printf("  %s  %s\n", r.Status, r.JobID)
	_ = r.EachRow(func(row json.RawMessage) error { // it is JSON: it was read
		p.printf("    %s\n", row)
		return nil
	})
	if r.Error == nil {
		return
	}
	p.printf("    %s: %s\n", r.Error.Code, r.Error.Message)
	for _, fault := range r.Error.Faults {
		p.printf("      %s: %s\n", fault.Path, fault.Message)
	}
}

func (p *publisher) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.out, format, args...) }

func expect(r *contract.Result, status contract.Status) error {
	if r.Status != status {
		return fmt.Errorf("job %s is %s, expected %s", r.JobID, r.Status, status)
	}
	return nil
}

// tally counts results by status.
type tally map[contract.Status]int

// String lists the counts in a fixed order.
func (t tally) String() string {
	parts := make([]string, 0, len(t))
	for _, status := range slices.Sorted(maps.Keys(t)) {
		parts = append(parts, fmt.Sprintf("%d %s", t[status], status))
	}
	return strings.Join(parts, ", ")
}

func (t tally) only(status contract.Status) error {
	for have := range t {
		if have != status {
			return fmt.Errorf("not every job %s: %s", status, t)
		}
	}
	return nil
}
