package jobs

import (
	"context"
	"strconv"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/effect"
)

// Where the keys of an approval are in their list.
const (
	approvalDryRun = iota
	approvalDigest
)

var approvalKeys = []string{approvalDryRun: "approves", approvalDigest: "expect_digest"}

// approval is the work of kind approve: the transaction of a dry run, which is committed only if its effect is the same.
type approval struct {
	effect.Approval

	of     *Job           // the dry run, as this runner decodes what it has executed; nil: it was not read yet
	before []contract.Set // what its statements did
}

func decodeApproval(r *reader, at []int) work {
	a := &approval{}
	a.Call = r.calledName
	a.DryRun = r.requiredText(0, at[approvalDryRun], approvalKeys[approvalDryRun], contract.ValidResultID,
		"the id of a dry run: 1 to 120 of A-Z, a-z, 0-9, _ and -")
	a.Digest = r.requiredText(0, at[approvalDigest], approvalKeys[approvalDigest], effect.ValidDigest,
		"must be the effect_digest of the dry run: sha256: and 64 of 0-9 and a-f")
	return a
}

// checkID rejects an id of a dry run that its approval could not have, and one of an approval that is not its dry run's.
func checkID(r *reader, job *Job) {
	switch w := job.work.(type) {
	case *dryRun:
		if len(job.ID) > contract.MaxDryRunID {
			rejectID(r, "the id of a dry run has at most "+strconv.Itoa(contract.MaxDryRunID)+" characters, because that of its approval is longer")
		}
	case *approval:
		if w.DryRun != "" && job.ID != contract.ApprovalID(w.DryRun) {
			rejectID(r, "the id of an approval is that of its dry run and _approved: write "+strconv.Quote(contract.ApprovalID(w.DryRun)))
		}
	}
}

func rejectID(r *reader, message string) {
	if at := r.top[keyID]; at != 0 {
		r.reject(at, contract.CodeInvalidID, message)
		return
	}
	r.rejectBelow(0, "id", contract.CodeInvalidID, message)
}

// Approves is the id of the dry run whose stored result the job needs before it can run; empty: it needs none.
func (j *Job) Approves() string {
	if a, ok := j.work.(*approval); ok {
		return a.DryRun
	}
	return ""
}

// Approve makes an approval ready to run, by what is stored under the id that Approves returns (nil: nothing is). A rejection reports
// why it cannot run.
func (d *Decoder) Approve(job *Job, in *Message, stored []byte) *Rejection {
	a, ok := job.work.(*approval)
	if !ok {
		return nil
	}
	dryRun, problem := a.Find(stored)
	if problem != "" {
		return rejection(job, []contract.Fault{{Path: approvalKeys[approvalDryRun], Code: contract.CodeApprovalNotFound, Message: problem}})
	}
	again := &Message{Database: in.Database, Kind: dryRun.Kind, Name: in.Name, Sequence: in.Sequence, Timestamp: in.Timestamp, Body: dryRun.Request}
	of, rejected := d.decodeRequest(again)
	if rejected != nil {
		return rejection(job, rejected.Faults)
	}
	a.of, a.before = of, dryRun.Statements
	return nil
}

// decodeRequest decodes what a dry run has executed, whether or not dry runs are allowed here. Of a named statement these are the
// parameters: the text is that of the definition.
func (d *Decoder) decodeRequest(in *Message) (*Job, *Rejection) {
	k := d.kind(in)
	if k.named {
		in.Body = effect.BodyOf(in.Body, k.keys[0])
	}
	r, _ := d.readers.Get().(*reader)
	defer d.release(r)
	r.reset()
	if fault := r.Read(in.Body, maxDepth, maxValues); fault != nil {
		return nil, d.unreadable(in, r.syntaxError(in.Body, fault))
	}
	return d.interpretAs(k, r, in)
}

func (a *approval) size() int {
	if a.of == nil {
		return 0
	}
	return a.of.Statements()
}

func (a *approval) hash(dst []byte) []byte {
	dst = append(dst, 's')
	if a.Call != "" {
		dst[len(dst)-1] = 'c'
	}
	return appendSized(appendSized(dst, a.DryRun), a.Digest)
}

// run executes the transaction of the dry run. Each attempt computes the digest of its effect again, in the open transaction.
func (a *approval) run(ctx context.Context, x *Execution) (Answer, error) {
	w, ok := a.of.work.(*dryRun)
	if !ok || x.Seal == nil {
		return Answer{}, db.Errorf(db.ClassPermanent, contract.CodeInternal, "an approval without its dry run or without a ledger")
	}
	rows := x.Rows
	rows.Digest, rows.MaxRows = true, TighterLimit(rows.MaxRows, effect.MaxRows)
	return w.transact(ctx, x, rows, func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {
		if effect.Digest(a.of.Hash, a.of.revision(), sets) != a.Digest {
			return nil, effect.Changed(a.before, sets)
		}
		return x.Seal(ctx, x.statementsAnswer(sets))
	})
}
