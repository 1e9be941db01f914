package db

import (
	"context"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/report"
)

// Database is one configured target database with its pool of connections. Every method may be called
// from many goroutines at the same time; a call waits for a connection as long as its context lives.
type Database interface {
	Executor
	Ledger
	Prober
}

// Executor runs statements. The engine decides how many round trips a call takes and which SQL it uses; it sees every call that
// waits at the same moment, so that it may put several on one connection.
type Executor interface {
	// Engine is the engine's public name: "postgres", "sqlserver", "sqlite".
	Engine() string

	// Dialect reports how SQL text and parameters of this engine are read.
	Dialect() *dialect.Dialect

	// Read runs one statement that must change nothing, in a transaction that the engine ends by ROLLBACK
	// (READ ONLY where the engine has it).
	Read(ctx context.Context, call Call, stmt *dialect.Compiled, opts RowOptions) (ResultSet, error)

	// Transact runs the statements in one transaction and commits it, unless it is a dry run. When all of them have succeeded and
	// every guard holds, seal (if any) is called once; the row that it returns (if any) is inserted into the
	// ledger in the same transaction by a plain INSERT, whose unique key is the fence: a taken key rolls the
	// transaction back and gives ClassAlreadyRecorded. A row that it supersedes is replaced in the same transaction. A commit counts only when the server answered that it committed;
	// no answer gives ClassUnknown.
	Transact(ctx context.Context, call Call, tx *Transaction, opts RowOptions, seal BeforeCommit) ([]ResultSet, error)

	// Execute runs one statement on its own, outside of any transaction, on a session that keeps nothing of it. What
	// the statement has done when it ends with an error is not taken back, and an end without the server's answer is
	// ClassUnknown. Rows above the caps do not stop the statement: ClassTookEffect.
	//
	// With once, it is executed at most once: see Once. ClassLocked reports that another session executes it now,
	// ClassAlreadyRecorded that the ledger has a row of it; nothing was executed then, or with ClassAlreadyRecorded after once.End, another
	// end was on record first. An error of another class before once.End means that the statement was not started,
	// unless it is ClassUnknown.
	Execute(ctx context.Context, call Call, stmt *dialect.Compiled, opts RowOptions, once *Once) (ResultSet, error)
}

