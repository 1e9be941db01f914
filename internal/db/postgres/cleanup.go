package postgres

import "strings"

// resetSession is what of DISCARD ALL keeps prepared statements, without the advisory locks, and RESET ROLE, which older
// servers need to go back to a role that the session started with. Decision 113 has the price of each.
const resetSession = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ROLE; RESET ALL; UNLISTEN *; " +
	"DISCARD TEMP; DISCARD SEQUENCES"

const unlockAll = ", pg_catalog.pg_advisory_unlock_all()"

// countPrepared counts the session's prepared statements but for the engine's own command, which is closed before each use:
// those that SQL has prepared make the number one that the engine's statements never have. It also releases the advisory
// locks and makes other calls.
func countPrepared(also string) string {
	return "SELECT pg_catalog.sum(CASE WHEN name OPERATOR(pg_catalog.=) '" + ownName + "' THEN 0 WHEN from_sql THEN 1000000 ELSE 1 END)" + unlockAll + also +
		" FROM pg_catalog.pg_prepared_statement()"
}

// cleanups are the endings of transactions, made once. A session is left clean by each of them. Each is a segment; only
// commit and what follows it are two, where the fence and commit are one.
type cleanups struct {
	read   ending // a READ ONLY transaction is rolled back: only locks of the session could outlive it
	undo   ending // any other transaction is rolled back
	commit []byte // its tag is what counts
	joined bool   // the fence and commit are one segment; else each is its own
	name   string // of our commands
	clean  ending // after the commit; empty: commit does it
	styles string // calls that set what RESET ALL takes back; each starts with a comma

	stylesAlone string // commands that do the same
}

// ending is one cleanup in two forms. Decision 161 has the price of each.
type ending struct {
	named  []byte // commands under ownName: the session's unnamed statement stays
	simple []byte // a simple query, which costs the server about half, and after which the session has no unnamed statement
}

// in returns the form for a session as it is.
func (e ending) in(s *session) []byte { return e.after(s, false) }

// after returns the form for a session that has just used the fence, or as it is.
func (e ending) after(s *session, fenced bool) []byte {
	if fenced || s.fence {
		return e.named
	}
	return e.simple
}

// newEnds makes the endings.
func newEnds(pooled bool, styles string) *cleanups {
	if pooled {
		// The session is ours no longer than one segment, so that everything goes in one.
		return &cleanups{
			read:   ending{simple: appendSimple(nil, "ROLLBACK; SELECT 1"+unlockAll)},
			undo:   ending{simple: appendSimple(nil, "ROLLBACK; "+resetSession+"; SELECT 1"+unlockAll)},
			commit: appendSimple(nil, "COMMIT; "+resetSession+"; SELECT 1"+unlockAll),
		}
	}
	end := func(sql string) ending {
		var named []byte
		for command := range strings.SplitSeq(sql, "; ") {
			named = appendCommand(named, ownName, command)
		}
		return ending{named: appendSync(named), simple: appendSimple(nil, sql)}
	}
	return &cleanups{
		read:   end("ROLLBACK; " + countPrepared("")),
		undo:   end("ROLLBACK; " + resetSession + "; " + countPrepared(styles)),
		clean:  end(resetSession + "; " + countPrepared(styles)),
		commit: appendCommand(nil, ownName, "COMMIT"),
		joined: true, name: ownName, styles: styles, stylesAlone: alone(styles),
	}
}

// alone are the commands that set styles: they cost less than a query that calls them.
func alone(styles string) string {
	sql := "SET DateStyle = 'ISO'"
	if styles == setStyles {
		sql += "; SET IntervalStyle = 'iso_8601'"
	}
	return sql
}
