package engine

import (
	"crypto/sha256"
	"slices"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

const (
	// LedgerTable is the table of the ledger where a database has schemas, in words.
	LedgerTable = "the table dbrunner.ledger"
	// GrantLedger is what a DBA runs for the runners' login.
	GrantLedger = "-- GRANT SELECT, INSERT, UPDATE, DELETE ON dbrunner.ledger TO dbrunner;\n"
	// RecordedMessage is the text of AlreadyRecorded.
	RecordedMessage = "the ledger has a row for this job already"
	// RowNotWritten stands before the reason why a fence could not be written.
	RowNotWritten = "the ledger row could not be written: "
)

// JobLock is the name of the lock that the session of an execution at most once holds, the same for every runner.
func JobLock(namespace, database, jobID string) [sha256.Size]byte {
	return sha256.Sum256([]byte("dbrunner job lock\x00" + namespace + "\x00" + database + "\x00" + jobID))
}

// AlreadyRecorded is what a fence refuses with whose key is taken.
func AlreadyRecorded() *db.Error {
	return db.Errorf(db.ClassAlreadyRecorded, contract.CodeUnique, RecordedMessage)
}

// OtherEnd is what the end of a job is refused with of which another end is on record.
func OtherEnd() *db.Error {
	return db.Errorf(db.ClassAlreadyRecorded, contract.CodeUnique, "another outcome of this job is recorded")
}

// Executing reports that another session has the job's lock.
func Executing() *db.Error {
	return db.Errorf(db.ClassLocked, contract.CodeLockTimeout, "another session executes this job")
}

// RowNotRead reports that a row kept a key taken and was gone whenever it was read.
func RowNotRead() *db.Error {
	return db.Errorf(db.ClassTransient, contract.CodeSerialization, "the ledger row is taken and cannot be read")
}

// LedgerLook is how an engine looks at its ledger's table.
type LedgerLook struct {
	// Columns are the names and types of the columns; none if the table is not there.
	Columns func() ([][2]string, error)
	// Create creates the table.
	Create func() error
	// HasKey reports whether there is a unique key that fences: of namespace, database_name and job_id.
	HasKey func() (bool, error)
	// MissingRights are those of SELECT, INSERT, UPDATE and DELETE that the login has not.
	MissingRights func() ([]string, error)
}

// VerifyLedger checks that the ledger of a database is as it must be, and creates it where the mode asks for that. missing is
// how the login sees a table that does not exist.
func VerifyLedger(database string, mode db.LedgerMode, want [][2]string, missing string, look LedgerLook) error {
	there, err := look.Columns()
	if err != nil {
		return err
	}
	if len(there) == 0 {
		if mode != db.LedgerManage {
			return Unfit(database, LedgerTable+" is %s; `runner ledger ddl` prints the statements that create it", missing)
		}
		if err := look.Create(); err != nil {
			return err
		}
		if there, err = look.Columns(); err != nil {
			return err
		}
	}
	for _, column := range want {
		if !slices.Contains(there, column) {
			return Unfit(database, LedgerTable+" has no column %s of type %s; `runner ledger ddl` prints the expected table", column[0], column[1])
		}
	}
	switch fenced, err := look.HasKey(); {
	case err != nil:
		return err
	case !fenced:
		return Unfit(database, LedgerTable+" has no primary key (namespace, database_name, job_id), "+
			"without which an effect could happen twice; `runner ledger ddl` prints the expected table")
	}
	rights, err := look.MissingRights()
	if err == nil && len(rights) > 0 {
		return Unfit(database, "the login lacks the permission to %s on dbrunner.ledger; grant it", strings.Join(rights, ", "))
	}
	return err
}

// MayNotCreate reports that the login may not create the ledger, and which rights that takes.
func MayNotCreate(database, rights string) *db.Error {
	return Unfit(database, "the login may not create the table dbrunner.ledger; grant it %s, or let a DBA run what `runner ledger ddl` prints", rights)
}
