package check

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// Effect is what a job promises of its effect; the words are those of the contract.
type Effect string

// The effects.
const (
	ReadOnly    Effect = "read_only"
	ExactlyOnce Effect = "exactly_once"
	AtMostOnce  Effect = "at_most_once"
	AtLeastOnce Effect = "at_least_once"
)

// Statuses of results.
const (
	Succeeded = "succeeded"
	Failed    = "failed"
	Rejected  = "rejected"
	Canceled  = "cancelled"
	Expired   = "expired"
	Unknown   = "unknown"
)

// Request is one request, however often it is published. Its name is the label "request" of its jobs,
// which their results echo, and the name of its rows in the table of effects.
type Request struct {
	Name     string `json:"name"`
	Class    string `json:"class"` // of the workload, for people
	Database string `json:"database"`
	Kind     string `json:"kind"`
	Call     string `json:"call,omitempty"`  // name of the statement of a call
	Queue    string `json:"queue,omitempty"` // of its database; empty: none
	ID       string `json:"id,omitempty"`    // of its job; empty: the runner derives one from the message
	Effect   Effect `json:"effect,omitempty"`

	Rows      int           `json:"rows"`                 // of effects, each time that it takes effect
	Limit     int           `json:"limit,omitempty"`      // on the rows that it writes; 0: none
	Statuses  []string      `json:"statuses,omitempty"`   // ends that it may have besides Failed for what faults do
	Codes     []string      `json:"codes,omitempty"`      // of Failed, besides those of faults
	ReplyTo   string        `json:"reply_to,omitempty"`   // where the answer is sent as well
	ReplyOnly bool          `json:"reply_only,omitempty"` // nothing is stored
	Unread    bool          `json:"unread,omitempty"`     // its body cannot be decoded, so that its result has no labels
	Refused   bool          `json:"refused,omitempty"`    // no stream may take it
	Sum       bool          `json:"sum,omitempty"`        // it reads the sum of all balances
	Schedule  string        `json:"schedule,omitempty"`   // that publishes it: its key
	Every     time.Duration `json:"every,omitempty"`      // of its schedule; 0: it fires once
	Plain     bool          `json:"plain,omitempty"`      // it is published to its queue and to none
	Outbox    string        `json:"outbox,omitempty"`     // database in whose outbox an application inserts it
	Outside   int           `json:"outside,omitempty"`    // rows of its result, which are in the object store
	Target    int           `json:"target,omitempty"`     // of a migration: the version that it brings the database to
	Approves  string        `json:"approves,omitempty"`   // id of the dry run that it approves
	Digest    string        `json:"digest,omitempty"`     // of the effect that it approves
	Redrive   bool          `json:"redrive,omitempty"`    // it may be published again under ids of its own, <id>_r<n>
	Body      []byte        `json:"-"`
}

