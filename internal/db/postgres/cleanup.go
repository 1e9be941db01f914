package postgres

// resetSession is what of DISCARD ALL keeps prepared statements, without the advisory locks, and RESET ROLE,
// which goes back to a role that the session started with.
const resetSession = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; " +
	"DISCARD TEMP; DISCARD SEQUENCES"

// countPrepared counts the session's prepared statements: those that SQL has prepared make the number one that the engine's
// own statements never have.
const countPrepared = "; SELECT pg_catalog.sum(CASE WHEN from_sql THEN 1000000 ELSE 1 END) FROM pg_catalog.pg_prepared_statement()"

const unlockSQL = "; SELECT pg_catalog.pg_advisory_unlock_all()"

// cleanup is the messages that end something, with the number of segments that the server answers.
type cleanup struct {
	messages []byte
	answers  int
}

// cleanups are the endings of transactions, made once. A session is left clean by each of them.
type cleanups struct {
	read   cleanup // a READ ONLY transaction is rolled back: only locks of the session could outlive it
	undo   cleanup // any other transaction is rolled back
	commit []byte  // its tag is what counts
	joined bool    // the fence and commit are one segment; else each is its own
	clean  cleanup // after the commit
}

// newEnds makes the endings. styles sets again what RESET ALL takes back.
func newEnds(pooled bool, styles string) *cleanups {
	if pooled {
		// The session is ours no longer than one segment, so that everything goes in one.
		return &cleanups{
			read:   cleanup{appendSimple(nil, "ROLLBACK"+unlockSQL), 1},
			undo:   cleanup{appendSimple(nil, "ROLLBACK; "+resetSession+unlockSQL), 1},
			commit: appendSimple(nil, "COMMIT; "+resetSession+unlockSQL),
		}
	}
	unlocked := func(sql string) cleanup {
		return cleanup{append(appendSimple(nil, sql+countPrepared), unlockAll...), 2}
	}
	return &cleanups{
		read:   unlocked("ROLLBACK"),
		undo:   unlocked("ROLLBACK; " + resetSession + "; " + styles),
		commit: appendCommand(nil, "COMMIT"),
		joined: true,
		clean:  unlocked(resetSession + "; " + styles),
	}
}
