package verify

import "time"

// Kind names what does not match.
type Kind string

// The kinds of findings.
const (
	ResultMissing       Kind = "result_missing"
	RowMissing          Kind = "ledger_row_missing"
	RowDiffers          Kind = "ledger_row_differs"
	RowOfOtherMessage   Kind = "ledger_row_of_another_message"
	RowInconsistent     Kind = "ledger_row_inconsistent"
	StartedOnly         Kind = "started_without_outcome"
	ResultMisplaced     Kind = "result_misplaced"
	ResultTwice         Kind = "second_result"
	ResultUnreadable    Kind = "result_unreadable"
	ResultOfNoMessage   Kind = "result_of_no_message"
	OutcomeUnknown      Kind = "unknown_outcome"
	DeadLetterAlone     Kind = "dead_letter_without_result"
	DeadLetterDiffers   Kind = "dead_letter_differs"
	DeadLetterMissing   Kind = "dead_letter_missing"
	RefusedButRecorded  Kind = "refused_but_recorded"
	SettledNotRemoved   Kind = "settled_job_not_removed"
	removedTooEarlyText      = "the database or the ledger was restored or edited, an asynchronous standby became the primary, or ledger.retention was longer when the row was written"
)

// about is what a kind of finding means, and what to look at.
type about struct{ meaning, look string }

var kinds = map[Kind]about{
	ResultMissing: {
		"the ledger records the job's outcome, and no result is stored although it cannot have expired: its publisher has no answer",
		"whether the results stream was purged, edited or restored; `runner result get` answers from the ledger",
	},
	RowMissing: {
		"a result reports an outcome that the ledger does not know: the effect may be lost, or may happen again if the job is published again",
		"whether " + removedTooEarlyText + "; compare the job's effect with its result before it is published again",
	},
	RowDiffers: {
		"the stored result and the ledger row of the same message contradict each other",
		"who may write to the ledger or publish results; the ledger row committed together with the effect, so believe it",
	},
	RowOfOtherMessage: {
		"the ledger row of the id was written for another message than the stored result: one of the two effects is not on record",
		"whether ledger rows were deleted by hand, or the database was restored, and the id was published again since",
	},
	RowInconsistent: {
		"the columns of a ledger row contradict the answer in the same row: the row was edited",
		"who may write to the ledger",
	},
	StartedOnly: {
		"a statement was started, its message is gone, and no outcome is on record: no runner will record one any more",
		"the database: has the statement taken effect? Then publish it again under a new id, if it has not",
	},
	ResultMisplaced: {
		"a result is stored where no runner stores it: its subject is neither its job's nor the derived one of its message",
		"who besides runners may publish to the results stream",
	},
	ResultTwice: {
		"two results are stored for one message of the jobs stream",
		"who besides runners may publish to the results stream; compare both with the ledger row",
	},
	ResultUnreadable: {
		"a message of the results stream is no result",
		"who besides runners may publish to the results stream",
	},
	ResultOfNoMessage: {
		"a result names a message that the jobs stream has never had",
		"who besides runners may publish to the results stream, and whether the jobs stream was restored from a backup",
	},
	OutcomeUnknown: {
		"an exactly_once job has the status unknown, which no runner gives it",
		"who besides runners may publish to the results stream",
	},
	DeadLetterAlone: {
		"a dead letter names a result that is not stored although it cannot have expired",
		"whether the results stream was purged, edited or restored",
	},
	DeadLetterDiffers: {
		"a dead letter contradicts the result that it names",
		"who besides runners may publish dead letters or results; the stored result is authoritative",
	},
	DeadLetterMissing: {
		"a job did not succeed, and left no dead letter in a stream from which nothing was ever removed",
		"whether its runner's dead_letters setting excludes the reason; the job can be published again under a new id",
	},
	RefusedButRecorded: {
		"a dead letter reports that the job was refused because of its id, and the job's own outcome is on record",
		"the ledger row and the stored result: they are authoritative",
	},
	SettledNotRemoved: {
		"the job has its result, and its message is still in the jobs stream: it will be delivered once more and acknowledged without another effect",
		"whether runners of this database are up (`runner ps`), paused, or keep it because its database is down",
	},
}

// Finding is something that does not match.
type Finding struct {
	Kind     Kind      `json:"kind"`
	Warning  bool      `json:"warning,omitempty"` // no promise is broken, but it needs attention
	JobID    string    `json:"job_id,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"` // of the job's message
	QueuedAt time.Time `json:"queued_at,omitzero"` // of the job's message
	Text     string    `json:"text"`
	Meaning  string    `json:"meaning"`
	Look     string    `json:"look"`
}

// newFinding returns a finding about a message's job.
func newFinding(kind Kind, id string, of message, text string) *Finding {
	k := kinds[kind]
	return &Finding{
		Kind: kind, Warning: kind == SettledNotRemoved, JobID: id, Sequence: of.sequence, QueuedAt: of.at, Text: text,
		Meaning: k.meaning, Look: k.look,
	}
}
