package migration

import (
	"time"

	"dbrunner/internal/db/dialect"
)

// Action is what to do with a database's migrations.
type Action string

// The actions.
const (
	Status   Action = "status"   // reports how the database stands
	Validate Action = "validate" // reports all that would be refused
	Plan     Action = "plan"     // reports what up would run; with a target below the version, what goto would revert
	Up       Action = "up"       // applies what is pending, up to a target or all
	Down     Action = "down"     // reverts what is above a target
	Goto     Action = "goto"     // applies or reverts, whatever leads to a target
	Baseline Action = "baseline" // adopts a database that another tool has looked after
	Repair   Action = "repair"   // reports what is wrong and sets the version
)

// Actions are all actions.
func Actions() []Action { return []Action{Status, Validate, Plan, Up, Down, Goto, Baseline, Repair} }

// Reads reports whether an action changes nothing. It creates and locks nothing either.
func (a Action) Reads() bool { return a == Status || a == Validate || a == Plan }

// NeedsTarget reports whether an action requires a target.
func (a Action) NeedsTarget() bool { return !a.Reads() && a != Up }

// Request asks for an action.
type Request struct {
	Action     Action
	Target     string // a version as files write it, or "none"; empty: the latest
	OutOfOrder bool   // up may apply files below the current version
	Job        string // id of the job that asks, empty if none does
	Message    string // what distinguishes the job's message from all others, over its redeliveries; empty if there is none
	// Timeout bounds the whole, the wait for the lock of migrations included; 0: no bound.
	Timeout time.Duration
	// Begin is called when nothing has been changed yet and everything could be from then on. An error ends the action
	// and is returned as it is. nil means always.
	Begin func() error
	// Progress gets the progress of a migration, in its own goroutine; it must not block. nil: none.
	Progress func(Progress)
}

// Progress returns where a migration is.
type Progress struct {
	Action     Action
	Version    Version
	File       string
	Index, Of  int // of the file among those of this action, from 1
	Statement  int // under way, from 1
	Statements int
	StartedAt  time.Time // of the action
	FileAt     time.Time // of the file
}

// Report returns how a database stands, and what an action did.
type Report struct {
	Action  Action
	Before  Version // when the action, or the job that asks for it, started
	After   Version
	Latest  Version // that the folder has
	Dirty   bool
	Changes []Change // what this action did, in its order
	Pending []Pending
	Faults  []Fault  // what keeps the next migration from being run
	Problem string   // what an interrupted migration has left, in words
	Running *Running // a migration that runs now
	Notes   []string // what was mended or set, in words
	Plan    []Planned
	History []Change // status: everything that ever happened
}

// Change is a file that was applied, reverted, adopted or forgotten.
type Change struct {
	Version   Version
	File      string
	Direction string // up, down, adopt, forget
	State     string // done, failed, running
	SHA256    string
	Duration  time.Duration
	Runner    string
	Job       string
	At        time.Time // of its end, or of its begin where it has not ended
}

// Pending is a file that is not applied.
type Pending struct {
	Version Version
	File    string
}

// Running is a migration that another process runs at this moment.
type Running struct {
	File       string
	Statement  int
	Statements int
	Runner     string
	Job        string
	Since      time.Time
	Holder     string // the session that has the lock, in words
}

// Planned is a file that would be run.
type Planned struct {
	Version    Version
	File       string
	Direction  string
	Stepwise   string // why it does not run in a transaction; empty: it does
	Statements []dialect.Part
}

func change(r *record) Change {
	c := Change{
		Version: r.version, File: r.file, Direction: string(r.dir), State: string(r.state), SHA256: r.sha256,
		Duration: r.duration, Runner: r.runner, Job: r.job, At: r.finishedAt,
	}
	if c.At.IsZero() {
		c.At = r.startedAt
	}
	return c
}

// report describes a database.
func (s *survey) report(action Action, outOfOrder bool) *Report {
	r := &Report{Action: action, Before: s.current(), After: s.current(), Latest: s.folder.Latest(), Dirty: s.state.dirty}
	for _, f := range s.pending() {
		r.Pending = append(r.Pending, Pending{Version: f.Version, File: f.Name})
	}
	r.Faults = sortedFaults(s.faults(outOfOrder))
	return r
}

// planned describes the steps.
func planned(steps []step) []Planned {
	out := make([]Planned, 0, len(steps))
	for i := range steps {
		f := steps[i].script()
		out = append(out, Planned{
			Version: steps[i].file.Version, File: f.Name, Direction: string(steps[i].dir), Stepwise: f.Why, Statements: f.Parts,
		})
	}
	return out
}