// Publication is one message that was published, or tried to be: the log of a publisher.
type Publication struct {
	Request   string    `json:"request"`
	ID        string    `json:"id,omitempty"` // of the job, where it is not the request's own: a re-drive
	From      time.Time `json:"from"`
	Until     time.Time `json:"until"`
	Acked     bool      `json:"acked"`
	Duplicate bool      `json:"duplicate,omitempty"` // the stream had a message of this id already
	Sequence  uint64    `json:"sequence,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// Answer is a result as it was stored, re-published or replied.
type Answer struct {
	Database string    `json:"database"`
	Key      string    `json:"key"` // the last token of its subject; of a reply the whole subject
	At       time.Time `json:"at"`  // when it was stored, or seen
	Body     []byte    `json:"-"`

	Result Result `json:"result"`
}

// Response is what a request to the run endpoint was answered with.
type Response struct {
	Request string    `json:"request"`
	From    time.Time `json:"from"`
	Error   string    `json:"error,omitempty"` // the code of a refusal, or why there is no answer; empty: a result
	Answer  Answer    `json:"answer"`
}

// Result is what the checker reads of a result.
type Result struct {
	JobID        string            `json:"job_id"`
	Kind         string            `json:"kind"`
	Effect       Effect            `json:"effect"`
	Status       string            `json:"status"`
	Duplicate    bool              `json:"duplicate"`
	Sequence     uint64            `json:"sequence"`
	Deliveries   uint64            `json:"deliveries"`
	Runner       string            `json:"runner"`
	QueuedAt     time.Time         `json:"queued_at"`
	StartedAt    time.Time         `json:"started_at"`
	FinishedAt   time.Time         `json:"finished_at"`
	Labels       map[string]string `json:"labels"`
	Rows         []json.RawMessage `json:"rows"`
	After        string            `json:"version_after"`
	Outside      *RowsObject       `json:"rows_object"`
	EffectDigest string            `json:"effect_digest"`
	Statements   []struct {
		Affected *int64            `json:"rows_affected"`
		Rows     []json.RawMessage `json:"rows"`
		Outside  *RowsObject       `json:"rows_object"`
	} `json:"statements"`
	Error struct {
		Code string `json:"code"`
	} `json:"error"`
}

// RowsObject is what a result says of rows that are in the object store.
type RowsObject struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	Rows   int    `json:"row_count"`
	Digest string `json:"digest"`
}

// rowsObject is where the rows of a result are, nil if it has them itself.
func (r *Result) rowsObject() *RowsObject {
	if len(r.Statements) > 0 {
		return r.Statements[0].Outside
	}
	return r.Outside
}

// Object is an object with rows as it was read.
type Object struct {
	Size    int64  `json:"size"`
	Digest  string `json:"digest"`
	Rows    int    `json:"rows"`
	Problem string `json:"problem,omitempty"` // why it could not be read, or what is wrong in it
}

// Request is the name of the request that the result belongs to, empty if it does not say.
func (r *Result) Request() string { return r.Labels["request"] }

// ReadAnswer reads a result's body.
func ReadAnswer(database, key string, at time.Time, body []byte) (Answer, error) {
	a := Answer{Database: database, Key: key, At: at, Body: body}
	if err := json.Unmarshal(body, &a.Result); err != nil {
		return a, errors.Join(errors.New("a result is not to be read"), err)
	}
	return a, nil
}

// same reports whether two bodies are one result: only the mark of a duplicate may differ.
func same(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y map[string]json.RawMessage
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	delete(x, "duplicate")
	delete(y, "duplicate")
	if len(x) != len(y) {
		return false
	}
	for key, value := range x {
		if other, ok := y[key]; !ok || !bytes.Equal(value, other) {
			return false
		}
	}
	return true
}

// DeadLetter is a dead letter as stored.
type DeadLetter struct {
	Database string              `json:"database"`
	Kind     string              `json:"kind"`
	Key      string              `json:"key"` // the derived id of the message
	JobID    string              `json:"job_id"`
	Reason   string              `json:"reason"`
	Sequence uint64              `json:"sequence"` // of the job's message
	Headers  map[string][]string `json:"-"`
	Body     []byte              `json:"-"`
}

// Row is one row of the table of effects.
type Row struct {
	Database string `json:"database"`
	Request  string `json:"request"`
	From     int    `json:"from"` // account
	To       int    `json:"to"`   // account
	Amount   int64  `json:"amount"`
}

// Span is when a job of a queue was executed, by the database's clock: its own statements recorded it.
type Span struct {
	Request string    `json:"request"`
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
}

// OutboxRow is a row that is left in an outbox.
type OutboxRow struct {
	Database string `json:"database"`
	ID       string `json:"id"` // of the job
	Error    string `json:"error"`
}

// LedgerRow is one row of a ledger.
type LedgerRow struct {
	Database string `json:"database"`
	JobID    string `json:"job_id"`
	Status   string `json:"status"`
	Sequence uint64 `json:"sequence"`
	Answer   []byte `json:"-"`
}

// Applied is one entry of a database's history of migrations that is done.
type Applied struct {
	Database string `json:"database"`
	Version  int    `json:"version"`
}

// Exit is how a runner ended that was asked to.
type Exit struct {
	Runner string        `json:"runner"`
	Took   time.Duration `json:"took"`
	Grace  time.Duration `json:"grace"`
	Code   int           `json:"code"`
}

// Nak is a message that was requeued, as the server reports it.
type Nak struct {
	Database   string    `json:"database"`
	Sequence   uint64    `json:"sequence"`
	Deliveries uint64    `json:"deliveries"` // the delivery that was requeued
	At         time.Time `json:"at"`
}

// Stream is a stream's state at the end.
type Stream struct {
	Name     string `json:"name"`
	Database string `json:"database"`
	Messages uint64 `json:"messages"`
	Last     uint64 `json:"last"`
}

// Text is something that may hold secrets by mistake.
type Text struct {
	Where string
	Body  []byte
}

// Fault is one fault as it was made.
type Fault struct {
	Name  string    `json:"name"`
	From  time.Time `json:"from"`
	Until time.Time `json:"until"`
	Note  string    `json:"note,omitempty"`
}

// History is one run, as it was seen from outside.
type History struct {
	Seed     uint64
	Requests map[string]*Request
	Faults   []Fault

	Publications   []Publication
	Cancels        map[string]bool // requests with a cancel request
	Stored         []Answer        // all that the results streams hold
	Seen           []Answer        // results as plain subscribers saw them
	Replayed       bool            // servers of the cluster crashed, stopped or lost each other: they may have published stored results again
	Replies        []Answer
	Responses      []Response // of the run endpoint
	DeadLetters    []DeadLetter
	Effects        []Row
	Schedules      []Schedule
	SchedulesEnded time.Time // when they were paused for good
	Pauses         []Pause
	PauseBound     time.Duration // until a pause is in force
	Delays         []Delay       // the bench's own reads of the bucket of pauses that took long
	AckWait        time.Duration
	Skewed         bool                     // clocks of runners are wrong
	Spans          []Span                   // of the jobs of queues that took effect
	Committed      map[string]bool          // requests whose rows in outboxes were committed
	Outbox         []OutboxRow              // that are left
	Ordered        []string                 // queues, as in FleetSlots
	Commits        []Commit                 // of ordered queues
	Resumes        []Resume                 // of operators
	FleetSlots     map[string]int           // of each queue, by database and name, with a dot between
	Balances       map[string]map[int]int64 // by database and account
	Opening        int64                    // balance of each account at the beginning
	Ledger         []LedgerRow
	Applied        []Applied        // of migrations, in the order in which they were applied
	Tables         map[string][]int // of each database: the migrations whose tables are there
	Jobs           []Stream
	Results        []Stream
	Objects        map[string]Object // with rows, by their names

	Exits       []Exit
	Naks        []Nak
	Memory      map[string]int64 // bytes, the largest resident size of each runner
	MemoryBound int64
	Connections map[string]int // left when the runners had ended, by server
	Texts       []Text
	Secrets     []string // that no text may hold
	Private     []string // values of parameters: no text, no error and no header may hold them
	Drain       time.Duration
	DrainBound  time.Duration
}
