package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"dbrunner/contract"
)

// DryRun is a transaction, or a call of a named statement, that is executed and rolled back: its result shows the effect.
type DryRun struct {
	Database   string
	Name       string         // of the statement; empty: the statements are those here
	ID         string         // of the job; empty: the runner derives one
	Params     map[string]any // of a named statement
	Statements []any          // otherwise: each with "sql" and what else a statement of a transaction has
	Options    map[string]any // further keys of the body, such as "isolation" or "max_affected"
}

// The kinds of dry runs and approvals.
const (
	kindDryRun  = "dry_run"
	kindApprove = "approve"
)

// Job returns the job for Submit and Run.
func (d *DryRun) Job() (*Job, error) {
	body := maps.Clone(d.Options)
	if body == nil {
		body = map[string]any{}
	}
	switch {
	case d.Name != "" && len(d.Statements) > 0:
		return nil, errors.New("a dry run has a name or statements, not both")
	case d.Name == "":
		body["statements"] = d.Statements
	case len(d.Params) > 0:
		body["params"] = d.Params
	}
	return jobOf(d.Database, kindDryRun, d.Name, d.ID, body)
}

// Approval approves a dry run: a runner executes it again and commits it if it has the same effect.
type Approval struct {
	Database string
	Name     string         // of the statement; empty: the dry run names none
	DryRun   string         // the id of the dry run
	Digest   string         // its effect_digest
	Options  map[string]any // further keys of the body, such as "timeout" or "labels"
}

// ApprovalOf returns the approval of a dry run, by its result. The error reports the reason if it cannot be approved.
func ApprovalOf(r *Result) (*Approval, error) {
	switch {
	case r.Kind != kindDryRun:
		return nil, fmt.Errorf("job %s is of kind %s, not a dry run", r.JobID, r.Kind)
	case r.Status != contract.Succeeded || r.EffectDigest == "":
		return nil, fmt.Errorf("the dry run %s has not succeeded: its status is %s", r.JobID, r.Status)
	}
	a := &Approval{Database: r.Database, DryRun: r.JobID, Digest: r.EffectDigest}
	if r.Call != nil {
		a.Name = r.Call.Name
	}
	return a, nil
}

// ID returns the id of the approval's job.
func (a *Approval) ID() string { return contract.ApprovalID(a.DryRun) }

// Job returns the job for Submit and Run.
func (a *Approval) Job() (*Job, error) {
	body := maps.Clone(a.Options)
	if body == nil {
		body = map[string]any{}
	}
	body["approves"], body["expect_digest"] = a.DryRun, a.Digest
	return jobOf(a.Database, kindApprove, a.Name, a.ID(), body)
}

// jobOf makes a job of a kind whose jobs may name a statement.
func jobOf(database, kind, name, id string, body map[string]any) (*Job, error) {
	if err := checkName("database", database); err != nil {
		return nil, err
	}
	if name != "" {
		if err := checkName("name", name); err != nil {
			return nil, err
		}
	}
	if id != "" {
		body["id"] = id
	}
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("encode a job of kind %s: %w", kind, err)
	}
	return &Job{Database: database, Kind: kind, Name: name, ID: id, Body: encoded}, nil
}

// WithoutReturnedRows returns the indices of the statements of a dry run that have written rows and returned none: which rows these
// are is no part of the effect that an approval compares.
func WithoutReturnedRows(r *Result) (statements []int) {
	for i := range r.Statements {
		if n := r.Statements[i].RowsAffected; r.Statements[i].Columns == nil && n != nil && *n > 0 {
			statements = append(statements, i)
		}
	}
	return statements
}
