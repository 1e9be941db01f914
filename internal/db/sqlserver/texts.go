package sqlserver

import (
	"encoding/hex"
	"strconv"

	"dbrunner/internal/db"
)

const (
	// executing lets a session execute statements, whatever the job has set. What the engine sets in a request with
	// arguments does not outlive it, so that requests without them say it again.
	executing   = "SET NOEXEC OFF; SET PARSEONLY OFF; SET FMTONLY OFF; "
	rollbackSQL = executing + "IF @@TRANCOUNT > 0 ROLLBACK TRANSACTION"
	// commitSQL commits what begin started, and says so: the row, without any error beside it, is the proof.
	commitSQL = executing + "SET XACT_ABORT ON; COMMIT TRANSACTION; COMMIT TRANSACTION; SELECT CAST(@@TRANCOUNT AS bigint)"
	// depth is how often a transaction is started. A stray COMMIT takes one away, which shows; it commits nothing.
	depth = 2
	// atDepth is the condition that it is started as often as that.
	atDepth = "@@TRANCOUNT = 2"
)

// texts are the engine's own texts that depend on its options alone: the server keeps a plan for each text.
type texts struct {
	limits string // what a job may have set; not the isolation level, which stays within a transaction
	own    string // the same, and the isolation level of the engine's own queries outside of a job's transaction
}

func newTexts(l *db.Limits) texts {
	lock := "-1" // without end
	if l.LockTimeout > 0 {
		lock = strconv.FormatInt(max(1, l.LockTimeout.Milliseconds()), 10)
	}
	limits := executing + "SET ROWCOUNT 0; SET XACT_ABORT ON; SET IMPLICIT_TRANSACTIONS OFF; " +
		"SET NOCOUNT OFF; SET CONTEXT_INFO 0x00; SET LOCK_TIMEOUT " + lock + "; "
	// A session's reset leaves the isolation level as the job before has set it.
	return texts{limits: limits, own: limits + isolationSQL(db.IsolationDefault)}
}

func isolationSQL(level db.Isolation) string {
	name := "READ COMMITTED"
	switch level {
	case db.RepeatableRead:
		name = "REPEATABLE READ"
	case db.Serializable:
		name = "SERIALIZABLE"
	case db.Snapshot:
		name = "SNAPSHOT"
	case db.IsolationDefault, db.ReadCommitted:
	}
	return "SET TRANSACTION ISOLATION LEVEL " + name + "; "
}

// labelSQL names the job in the session's CONTEXT_INFO, which takes 128 bytes.
func (d *Database) labelSQL(label string) string {
	if !d.settings.label || label == "" {
		return ""
	}
	return "SET CONTEXT_INFO 0x" + hex.EncodeToString([]byte(label[:min(len(label), 128)])) + "; "
}

// transactionID is the id of the transaction under way; without the function it is always the same.
func (d *Database) transactionID() string {
	if d.noTransID.Load() {
		return "CAST(0 AS bigint)"
	}
	return "CURRENT_TRANSACTION_ID()"
}
