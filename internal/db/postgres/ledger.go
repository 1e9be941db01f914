package postgres

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

const (
	// insertEntry is a plain INSERT, whose taken key fails. With ON CONFLICT DO NOTHING it would not fail, and the COMMIT
	// behind it would keep a second effect.
	//
	// It also sets synchronous_commit back to the session's own: a result that says succeeded must not be lost with
	// the server because the job turned the wait for its COMMIT off.
	insertEntry = intoLedger + `
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, ` + durableRunner + `)`
	intoLedger = `INSERT INTO dbrunner.ledger
	(namespace, database_name, job_id, request_hash, status, answer, sequence, message_time, runner)`
	durableRunner = `CASE WHEN pg_catalog.set_config('synchronous_commit', $10, true) IS NOT NULL THEN $9::pg_catalog.text END`
	// supersede is insertEntry, which first deletes a row with the key that was recorded before $11. The INSERT reads how many
	// rows were deleted, so that it comes after that.
	withoutOld = `WITH old AS (DELETE FROM dbrunner.ledger WHERE namespace OPERATOR(pg_catalog.=) $1
		AND database_name OPERATOR(pg_catalog.=) $2 AND job_id OPERATOR(pg_catalog.=) $3
		AND recorded_at OPERATOR(pg_catalog.<) $11::pg_catalog.timestamptz RETURNING 1)`
	supersede = intoLedger + `
	SELECT $1, $2, $3, $4::pg_catalog.bytea, $5::pg_catalog.text, $6::pg_catalog.bytea, $7::pg_catalog.int8, $8::pg_catalog.int8, ` +
		durableRunner + ` FROM (SELECT pg_catalog.count(*) FROM old) AS superseded`
	// fenceEntry is the fence: it fails as well if it inserted no row of this job, which a trigger or a rule can bring about,
	// so that the COMMIT behind it in the same segment is skipped. A rule that inserts into another table has no tableoid to
	// return.
	fenceEntry       = `WITH fence AS (` + insertEntry + rowOfJob
	supersedingFence = withoutOld + `, fence AS (` + supersede + rowOfJob
	rowOfJob         = ` RETURNING tableoid, namespace, database_name, job_id)
	SELECT pg_catalog.int8div(1, pg_catalog.count(*)) FROM fence WHERE namespace OPERATOR(pg_catalog.=) $1
		AND database_name OPERATOR(pg_catalog.=) $2 AND job_id OPERATOR(pg_catalog.=) $3`
	recordEntry       = insertEntry + unlessTaken
	supersedingRecord = withoutOld + supersede + unlessTaken
	unlessTaken       = ` ON CONFLICT DO NOTHING RETURNING ` + recordedAt
	// recordedAt and the bytes are written in one way, whatever the session's settings are.
	recordedAt  = `to_char(recorded_at AT TIME ZONE 'UTC', ` + timeFormat + `)`
	timeFormat  = `'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'`
	lookupEntry = `SELECT encode(request_hash, 'hex'), status, encode(answer, 'hex'), sequence, message_time, runner, ` + recordedAt + `,
		pg_catalog.length(pg_catalog.current_setting('synchronous_standby_names', true))
	FROM dbrunner.ledger WHERE namespace = $1 AND database_name = $2 AND job_id = $3`
	// confirmEntry locks a row: its COMMIT writes to the log, and waits until the synchronous standbys have what was written
	// before as well.
	confirmEntry = `SELECT FROM dbrunner.ledger WHERE namespace = $1 AND database_name = $2 AND job_id = $3 FOR KEY SHARE`
	// sweepEntries deletes by key: a ctid names a row of one partition, and another row in the next one. The age is
	// compared once more where the row is deleted.
	sweepEntries = `WITH old AS (
		SELECT job_id FROM dbrunner.ledger
		WHERE namespace = $1 AND database_name = $2 AND recorded_at < $3
		ORDER BY recorded_at LIMIT $4 FOR UPDATE SKIP LOCKED)
	DELETE FROM dbrunner.ledger l USING old
	WHERE l.namespace = $1 AND l.database_name = $2 AND l.job_id = old.job_id AND l.recorded_at < $3`
)

