package postgres

import (
	"slices"
	"strings"
)

// resetSession is what of DISCARD ALL keeps prepared statements, without the advisory locks, and RESET ROLE, which older
// servers need to go back to a role that the session started with. Decision 113 has the price of each.
const resetSession = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; " +
	"DISCARD TEMP; DISCARD SEQUENCES"

const unlockAll = ", pg_catalog.pg_advisory_unlock_all()"

// countPrepared counts the session's prepared statements: those that SQL has prepared make the number one that the engine's
// own statements never have. It also releases the advisory locks and makes other calls.
func countPrepared(also string) string {
	return "SELECT pg_catalog.sum(CASE WHEN from_sql THEN 1000000 ELSE 1 END)" + unlockAll + also +
		" FROM pg_catalog.pg_prepared_statement()"
}

// cleanups are the endings of transactions, made once. A session is left clean by each of them. Each is a segment; only
// commit and what follows it are two, where the fence and commit are one.
type cleanups struct {
	read   []byte // a READ ONLY transaction is rolled back: only locks of the session could outlive it
	undo   []byte // any other transaction is rolled back
	commit []byte // its tag is what counts
	joined bool   // the fence and commit are one segment; else each is its own
	name   string // of our commands
	clean  []byte // after the commit; empty: commit does it
	styles string // calls that set what RESET ALL takes back; each starts with a comma
}

// newEnds makes the endings.
func newEnds(pooled bool, styles string) *cleanups {
	if pooled {
		// The session is ours no longer than one segment, so that everything goes in one.
		return &cleanups{
			read:   appendSimple(nil, "ROLLBACK; SELECT 1"+unlockAll),
			undo:   appendSimple(nil, "ROLLBACK; "+resetSession+"; SELECT 1"+unlockAll),
			commit: appendSimple(nil, "COMMIT; "+resetSession+"; SELECT 1"+unlockAll),
		}
	}
	var clean []byte
	for _, sql := range append(strings.Split(resetSession, "; "), countPrepared(styles)) {
		clean = appendCommand(clean, ownName, sql)
	}
	clean = appendSync(clean)
	return &cleanups{
		read:   appendSync(appendCommand(appendCommand(nil, ownName, "ROLLBACK"), ownName, countPrepared(""))),
		undo:   slices.Concat(appendCommand(nil, ownName, "ROLLBACK"), clean),
		commit: appendCommand(nil, ownName, "COMMIT"),
		joined: true, name: ownName, clean: clean, styles: styles,
	}
}
