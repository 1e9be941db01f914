package engine

import (
	"strconv"
	"time"
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
