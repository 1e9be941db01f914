package contract

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"
)

// QueueResume is the record with which an operator resumes an ordered queue: it releases the message of the queue's first job, which
// failed, and no other one. The bucket keeps the last record of each queue.
type QueueResume struct {
	Sequence uint64    `json:"sequence"`         // of the message
	QueuedAt time.Time `json:"queued_at"`        // when the stream stored it, with nanoseconds
	JobID    string    `json:"job_id,omitempty"` // for people
	By       string    `json:"by,omitempty"`     // who resumed, as they say themselves
	Reason   string    `json:"reason,omitempty"` // why, for people
}

const resumePrefix = "resume."

// ResumeKey returns the key of a queue's record in the bucket.
func ResumeKey(database, queue string) string { return resumePrefix + database + "." + queue }

// EncodeResume returns a record, or why it would release nothing.
func EncodeResume(r QueueResume) ([]byte, error) {
	switch {
	case r.Sequence == 0 || r.QueuedAt.IsZero():
		return nil, errors.New("sequence and queued_at are required")
	case utf8.RuneCountInString(r.Reason) > MaxPauseReason:
		return nil, fmt.Errorf("reason is longer than %d characters", MaxPauseReason)
	case utf8.RuneCountInString(r.By) > MaxPauseBy:
		return nil, fmt.Errorf("by is longer than %d characters", MaxPauseBy)
	}
	r.QueuedAt = r.QueuedAt.UTC()
	return json.Marshal(r)
}

// ReadResume reads a record. One that it refuses releases nothing.
func ReadResume(value []byte) (QueueResume, error) {
	var r QueueResume
	if err := json.Unmarshal(value, &r); err != nil {
		return QueueResume{}, fmt.Errorf("not a valid record: %w", err)
	}
	if r.Sequence == 0 || r.QueuedAt.IsZero() {
		return QueueResume{}, errors.New("not a valid record: sequence and queued_at are required")
	}
	return r, nil
}