// ownTimeout bounds the engine's own queries beyond the time for a lock.
const ownTimeout = 15 * time.Second

// noRow is the SQLSTATE of a fence that inserted no row of its job: it divides by their number. rowKeptOut reports why.
const (
	noRow      = "22012"
	rowKeptOut = engine.RowNotWritten + "a trigger or a rule of dbrunner.ledger keeps it out; remove it"
)

// appendEntry binds a ledger row to the statement of that name.
func (l *lease) appendEntry(b []byte, name string, e *db.Entry) []byte {
	b, at := beginMessage(b, 'B')
	b = append(b, 0)
	b = appendText(b, name)
	arguments := byte(10)
	if !e.Supersedes.IsZero() {
		arguments++
	}
	b = append(b, 0, 1, 0, 1, 0, arguments) // one format for all: binary
	b = appendTextArg(b, l.d.opts.Namespace)
	b = appendTextArg(b, l.d.opts.Name)
	b = appendTextArg(b, e.JobID)
	b = appendBytesArg(b, e.RequestHash)
	b = appendTextArg(b, e.Status)
	b = appendBytesArg(b, e.Answer)
	b = appendInt8Arg(b, int64(e.Sequence))
	b = appendInt8Arg(b, e.Timestamp.UnixNano())
	b = appendTextArg(b, e.Runner)
	b = appendTextArg(b, l.durability)
	if !e.Supersedes.IsZero() {
		b = appendInt8Arg(b, e.Supersedes.Sub(epoch).Microseconds())
	}
	return endBind(b, at)
}

// epoch is where the server's times count from.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func appendBytesArg(b, v []byte) []byte {
	if v == nil {
		return appendNull(b)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(v)))
	return append(b, v...)
}

func appendInt8Arg(b []byte, v int64) []byte {
	b = binary.BigEndian.AppendUint32(b, 8)
	return binary.BigEndian.AppendUint64(b, uint64(v))
}

// Record inserts a ledger row in a transaction of its own, unless its key is taken: then the row that is there
// comes back, and false. It waits for a transaction under way with the same key, at most the lock time limit.
func (d *Database) Record(ctx context.Context, entry *db.Entry) (recorded *db.Entry, inserted bool, err error) {
	err = d.own(ctx, db.ClassUnknown, func(l *lease) error {
		recorded, inserted, err = l.record(entry)
		return err
	})
	return recorded, inserted, err
}

func (l *lease) record(entry *db.Entry) (*db.Entry, bool, error) {
	sql := recordEntry
	if !entry.Supersedes.IsZero() {
		sql = supersedingRecord
	}
	// A row that is in the way may be deleted before it is read, but only by a clean-up: once or twice.
	for range 3 {
		rows, _, err := l.writeEntry(sql, entry)
		if err != nil {
			return nil, false, err
		}
		if len(rows) == 1 {
			out := *entry
			out.RecordedAt, err = time.Parse(time.RFC3339Nano, string(rows.first(0)))
			return &out, true, err
		}
		if existing, err := l.lookup(entry.JobID); existing != nil || err != nil {
			return existing, false, err
		}
	}
	return nil, false, engine.RowNotRead()
}

// fenceOf is the fence that writes a row.
func fenceOf(e *db.Entry) string {
	if e.Supersedes.IsZero() {
		return fenceEntry
	}
	return supersedingFence
}

// writeEntry runs a statement of ours that takes a ledger row's arguments.
func (l *lease) writeEntry(sql string, e *db.Entry) (rows ownRows, affected int64, err error) {
	l.buf = appendParse(l.buf[:0], "", sql, nil)
	l.buf = l.appendEntry(l.buf, "", e)
	l.buf = appendSync(appendExecute(l.buf))
	return l.roundTrip()
}

