package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
	msg := &nats.Msg{Subject: c.r.namespace + ".jobs." + r.Database + "." + r.Kind, Data: r.Body, Header: nats.Header{}}
	for name, values := range m.header {
		msg.Header[name] = values
	}
	if m.msgID {
		msg.Header.Set("Nats-Msg-Id", r.ID)
	}
	for ctx.Err() == nil {
		p, again := c.attempt(ctx, r, msg)
		c.log(p)
		if !again || r.ID == "" && p.Error != "" {
			return
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
}

// attempt publishes once.
func (c *clients) attempt(ctx context.Context, r *check.Request, msg *nats.Msg) (p check.Publication, again bool) {
	p = check.Publication{Request: r.Name, From: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	ack, err := c.r.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	p.Until = time.Now()
	if err != nil {
		p.Error = err.Error()
		var api *jetstream.APIError
		return p, !r.Refused && !errors.As(err, &api) && !errors.Is(err, nats.ErrMaxPayload)
	}
	p.Acked, p.Duplicate, p.Sequence = true, ack.Duplicate, ack.Sequence
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
	_, _ = c.r.nc.RequestWithContext(ctx, c.r.namespace+".api.cancel."+r.Database+"."+r.ID, nil)
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
	m, err := c.r.nc.RequestMsgWithContext(ctx, &nats.Msg{
		Subject: c.r.namespace + ".api.run." + r.Database + "." + r.Kind, Data: r.Body, Header: nats.Header{"Nats-Msg-Id": {r.ID}},
	})
	p.Answer.At = time.Now()
	if err == nil {
		if status := m.Header.Get("Nats-Service-Error-Code"); status != "" {
			p.Error, p.Answer.Body = refusalCode(status, m.Data), m.Data
			return p
		}
		p.Answer, err = check.ReadAnswer(r.Database, r.ID, p.Answer.At, m.Data)
	}
	if err != nil {
		p.Error = err.Error()
	}
	return p
}

// refusalCode is the code in the body of a refusal, or its status if it has none.
func refusalCode(status string, text []byte) string {
	var refusal struct {
		Error struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	if json.Unmarshal(text, &refusal) != nil || refusal.Error.Code == "" {
		return status
	}
	return refusal.Error.Code
}

// redrive publishes the dead letter of a request again, by the command that an operator would use.
func (c *clients) redrive(ctx context.Context, r *check.Request) {
	deadLetter := c.r.deadLetterOf(ctx, r)
	if deadLetter == "" {
		return // it is not there yet, or the job succeeded
	}
	p := check.Publication{Request: r.Name, ID: r.ID + "_r1", From: time.Now()}
	cmd := exec.CommandContext(ctx, c.r.binary, "dead", "redrive", deadLetter, "--json")
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
}
