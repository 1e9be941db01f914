package contract

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// The actions of operators that are recorded. Each but AuditTopology is an action on one database.
const (
	AuditCancel    = "cancel"    // a request to cancel a job
	AuditPause     = "pause"     // of a database
	AuditResume    = "resume"    // of a database
	AuditRedrive   = "redrive"   // jobs of dead letters that are published again
	AuditApprove   = "approve"   // dry runs that are committed
	AuditRemove    = "remove"    // dead letters that are removed
	AuditSchedule  = "schedule"  // schedules that are written, removed or run by hand
	AuditOutbox    = "outbox"    // rows of an outbox that are retried or removed
	AuditMigration = "migration" // by hand: not by a job
	AuditTopology  = "topology"  // streams and consumers that are created, changed or removed
)

// AuditActions returns the actions on a database.
func AuditActions() []string {
	return []string{AuditCancel, AuditPause, AuditResume, AuditRedrive, AuditApprove, AuditRemove, AuditSchedule, AuditOutbox, AuditMigration}
}

// Bounds of an entry, so that each fits into a message of its stream. Lengths are in characters.
const (
	MaxAuditTargets = 100
	MaxAuditTarget  = 256  // of a target
	MaxAuditText    = 1000 // of any other text
)

// AuditEntry records an action of an operator. It is written before the action, so that it records the attempt. What it
// contains is what the operator's tool reports: the permission to publish it is the proof of who may have done it.
type AuditEntry struct {
	Version  int       `json:"version"`
	At       time.Time `json:"at"` // by the tool's clock; the stream has the server's time
	By       string    `json:"by"` // who acts, as they say themselves
	Tool     string    `json:"tool"`
	Action   string    `json:"action"`
	Database string    `json:"database,omitempty"` // missing: the action concerns all databases
	Targets  []string  `json:"targets,omitempty"`  // what is acted on: job ids, dead letters, files; the first ones if they are many
	Count    int       `json:"count,omitempty"`    // how many targets there are
	Reason   string    `json:"reason,omitempty"`   // why, as given to the tool
	// Before and After are what the action replaces and what it asks for, as far as the tool knows.
	Before map[string]string `json:"before,omitempty"`
	After  map[string]string `json:"after,omitempty"`
}

// Complete sets the version, the time unless it is set, and the count of targets, and cuts targets and texts at their bounds.
func (e *AuditEntry) Complete(now time.Time) {
	e.Version = Version
	if e.At.IsZero() {
		e.At = now.UTC()
	}
	e.Count = max(e.Count, len(e.Targets))
	e.Targets = slices.Clone(e.Targets[:min(len(e.Targets), MaxAuditTargets)])
	for i := range e.Targets {
		e.Targets[i] = clipped(e.Targets[i], MaxAuditTarget)
	}
	e.By, e.Tool, e.Reason = clipped(e.By, MaxAuditText), clipped(e.Tool, MaxAuditText), clipped(e.Reason, MaxAuditText)
	e.Before, e.After = clippedValues(e.Before), clippedValues(e.After)
}

// Check returns why an entry cannot be published: its subject has its database and action.
func (e *AuditEntry) Check() error {
	switch {
	case e.Database == "" && e.Action != AuditTopology:
		return fmt.Errorf("the action %q needs a database", e.Action)
	case e.Database != "" && !ValidName(e.Database):
		return errors.New("a database is 1 to 64 of A-Z a-z 0-9 _ -")
	case !ValidName(e.Action):
		return errors.New("an action is 1 to 64 of A-Z a-z 0-9 _ -")
	}
	return nil
}

func clippedValues(values map[string]string) map[string]string {
	if values == nil {
		return nil
	}
	out := make(map[string]string, len(values))
	for key, value := range values {
		if value != "" {
			out[key] = clipped(value, MaxAuditText)
		}
	}
	return out
}

// clipped returns at most the first characters of a text.
func clipped(text string, most int) string {
	n := 0
	for i := range text {
		if n++; n > most {
			return text[:i]
		}
	}
	return text
}