// Lookup reads a ledger row; nil if there is none.
func (d *Database) Lookup(ctx context.Context, jobID string) (entry *db.Entry, err error) {
	err = d.own(ctx, db.ClassLost, func(l *lease) error {
		entry, err = l.lookup(jobID)
		return err
	})
	return entry, err
}

func (l *lease) lookup(jobID string) (*db.Entry, error) {
	rows, err := l.query(lookupEntry, l.d.opts.Namespace, l.d.opts.Name, jobID)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	// Whether the session's COMMIT waits for synchronous standbys where there are any. A row that can be seen proves
	// nothing then: the wait for its own COMMIT may have been cancelled, or have ended with a crash.
	if standbys := string(rows.first(7)); standbys != "" && standbys != "0" && l.durability != "off" && l.durability != "local" {
		if _, err := l.query(confirmEntry, l.d.opts.Namespace, l.d.opts.Name, jobID); err != nil {
			return nil, err
		}
	}
	e := &db.Entry{JobID: jobID, Status: string(rows.first(1)), Runner: string(rows.first(5))}
	var errs [5]error
	e.RequestHash, errs[0] = readBytea(rows.first(0))
	e.Answer, errs[1] = readBytea(rows.first(2))
	e.Sequence, errs[2] = strconv.ParseUint(string(rows.first(3)), 10, 64)
	nanos, err := strconv.ParseInt(string(rows.first(4)), 10, 64)
	e.Timestamp, errs[3] = time.Unix(0, nanos).UTC(), err
	e.RecordedAt, errs[4] = time.Parse(time.RFC3339Nano, string(rows.first(6)))
	return e, errors.Join(errs[:]...)
}

func readBytea(text []byte) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	out := make([]byte, hex.DecodedLen(len(text)))
	_, err := hex.Decode(out, text)
	return out, err
}

// Sweep deletes at most limit ledger rows that were recorded earlier than before, the oldest first, and leaves
// out those that others hold.
func (d *Database) Sweep(ctx context.Context, before time.Time, limit int) (deleted int, err error) {
	err = d.own(ctx, db.ClassLost, func(l *lease) error {
		_, n, err := l.queryTag(sweepEntries, l.d.opts.Namespace, l.d.opts.Name,
			before.UTC().Format(time.RFC3339Nano), strconv.Itoa(limit))
		deleted = int(n)
		return err
	})
	return deleted, err
}

// Now is the server's clock.
func (d *Database) Now(ctx context.Context) (now time.Time, err error) {
	err = d.own(ctx, db.ClassLost, func(l *lease) error {
		rows, err := l.query(`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', ` + timeFormat + `)`)
		if err != nil {
			return err
		}
		now, err = time.Parse(time.RFC3339Nano, string(rows.first(0)))
		return err
	})
	return now, err
}

// own runs queries of ours, each a transaction of its own. lost is what a lost link means for them.
func (d *Database) own(ctx context.Context, lost db.Class, run func(l *lease) error) error {
	l, err := d.begin(ctx, &db.Call{Timeout: ownTimeout + d.opts.Limits.LockTimeout}, db.RowOptions{})
	if err != nil {
		return err
	}
	defer l.done()
	err = run(l)
	l.over = true
	if err == nil {
		return nil
	}
	e := engine.NotEncoded(l.ownError(ctx, err))
	if l.dead && lost == db.ClassUnknown { // the session ended: its last word says nothing of what it had committed
		e.Class = lost
	}
	return noWrites(e)
}

// noWrites knows a server that takes no writes at all by what it says to a statement of ours.
func noWrites(e *db.Error) *db.Error {
	if e.EngineCode == "25006" {
		e.Class, e.Code = db.ClassUnavailable, contract.CodeUnavailable
		e.Message = "the server accepts no writes: it is a standby or read-only"
	}
	return e
}
