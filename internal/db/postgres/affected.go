package postgres

import (
	"context"
	"strconv"
	"strings"

	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// Rows are counted by the session's own statistics of its transaction, so that those of CTEs, functions, triggers, cascades
// and partitions are among them. The server adds what earlier transactions of the session have written and it has not
// reported yet; therefore they are read twice. Everything is named with its schema: a job may have changed search_path.
const (
	trackCounts = `pg_catalog.current_setting('track_counts')`
	rowsWritten = `pg_catalog.pg_stat_get_xact_tuples_inserted(r) OPERATOR(pg_catalog.+) ` +
		`pg_catalog.pg_stat_get_xact_tuples_updated(r) OPERATOR(pg_catalog.+) pg_catalog.pg_stat_get_xact_tuples_deleted(r)`
	// writtenBefore are the tables with rows of earlier transactions. The statistics know tables that the transaction's
	// snapshot does not, but nothing that was written before it started.
	writtenBefore = `SELECT 0, ` + trackCounts + ` UNION ALL
		SELECT r, n::pg_catalog.text FROM (SELECT r, ` + rowsWritten + ` AS n FROM (
			SELECT oid AS r FROM pg_catalog.pg_class WHERE relkind OPERATOR(pg_catalog.=) 'r' OR relkind OPERATOR(pg_catalog.=) 'm'
		) tables) written WHERE n OPERATOR(pg_catalog.>) 0`
	// writtenNow are the relations that the transaction has locked to write or to change them, in whatever snapshot, and the
	// two tables of large objects, whose locks do not stay.
	writtenNow = `SELECT 0, ` + trackCounts + `, '', '', '', '' UNION ALL
		SELECT r, (` + rowsWritten + `)::pg_catalog.text, mode, coalesce(relkind::pg_catalog.text, ''),
			coalesce(relpersistence::pg_catalog.text, ''), coalesce(c.oid::pg_catalog.regclass::pg_catalog.text, 'a relation that was dropped')
		FROM (SELECT relation AS r, mode FROM pg_catalog.pg_locks
				WHERE locktype OPERATOR(pg_catalog.=) 'relation' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()
				AND mode OPERATOR(pg_catalog.<>) 'AccessShareLock' AND mode OPERATOR(pg_catalog.<>) 'RowShareLock'
			UNION ALL SELECT 2613, '' UNION ALL SELECT 2995, '') held
		LEFT JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r`
)

// Columns of writtenNow.
const (
	writtenRelation = iota
	writtenRows
	writtenMode
	writtenKind
	writtenPersistence
	writtenName
)

// The first relation with an OID of a user's own, and the tables of large objects.
const (
	firstUserOID     = 16384
	largeObjects     = "2613"
	largeObjectsMeta = "2995"
)

// noCounts is the error of a server that counts nothing.
const noCounts = "track_counts is off, so that the server counts no rows for max_affected; set it on, or leave max_affected out"

// writtenRowsBefore keeps what a session had written before the transaction, by relation; nil: no limit asks for it.
type writtenRowsBefore map[string]int64

// take reads a row of writtenBefore. Other rows do not come here: it is the only command of ours before a job's that has any.
func (b writtenRowsBefore) take(body []byte) {
	from, _ := rowOf(body)
	relation, _ := from.value()
	name := string(relation)
	rows, _ := from.value()
	if name == "0" {
		if string(rows) == "on" {
			b[name] = 1
		}
		return
	}
	b[name], _ = strconv.ParseInt(string(rows), 10, 64)
}

// checkAffected counts the rows that the open transaction has written, if it has a limit, and compares them with it.
func (t *transaction) checkAffected(ctx context.Context, before writtenRowsBefore) error {
	if before == nil {
		return nil
	}
	rows, err := t.query(writtenNow)
	if err != nil {
		return t.ownError(ctx, err)
	}
	total, failure := before.increase(rows)
	if failure == nil {
		failure = engine.CheckAffected(t.tx, total)
	}
	if failure != nil {
		return failure
	}
	return nil
}

// increase sums the rows that were written since, and refuses what writes others.
func (b writtenRowsBefore) increase(rows ownRows) (int64, *db.Error) {
	now := map[string]int64{}
	for _, row := range rows {
		relation, count, kind := string(row.value(writtenRelation)), string(row.value(writtenRows)), string(row.value(writtenKind))
		if relation == "0" {
			if count != "on" || b["0"] != 1 {
				return 0, engine.NotCountable(noCounts)
			}
			continue
		}
		mode, name := string(row.value(writtenMode)), string(row.value(writtenName))
		switch {
		case mode == "AccessExclusiveLock" && string(row.value(writtenPersistence)) != "t":
			return 0, engine.NotCountable("the transaction has an ACCESS EXCLUSIVE lock on " + name + ", as TRUNCATE, DROP, ALTER, CREATE " +
				"and LOCK take it: what they change is not counted, and they cannot be used with max_affected")
		case mode == "RowExclusiveLock" && kind == "f":
			return 0, engine.NotCountable("the transaction writes to the foreign table " + name +
				": its rows are not counted, and it cannot be used with max_affected")
		case counts(relation, kind):
			now[relation], _ = strconv.ParseInt(count, 10, 64)
		}
	}
	var total int64
	for relation, n := range now {
		total += max(0, n-b[relation])
	}
	return total, nil
}

// counts reports whether the rows of a relation are among those with a limit: those of tables, but for the server's own and
// the pieces of large values. A relation that the snapshot does not know is taken for a table.
func counts(relation, kind string) bool {
	if relation == largeObjects || relation == largeObjectsMeta {
		return true
	}
	oid, err := strconv.ParseUint(relation, 10, 32)
	return (err != nil || oid >= firstUserOID) && strings.Contains("rm", kind)
}

// countsRows refuses a server that counts no rows although transactions have a limit on them.
func (l *lease) countsRows() error {
	if !l.d.opts.Limits.CountsRows {
		return nil
	}
	rows, err := l.query(`SELECT ` + trackCounts)
	if err == nil && string(rows.first(0)) != "on" {
		return engine.Unfit(l.d.opts.Name, noCounts)
	}
	return err
}