// Ledger keeps the rows that report which jobs have ended.
type Ledger interface {
	// RecordEnd writes the end of a job whose ledger row says StatusStarted for the same message, and returns the row as
	// it is then, nil if there is none, and whether this call wrote it: the first writer wins. own reports that the
	// caller started the execution and knows its end. Anybody else writes only if no session holds the job's lock,
	// for which it does not wait: a row that still says StatusStarted means that the execution goes on.
	RecordEnd(ctx context.Context, end *Entry, own bool) (*Entry, bool, error)

	// Record inserts a ledger row in a transaction of its own, unless its key is taken: then it returns the
	// row that is there, and false. It waits (bounded by the lock time limit) for a transaction under way
	// that inserts the same key.
	Record(ctx context.Context, entry *Entry) (*Entry, bool, error)

	// Lookup reads a ledger row; nil if there is none. It does not wait for transactions under way.
	Lookup(ctx context.Context, jobID string) (*Entry, error)

	// Sweep deletes at most limit ledger rows that were recorded earlier than before, and reports how many.
	Sweep(ctx context.Context, before time.Time, limit int) (int, error)

	// Now is the server's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Prober reports how a database is, and ends its use.
type Prober interface {
	// Probe reaches the server and verifies what jobs need there: the login, the ledger (which `manage`
	// creates), the limits. nil means that lanes may run. The error's text names the remedy, never a secret.
	Probe(ctx context.Context) error

	// Check connects again, beside the pool, and asks one trivial question. It uses no connection of the pool, waits
	// behind no work and no lock of ours, and returns soon after its context's end at the latest. An error comes
	// with what was found before it.
	Check(ctx context.Context) (CheckResult, error)

	// Stats describes the pool at this moment.
	Stats() report.Pool

	// Close closes the pool and waits for everything that the engine started.
	Close() error
}

// Call is what every execution has, whatever it executes.
type Call struct {
	// Label names the job in the database's session where the engine can show it.
	Label string

	// Timeout bounds one attempt, from having a connection to the end of COMMIT. The context's own end is
	// another matter: it means that the work was given up.
	Timeout time.Duration

	// Begin is called once a connection is there and before anything is sent over it. An error gives the
	// connection back unused and is returned as it is. nil means always.
	Begin func() error
}

// Transaction is the work of one transaction.
type Transaction struct {
	Statements []*dialect.Compiled
	Expect     []*Range // one for each statement, nil = no guard
	Isolation  Isolation

	// Shared lets the transaction share a commit with others that have it, where the engine can do that: each of them ends as if it
	// were by itself, but their locks last until all of them are committed. See docs/messages.md.
	Shared bool

	// MaxAffected is the largest number of rows that the transaction may write, as the engine counts them; 0: no limit, and
	// nothing is counted. It is compared before seal is called, and above it the transaction is rolled back: ClassPermanent,
	// max_affected_exceeded. What the engine cannot count is refused: not_countable.
	MaxAffected int64

	// DryRun: it is rolled back instead of committed, as the last step before the ledger row would be written. What is deferred
	// to the end of the transaction is done before, and its errors are those of the call. seal is called; what it returns is
	// not written.
	DryRun bool
}

// Range is a guard on the number of rows that a statement affects (or returns, if it returns rows).
type Range struct{ Min, Max int64 } // Max < 0: no upper bound

// Holds reports whether n is inside the range.
func (r *Range) Holds(n int64) bool { return r == nil || n >= r.Min && (r.Max < 0 || n <= r.Max) }

// Isolation is a transaction's isolation level; zero is the engine's default.
type Isolation uint8

// The isolation levels of the contract. Snapshot is for engines whose Dialect reports that they have it.
const (
	IsolationDefault Isolation = iota
	ReadCommitted
	RepeatableRead
	Serializable
	Snapshot
)

// BeforeCommit is called in an open transaction, when its statements are done and before the fence. What it returns
// is written to the ledger; an error rolls the transaction back and is returned to the caller as it is.
type BeforeCommit func(ctx context.Context, sets []ResultSet) (*Entry, error)

// Once is what an execution at most once leaves on record. The engine takes the job's lock on the session that
// executes (where it has such locks), without waiting for it: others must be able to look whether the execution goes on
// without a statement that waits, which would be waited for in turn. It commits the row Start by a plain INSERT, executes,
// writes the end over the row, and only then lets the lock go.
type Once struct {
	// Start is the row of the job that was started, with StatusStarted.
	Start *Entry
	// End is called when the statement has ended by the server's word, whatever it was, and returns the row of the end.
	// When that row could not be written, Execute returns ClassUnknown all the same: the caller then writes it by
	// Conclude.
	End func(set ResultSet, err error) *Entry
}

// ResultSet is the answer of one statement, its rows already encoded.
type ResultSet struct {
	Columns      []contract.Column // nil: the statement returns no rows
	Rows         []byte            // a JSON array with an element a row; nil if Columns is nil
	RowCount     int64             // rows in Rows, or in Object, and Omitted
	Omitted      int64             // rows that are not in Rows, because of RowOptions.Keep
	RowsAffected int64             // as the server counts; for a statement that returns rows, their number
	Command      string            // the server's command tag, e.g. "INSERT 0 1", where it has one

	// Object is where the rows are if Rows is nil although Columns is not.
	Object *contract.RowsObject

	// Digest identifies the rows, in whatever order they came: the SHA-256 of the sorted SHA-256 of each row, encoded as an
	// array. nil unless RowOptions.Digest asks for it, or if Columns is nil.
	Digest []byte

	// More are the other answers of a statement that gave several, in their order: the result sets of a procedure,
	// the counts of its statements and of triggers.
	More []ResultSet

	buffers *Buffers // where the memory of large rows goes back to
}

// FreeTo reports where the memory of Rows goes back to.
func (s *ResultSet) FreeTo(b *Buffers) { s.buffers = b }

// Free gives the memory of Rows back, and of all answers in More. The owner of the set may call it, once, when nothing
// reads rows of it any more.
func (s *ResultSet) Free() {
	s.buffers.Put(s.Rows)
	s.Rows, s.buffers = nil, nil
	for i := range s.More {
		s.More[i].Free()
	}
}
