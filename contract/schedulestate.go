package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// The statuses of a schedule.
const (
	ScheduleActive   = "active"
	ScheduleFinished = "finished" // it has no further tick
	ScheduleInError  = "error"    // its record cannot be used: it does not fire
)

// ScheduleState is how far a schedule is. Only runners write it.
type ScheduleState struct {
	Record ScheduleRecord `json:"record"` // that the state follows

	Cron     string     `json:"cron,omitempty"` // the times in force, as the record that last changed them has them
	Every    string     `json:"every,omitempty"`
	At       *time.Time `json:"at,omitempty"`
	TimeZone string     `json:"time_zone,omitempty"`
	Anchor   time.Time  `json:"anchor"` // time of that record; every counts from it

	Status   string         `json:"status"`          // active, finished or error
	Error    string         `json:"error,omitempty"` // why the record cannot be used
	Position time.Time      `json:"position"`        // the ticks up to this time are settled
	Next     *time.Time     `json:"next,omitempty"`  // the next tick; missing: there is none
	Claim    *ScheduleClaim `json:"claim,omitempty"` // the tick whose job is being published

	Fired       uint64 `json:"fired"`       // ticks whose job was published
	Missed      uint64 `json:"missed"`      // ticks that were due while no runner could fire them, and that did not fire
	Skipped     uint64 `json:"skipped"`     // ticks that did not fire because of a pause or an overlap
	Unconfirmed uint64 `json:"unconfirmed"` // ticks whose job may have been published, or not

	LastFired       *ScheduleTick `json:"last_fired,omitempty"`
	LastMissed      *ScheduleTick `json:"last_missed,omitempty"`
	LastSkipped     *ScheduleTick `json:"last_skipped,omitempty"`
	LastUnconfirmed *ScheduleTick `json:"last_unconfirmed,omitempty"`
}

// ScheduleRecord is a version of a record: its revision in the bucket, that of its first value since the schedule was created, and
// when it was stored, by the server's clock.
type ScheduleRecord struct {
	Created  uint64    `json:"created"`
	Revision uint64    `json:"revision"`
	Stored   time.Time `json:"stored"`
}

// ScheduleClaim is a tick that a runner has taken, and whose job it publishes.
type ScheduleClaim struct {
	Tick      time.Time `json:"tick"`
	JobID     string    `json:"job_id"`
	Job       string    `json:"job"`        // hash of the job in the record
	ExpiresAt time.Time `json:"expires_at"` // until when the job may start
	At        time.Time `json:"at"`         // when it was claimed, by the server's clock
	Runner    string    `json:"runner"`
}

// ScheduleTick is a tick that was settled.
type ScheduleTick struct {
	Tick     time.Time `json:"tick"`
	JobID    string    `json:"job_id,omitempty"`   // of the job that was published, or may have been
	Sequence uint64    `json:"sequence,omitempty"` // of its message in the jobs stream
	Reason   string    `json:"reason,omitempty"`   // why it did not fire
}

// EncodeScheduleState returns a state as the bucket keeps it.
func EncodeScheduleState(s *ScheduleState) ([]byte, error) { return json.Marshal(s) }

// ReadScheduleState reads a state. It refuses what this version does not know: a state of a later version is left alone.
func ReadScheduleState(value []byte) (*ScheduleState, error) {
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.DisallowUnknownFields()
	var s ScheduleState
	if err := decoder.Decode(&s); err != nil {
		return nil, fmt.Errorf("not a state of a schedule: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("not a state of a schedule: text follows")
	}
	switch s.Status {
	case ScheduleActive, ScheduleFinished, ScheduleInError:
	default:
		return nil, fmt.Errorf("not a state of a schedule: status %q", s.Status)
	}
	if s.Record.Revision == 0 || s.Record.Created == 0 || s.Record.Created > s.Record.Revision {
		return nil, errors.New("not a state of a schedule: it follows no record")
	}
	return &s, nil
}
