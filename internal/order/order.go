// Package order is the rule of ordered queues: jobs take effect one at a time, in stream order, and one that failed stays the
// queue's first until an operator resumes the queue.
//
// The stream is the judge. A runner starts a job, or finishes one that it has not started, only while its message is the first
// message of the queue, as the stream's leader reports it directly before. What the consumer delivers, in which order and how
// often, decides nothing. A message that was the first once stays so until it is removed, because a stream only appends; and
// one is removed only after the ledger has a row with the outcome of its job, so that an execution that goes on elsewhere cannot
// commit any more. Nothing else is needed for the order of the COMMITs to be that of the stream.
package order

import (
	"time"

	"dbrunner/contract"
)

// Position identifies a message of a queue. Its sequence alone may be that of another message, after the stream was recreated.
type Position struct {
	Sequence uint64
	Stored   time.Time // when the stream stored it
}

// Is reports whether two positions are those of one message.
func (p Position) Is(other Position) bool {
	return p.Sequence == other.Sequence && p.Stored.Equal(other.Stored)
}

// Turn is what a runner may do with a message of an ordered queue.
type Turn uint8

// The turns.
const (
	Mine    Turn = iota + 1 // it is the queue's first: its job may start, or finish
	Earlier                 // another message comes before it: that one is to be run first
	Gone                    // it is not in the queue any more: it is to be left alone, without an acknowledgment
)

// Judge returns the turn of a message, by the first message of its queue; nil: the queue is empty.
func Judge(own Position, first *Position) Turn {
	switch {
	case first == nil:
		return Gone
	case own.Is(*first):
		return Mine
	case first.Sequence < own.Sequence:
		return Earlier
	default:
		return Gone
	}
}

// Stays reports whether the message of a job that finished with a status stays in its queue until an operator resumes the
// queue. The status may be that of another message, which the job repeats.
func Stays(status contract.Status) bool {
	return status != contract.Succeeded && status != contract.Canceled
}

// Releases reports whether the last record of an operator, nil if there is none, releases a message that stays. It releases no
// other one.
func Releases(record *Position, own Position) bool {
	return record != nil && own.Is(*record)
}
