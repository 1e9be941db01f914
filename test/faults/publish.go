package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"dbrunner/client"
	"dbrunner/test/faults/check"
)

// inFlight is the number of concurrent publishes.
const inFlight = 192

// clients publish what the plan wants and log every acknowledgement.
type clients struct {
	r  *round
	wg sync.WaitGroup

	mu           sync.Mutex
	publications []check.Publication
	responses    []check.Response
	cancels      map[string]bool
	enqueued     map[string]check.Publication // of rows in outboxes, by request
	pauses       []check.Pause
	delays       []check.Delay
	resumes      []check.Resume
}

// run does what the plan wants, each thing at its time, and returns when all is acknowledged or given up.
func (c *clients) run(ctx context.Context) {
	begin := time.Now()
	c.wg.Go(func() { c.act(ctx, begin) })
	tokens := make(chan struct{}, inFlight)
	for i := range c.r.plan.messages {
		m := &c.r.plan.messages[i]
		if wait(ctx, time.Until(begin.Add(m.at))) != nil {
			break
		}
		tokens <- struct{}{}
		c.wg.Go(func() {
			c.publish(ctx, m)
			<-tokens
		})
	}
	c.wg.Wait()
}

func (c *clients) log(p check.Publication) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.publications = append(c.publications, p)
}

// publish publishes a message until the stream has acknowledged it. One without an id is not published again if it is
// unknown whether the stream has it.
func (c *clients) publish(ctx context.Context, m *message) {
	r := m.request
	if m.upload != nil {
		c.put(ctx, m.upload)
	}
	job := &client.Job{Database: r.Database, Queue: r.Queue, Kind: r.Kind, Name: r.Call, Body: r.Body, Headers: m.header}
	if m.plain {
		job.Queue = ""
	}
	if m.msgID {
		job.ID = r.ID
	}
	for ctx.Err() == nil {
		p, again := c.attempt(ctx, r, job)
		c.log(p)
		if !again || r.ID == "" && p.Error != "" {
			return
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
}

// attempt publishes, for two seconds at most.
func (c *clients) attempt(ctx context.Context, r *check.Request, job *client.Job) (p check.Publication, again bool) {
	p = check.Publication{Request: r.Name, From: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	receipt, err := c.r.client.Submit(ctx, job)
	p.Until = time.Now()
	if err != nil {
		p.Error = err.Error()
		var api *client.APIError
		return p, !r.Refused && !errors.As(err, &api) && !errors.Is(err, client.ErrTooLarge)
	}
	p.Acked, p.Duplicate, p.Sequence = true, receipt.Duplicate, receipt.Sequence
	return p, false
}

// act does the other things that clients do.
func (c *clients) act(ctx context.Context, begin time.Time) {
	for i := range c.r.plan.acts {
		a := &c.r.plan.acts[i]
		if wait(ctx, time.Until(begin.Add(a.at))) != nil {
			return
		}
		c.wg.Go(func() {
			switch a.what {
			case "cancel":
				c.cancel(ctx, a.request)
			case "redrive":
				c.redrive(ctx, a.request)
			case "ask":
				c.ask(ctx, a.request)
			case "enqueue":
				c.enqueue(ctx, a.request, a.row)
			case "schedule":
				c.schedule(ctx, a.schedule)
			case "pause":
				c.pauseInTurn(ctx, a.pauses)
			case "approve":
				c.approve(ctx, a.approving)
			}
		})
	}
}

func (c *clients) cancel(ctx context.Context, r *check.Request) {
	c.mu.Lock()
	c.cancels[r.Name] = true
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, _ = c.r.client.Cancel(ctx, r.Database, r.ID, client.CancelOptions{})
}

// ask sends a request to the run endpoint, again until it returns a result or refuses the id.
func (c *clients) ask(ctx context.Context, r *check.Request) {
	for ctx.Err() == nil {
		p := c.response(ctx, r)
		c.log(check.Publication{Request: r.Name, From: p.From, Until: p.Answer.At, Error: p.Error})
		c.mu.Lock()
		c.responses = append(c.responses, p)
		c.mu.Unlock()
		if p.Error == "" || p.Error == "job_id_reused" || time.Since(c.r.started) > c.r.opts.length {
			return
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
}

// response sends a request to the run endpoint once.
func (c *clients) response(ctx context.Context, r *check.Request) check.Response {
	p := check.Response{Request: r.Name, From: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	result, err := c.r.client.Run(ctx, &client.Job{Database: r.Database, Kind: r.Kind, Name: r.Call, ID: r.ID, Body: r.Body}, 0)
	p.Answer.At = time.Now()
	var refused *client.ServiceError
	switch {
	case errors.As(err, &refused):
		p.Error, p.Answer.Body = cmp.Or(refused.Refusal.Error.Code, strconv.Itoa(refused.Status)), refused.Body
	case err != nil:
		p.Error = err.Error()
	default:
		if p.Answer, err = check.ReadAnswer(r.Database, r.ID, p.Answer.At, result.Body); err != nil {
			p.Error = err.Error()
		}
	}
	return p
}

// redrive publishes the dead letter of a request again, by the command that an operator would use; nothing: there is none.
func (c *clients) redrive(ctx context.Context, r *check.Request, flags ...string) (p check.Publication) {
	deadLetter := c.r.deadLetterOf(ctx, r)
	if deadLetter == "" {
		return p // it is not there yet, or the job succeeded
	}
	p = check.Publication{Request: r.Name, ID: r.ID + "_r1", From: time.Now()}
	cmd := exec.CommandContext(ctx, c.r.binary, append([]string{"dead", "redrive", deadLetter, "--json"}, flags...)...)
	cmd.Env = c.r.runnerEnvironment(c.r.world.cluster.urls())
	out, err := cmd.Output()
	p.Until = time.Now()
	if err != nil {
		p.Error = strings.TrimSpace(fmt.Sprint(err))
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			p.Error += ": " + string(failed.Stderr)
		}
	}
	var done []struct {
		NewID    string `json:"new_id"`
		Sequence uint64 `json:"sequence"`
	}
	if json.Unmarshal(out, &done) == nil && len(done) == 1 {
		p.Acked, p.ID, p.Sequence = true, done[0].NewID, done[0].Sequence
	}
	c.log(p)
	return p
}
