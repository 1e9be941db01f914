package engine

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"dbrunner/internal/db"
)

// What a look takes for long.
const (
	LongStatement = time.Minute      // a statement under way
	IdleOpen      = time.Second      // a transaction that waits for its client
	MostLedger    = int64(1_000_000) // rows of a ledger that are counted one by one
)

// LedgerSize is the size of a ledger in words: rows of this database up to MostLedger, bytes of the whole table, and when
// the oldest row was recorded, empty if there is none.
func LedgerSize(rows, bytes int64, oldest string) string {
	text := strconv.FormatInt(rows, 10) + " rows"
	if rows >= MostLedger {
		text = "at least " + text
	}
	text += " of this database, " + strconv.FormatInt((bytes+(1<<10)-1)>>10, 10) + " KiB in all"
	if oldest != "" {
		text += ", the oldest of " + oldest
	}
	return text
}

// Findings are what a diagnosis has found so far.
type Findings []db.Finding

// Find adds a finding.
func (f *Findings) Find(part string, grade db.Grade, remedy, format string, args ...any) {
	*f = append(*f, db.Finding{Part: part, Grade: grade, Text: fmt.Sprintf(format, args...), Remedy: remedy})
}

// OK adds what is as it should be.
func (f *Findings) OK(part, format string, args ...any) {
	f.Find(part, db.GradeOK, "", format, args...)
}

// Note adds what is worth to know.
func (f *Findings) Note(part, format string, args ...any) {
	f.Find(part, db.GradeNote, "", format, args...)
}

// Warn adds a finding that an operator should look at.
func (f *Findings) Warn(part, remedy, format string, args ...any) {
	f.Find(part, db.GradeWarning, remedy, format, args...)
}

// Stage is one part of a diagnosis.
type Stage struct {
	Part string
	Run  func(context.Context) error
}

// Run goes through the stages until the session is over. One that fails is a note of why, with a remedy.
func (f *Findings) Run(ctx context.Context, stages []Stage, over func() bool, remedy string, why func(error) string) {
	for _, stage := range stages {
		if err := stage.Run(ctx); err != nil {
			f.Find(stage.Part, db.GradeNote, remedy, "could not be read: %s", why(err))
		}
		if over() {
			return
		}
	}
}

// Unencrypted is the caveat of a connection that may be readable on its way.
func Unencrypted(remedy string) db.Finding {
	return db.Finding{Part: db.PartTLS, Grade: db.GradeWarning, Text: "the connection may be unencrypted", Remedy: remedy}
}

// Unverified is the caveat of a connection that any server may answer.
func Unverified(remedy string) db.Finding {
	return db.Finding{Part: db.PartTLS, Grade: db.GradeWarning, Text: "any certificate of the server is accepted", Remedy: remedy}
}

// LoginAccepted is the stage of a login that succeeded.
func LoginAccepted(took time.Duration) db.Finding {
	return db.Finding{Part: db.PartLogin, Grade: db.GradeOK, Text: "the login was accepted", Latency: took}
}

// QueryStage is the stage of the first query over a new connection; failure is why it was not answered.
func QueryStage(took time.Duration, failure *db.Error) db.Finding {
	if failure != nil {
		return db.Finding{Part: db.PartQuery, Grade: db.GradeFault, Text: failure.Message, Remedy: "look at the server's log and load"}
	}
	return db.Finding{Part: db.PartQuery, Grade: db.GradeOK, Text: "a trivial query was answered", Latency: took}
}
