package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"dbrunner/client"
	"dbrunner/contract"
	"dbrunner/test/faults/check"
)

// approvalLimit is the limit on rows of dry runs.
const approvalLimit = 10

// What publishers make of a dry run.
const (
	approvedOverLimit  = iota // it exceeds the limit, so that it fails and cannot be approved
	approvedGrown             // another job changes the data before the approval, which exceeds the limit
	approvedChanged           // another job changes the data before the approval
	approvedMeanwhile         // another job changes the data while the approval runs
	approvedByDigest          // another digest is approved
	approvedUnderOther        // it is approved under other ids as well
	approvedUnknown           // it was never made
	approvedCall              // it is of a named statement
	approvedRight
	approvedWays
)

// approving is a dry run and what users make of it: one after the other, as each result is there.
type approving struct {
	way       int
	dryRun    *check.Request // nil: it was never made
	approvals []*check.Request
	times     int            // that each approval is published
	asked     bool           // also at the run endpoint
	edit      *check.Request // the other job; nil: there is none

	bodies map[string]body // of the approvals, by name: the digest is added when it is known
}

// approved is a dry run and its approvals. What it writes depends on the rows of another job, which may come in between.
func approved(p *planner, name string) {
	a := &approving{way: p.rng.IntN(approvedWays), times: 1 + p.rng.IntN(3), asked: p.rng.IntN(3) == 0, bodies: map[string]body{}}
	right, database, rows := contract.ApprovalID(name), p.where(), 1+p.rng.IntN(3)
	switch a.way {
	case approvedOverLimit:
		rows = approvalLimit + 1
	case approvedGrown:
		rows = approvalLimit
	case approvedCall:
		rows = 1
	}
	if a.way == approvedCall {
		params := payment(p, right)
		params["private"] = "shown" // the result of a dry run has its parameters
		a.dryRun = dryRunOf(p, name, database, body{"params": params})
		a.dryRun.Call = "pay"
	} else {
		a.dryRun = dryRunOf(p, name, database, body{"max_affected": approvalLimit, "statements": dependent(database, right, name+"_edit", rows)})
	}
	a.approval(p, right, rows)
	a.expect(p)
	p.acts = append(p.acts, act{at: p.when() / 2, what: "approve", approving: a})
}

// expect completes what is planned with what has to come of it.
func (a *approving) expect(p *planner) {
	first, name := a.approvals[0], a.dryRun.Name
	switch a.way {
	case approvedOverLimit:
		a.dryRun.Statuses, a.dryRun.Codes = []string{check.Failed}, []string{"max_affected_exceeded"}
	case approvedGrown:
		first.Statuses, first.Codes = []string{check.Failed}, []string{"max_affected_exceeded"}
	case approvedChanged:
		first.Statuses, first.Codes = []string{check.Failed}, []string{"effect_changed"}
	case approvedMeanwhile:
		first.Statuses, first.Codes = []string{check.Succeeded, check.Failed}, []string{"effect_changed"}
	case approvedByDigest:
		first.Statuses = []string{check.Rejected}
	case approvedUnderOther:
		for _, id := range []string{name + "_agreed", name + "_approved_again"} {
			a.approval(p, id, first.Rows).Statuses = []string{check.Rejected}
		}
	}
	switch a.way {
	case approvedUnknown:
		delete(p.requests, name)
		a.dryRun = nil
	case approvedGrown, approvedChanged, approvedMeanwhile:
		a.edit = p.request(name+"_edit", "approved", a.dryRun.Database, "transaction", check.ExactlyOnce, 1, body{"statements": []body{severalEffects(name+"_edit", 1)}})
	}
}

// dryRunOf is a dry run, which leaves nothing.
func dryRunOf(p *planner, name, database string, b body) *check.Request {
	return p.request(name, "approved", database, "dry_run", "rolled_back", 0, b)
}

// dependent is statements that leave rows of effects of one request, and one more for each row of another one. The first returns a
// number that depends on these as well.
func dependent(database, request, edit string, rows int) []body {
	const insert = `INSERT INTO effects (request, source, target, amount, private) SELECT :request, 0, 0, `
	first := insert + `100 + count(*), '' FROM effects WHERE request = :edit RETURNING amount`
	if database == depot {
		first = `INSERT INTO effects (request, source, target, amount, private) OUTPUT INSERTED.amount SELECT :request, 0, 0, 100 + count(*), '' FROM effects WHERE request = :edit`
	}
	params := body{"request": request, "edit": edit}
	list := []body{
		{"sql": first, "params": params},
		{"sql": insert + `0, '' FROM effects WHERE request = :edit`, "params": params},
	}
	if rows > 1 {
		values := strings.TrimSuffix(strings.Repeat("(:request, 0, 0, 0, ''), ", rows-1), ", ")
		list = append(list, body{"sql": insertEffect + values, "params": body{"request": request}})
	}
	return list
}

// approval adds an approval of the dry run, under an id.
func (a *approving) approval(p *planner, id string, rows int) *check.Request {
	b := body{"approves": a.dryRun.ID}
	r := p.request(id, "approved", a.dryRun.Database, "approve", check.ExactlyOnce, rows, b)
	r.Call, r.Approves = a.dryRun.Call, a.dryRun.ID
	if r.Call == "" {
		r.Limit = approvalLimit
	}
	a.bodies[id] = b
	a.approvals = append(a.approvals, r)
	return r
}

// approve makes a dry run, waits for its result and approves it.
func (c *clients) approve(ctx context.Context, a *approving) {
	digest := ""
	if a.dryRun != nil {
		shown := c.done(ctx, a.dryRun)
		if shown == nil {
			return
		}
		digest = shown.EffectDigest
	}
	if digest == "" { // there is nothing to approve, and nothing to change
		for _, r := range a.approvals {
			r.Statuses = []string{check.Rejected}
		}
		a.edit = nil
	}
	if digest == "" || a.way == approvedByDigest {
		digest = "sha256:" + strings.Repeat("0123456789abcdef", 4)
	}
	if a.edit != nil && a.way != approvedMeanwhile {
		if r := c.done(ctx, a.edit); r == nil || r.Status != contract.Succeeded {
			return
		}
	}
	for _, r := range a.approvals {
		c.send(ctx, a, r, digest)
	}
	if a.edit != nil && a.way == approvedMeanwhile {
		c.publish(ctx, &message{request: a.edit})
	}
}

// send publishes an approval as often as is planned.
func (c *clients) send(ctx context.Context, a *approving, r *check.Request, digest string) {
	b := a.bodies[r.Name]
	b["expect_digest"], r.Digest = digest, digest
	var err error
	if r.Body, err = json.Marshal(b); err != nil {
		panic(err) // maps of texts
	}
	for range a.times {
		c.wg.Go(func() { c.publish(ctx, &message{request: r}) })
	}
	if a.asked {
		c.wg.Go(func() { c.ask(ctx, r) })
	}
}

// done publishes a job and returns its result as soon as it is stored; nil: ctx has ended.
func (c *clients) done(ctx context.Context, r *check.Request) *client.Result {
	c.publish(ctx, &message{request: r})
	for ctx.Err() == nil {
		result, err := c.r.client.Await(ctx, r.Database, r.ID)
		if err == nil {
			return result
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
	return nil
}
