package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"dbrunner/internal/jsontext"
)

// Bounds of the texts in the record of a pause, in characters.
const (
	MaxPauseReason = 1000
	MaxPauseBy     = 256
)

// Pause is the record of a pause. The pause lasts as long as its key exists in the bucket, whatever the record contains.
type Pause struct {
	Reason string `json:"reason,omitempty"` // why, for people
	By     string `json:"by,omitempty"`     // who paused, as they say themselves
}

// ActivePause is a pause that a runner obeys, as its heartbeats report it.
type ActivePause struct {
	Key      string `json:"key"`              // in the bucket
	Revision uint64 `json:"revision"`         // of the record that the runner obeys
	Reason   string `json:"reason,omitempty"` // of the record, or why that cannot be read
	By       string `json:"by,omitempty"`
	Running  int    `json:"running,omitempty"` // jobs that the pause stops the start of, and that the runner had started and has not finished
}

const (
	pausePrefix = "pause."
	pauseQueue  = ".queue."

	maxPauseDepth, maxPauseValues = 2, 64
)

// PauseTarget is what a pause stops.
type PauseTarget struct {
	Database string
	Queue    string // one of the database's queues, whose jobs are paused alone; empty: all of its jobs, but migrations and health checks
	Schedule string // key of one of the database's schedules, which is paused instead; empty: none
}

// Stops reports whether a pause of the target stops jobs of a queue from starting; empty: jobs of no queue. A paused schedule
// publishes none.
func (t PauseTarget) Stops(queue string) bool {
	return t.Schedule == "" && (t.Queue == "" || t.Queue == queue)
}

// PauseKey returns the key of a target's record in the bucket.
func PauseKey(t PauseTarget) string {
	switch {
	case t.Schedule != "":
		return pausePrefix + t.Database + schedulePauseInfix + t.Schedule
	case t.Queue != "":
		return pausePrefix + t.Database + pauseQueue + t.Queue
	}
	return pausePrefix + t.Database
}

// ParsePauseKey returns what a key of the bucket pauses; false: it is no key of a pause that this version knows.
func ParsePauseKey(key string) (PauseTarget, bool) {
	rest, ok := strings.CutPrefix(key, pausePrefix)
	if database, schedule, found := strings.Cut(rest, schedulePauseInfix); ok && found {
		key, err := ParseScheduleKey(schedule)
		return PauseTarget{Database: database, Schedule: schedule}, err == nil && key.Database == database
	}
	database, queue, inQueue := strings.Cut(rest, pauseQueue)
	if !ok || !ValidName(database) || inQueue && !ValidQueue(queue) { // or a part of the database that this version cannot pause alone
		return PauseTarget{}, false
	}
	return PauseTarget{Database: database, Queue: queue}, true
}

// EncodePause returns a record, or why it would not be readable.
func EncodePause(p Pause) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	return json.Marshal(p)
}

// ReadPause reads a record. A record that it refuses pauses all the same.
func ReadPause(value []byte) (Pause, error) {
	var t jsontext.Tape
	if err := t.Read(value, maxPauseDepth, maxPauseValues); err != nil {
		return Pause{}, fmt.Errorf("not valid JSON: %w", err)
	}
	if t.Kind(0) != jsontext.Object {
		return Pause{}, errors.New(`not a JSON object; write {"reason": "…", "by": "…"}`)
	}
	var p Pause
	seen := map[string]bool{}
	for at := 1; at < t.Size(); {
		key, value := t.Str(at), at+1
		at = t.After(value)
		into := p.field(key)
		switch {
		case into == nil:
			return Pause{}, fmt.Errorf("unknown key %q; write reason or by", jsontext.Clip(key, 40))
		case seen[key]:
			return Pause{}, fmt.Errorf("duplicate key %s", key)
		case t.Kind(value) != jsontext.String:
			return Pause{}, fmt.Errorf("%s is not a string", key)
		}
		seen[key] = true
		*into = t.Str(value)
	}
	return p, p.check()
}

func (p *Pause) field(key string) *string {
	switch key {
	case "reason":
		return &p.Reason
	case "by":
		return &p.By
	default:
		return nil
	}
}

func (p *Pause) check() error {
	switch {
	case utf8.RuneCountInString(p.Reason) > MaxPauseReason:
		return fmt.Errorf("reason is longer than %d characters", MaxPauseReason)
	case utf8.RuneCountInString(p.By) > MaxPauseBy:
		return fmt.Errorf("by is longer than %d characters", MaxPauseBy)
	}
	return nil
}
