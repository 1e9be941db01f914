package db

import (
	"bytes"
	"time"
)

// LedgerMode says who looks after a database's ledger table.
type LedgerMode uint8

// The ledger modes.
const (
	LedgerManage LedgerMode = iota + 1 // created when missing
	LedgerVerify                       // must be there; `runner ledger ddl` prints it for a DBA
	LedgerOff                          // no ledger: exactly_once and at_most_once jobs are refused
)

// StatusStarted is the status of a row whose job may be under way: it is executed at most once, and its end was not
// written yet. The row's answer means nothing.
const StatusStarted = "started"

// Entry is one row of the ledger: the proof that a job ended, with its answer. The key is (namespace,
// configured name of the database, job id); the first two are the Database's own.
type Entry struct {
	JobID       string
	RequestHash []byte    // SHA-256; nil when the job could not be decoded: equal to nothing
	Status      string    // the result's status, or StatusStarted
	Answer      []byte    // the result as published
	Sequence    uint64    // of the message in the jobs stream
	Timestamp   time.Time // of the message in the jobs stream, nanoseconds
	Runner      string
	RecordedAt  time.Time // the server's clock, set by the engine

	// Supersedes is set on a row that is to be written over one of an earlier job with its id, if there is one that was recorded
	// before this time: that id is free again. Zero: no row is written over.
	Supersedes time.Time
}

// SameMessage reports whether the entry was written for the message with this sequence and timestamp.
func (e *Entry) SameMessage(sequence uint64, timestamp time.Time) bool {
	return e.Sequence == sequence && e.Timestamp.Equal(timestamp)
}

// SameRequest reports whether the entry was written for a request with this hash. No hash never equals.
func (e *Entry) SameRequest(hash []byte) bool {
	return len(hash) > 0 && bytes.Equal(e.RequestHash, hash)
}
