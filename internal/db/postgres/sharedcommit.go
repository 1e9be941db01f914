package postgres

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"dbrunner/internal/crash"
	"dbrunner/internal/db"
	"dbrunner/internal/db/sharing"
)

// sharedName is the name of fenceEntries in a session. It is looked at right before it is used: see lastChecked.
const sharedName = "dbr_shared"

// fenceEntries is the fence of a group: it writes the rows in the order of the lists, and fails unless each of them is there.
const fenceEntries = `WITH fence AS (INSERT INTO dbrunner.ledger
	(namespace, database_name, job_id, request_hash, status, answer, sequence, message_time, runner)
	SELECT $1, $2, r.job_id, r.request_hash, r.status, r.answer, r.sequence, r.message_time,
		CASE WHEN pg_catalog.set_config('synchronous_commit', $10, true) IS NOT NULL THEN $9::pg_catalog.text END
	FROM unnest($3::pg_catalog.text[], $4::pg_catalog.bytea[], $5::pg_catalog.text[], $6::pg_catalog.bytea[], $7::pg_catalog.int8[], $8::pg_catalog.int8[])
		AS r (job_id, request_hash, status, answer, sequence, message_time)
	RETURNING tableoid, namespace, database_name, job_id)
	SELECT pg_catalog.int8div(1, (pg_catalog.count(*) OPERATOR(pg_catalog.=) pg_catalog.cardinality($3))::pg_catalog.int4) FROM fence
	WHERE namespace OPERATOR(pg_catalog.=) $1 AND database_name OPERATOR(pg_catalog.=) $2 AND job_id OPERATOR(pg_catalog.=) ANY ($3)`

// commitAll commits the good transactions, and finishes them unless it is certain that nothing was committed.
func (t *sharedCommit) commitAll(ctx context.Context) {
	crash.At("shared_sealed")
	err := t.commitGroup(ctx)
	t.fence = false // the unnamed statement is the group's
	if err == nil {
		crash.At("shared_committed")
	}
	for _, p := range t.good {
		switch {
		case err == nil:
			p.Finish(p.out.sets, nil)
		case db.ClassOf(err) == db.ClassUnknown:
			p.free()
			p.Finish(nil, err)
		default:
			p.free()
		}
	}
}

// commitGroup writes the ledger rows and commits, in one write: the savepoints are given back, which shows that each of them is still
// there, and the session is looked at; then come the rows, in the order of their keys, and COMMIT.
func (t *sharedCommit) commitGroup(ctx context.Context) error {
	members := make([]*sharing.Member, 0, len(t.good))
	for _, p := range t.good {
		members = append(members, p.Member)
	}
	entries := sharing.Entries(members)
	t.buf, t.unconfirmed, t.insertEnd, t.commitEnd = t.buf[:0], false, segmentEnd{}, segmentEnd{}
	t.buf = appendSimple(t.buf, t.lastCommands())
	if len(entries) > 0 {
		if !t.shared {
			t.buf = appendParse(t.buf, sharedName, fenceEntries, nil)
		}
		t.buf = appendExecute(t.appendEntries(t.buf, entries))
	}
	t.buf = append(t.buf, t.ends.commit...)
	sentAt := len(t.buf) // what comes before it has reached the server may have committed
	t.buf = append(appendSync(t.buf), t.ends.clean.simple...)
	if n, err := t.write(); err != nil {
		return t.cutCommit(ctx, n, sentAt, err)
	}
	ends := []*segmentEnd{&t.commitEnd}
	if len(entries) > 0 {
		ends = []*segmentEnd{&t.insertEnd, &t.commitEnd}
	}
	var checked segmentEnd
	err := t.await(ctx, &checked)
	if err == nil {
		err = t.await(ctx, ends...)
	}
	if err != nil {
		return t.lostCommit(ctx, sentAt, err)
	}
	t.flushed()
	t.pending++
	switch {
	case checked.failed != nil: // not all is as it was left; nothing was committed
		t.retire = true
	case len(entries) > 0 && !t.shared:
		t.shared = true
		t.statement.have++
	}
	return t.committed(ctx, len(entries) > 0)
}

// lastCommands are those before the ledger rows.
func (t *sharedCommit) lastCommands() string {
	var b strings.Builder
	for _, name := range slices.Backward(t.open) {
		b.WriteString("RELEASE SAVEPOINT " + name + "; ")
	}
	b.WriteString(lastChecked(t.statement.have, t.lock))
	b.WriteString("; SET LOCAL lock_timeout = '" + ledgerWait + "'")
	return b.String()
}

// appendEntries binds ledger rows to fenceEntries.
func (t *sharedCommit) appendEntries(b []byte, entries []*db.Entry) []byte {
	b, at := beginMessage(b, 'B')
	b = appendText(append(b, 0), sharedName)
	b = append(b, 0, 1, 0, 1, 0, 10) // one format for all: binary; ten arguments
	b = appendTextArg(b, t.d.opts.Namespace)
	b = appendTextArg(b, t.d.opts.Name)
	b = appendList(b, oidText, entries, func(b []byte, e *db.Entry) []byte { return appendTextArg(b, e.JobID) })
	b = appendList(b, oidBytea, entries, func(b []byte, e *db.Entry) []byte { return appendBytesArg(b, e.RequestHash) })
	b = appendList(b, oidText, entries, func(b []byte, e *db.Entry) []byte { return appendTextArg(b, e.Status) })
	b = appendList(b, oidBytea, entries, func(b []byte, e *db.Entry) []byte { return appendBytesArg(b, e.Answer) })
	b = appendList(b, oidInt8, entries, func(b []byte, e *db.Entry) []byte { return appendInt8Arg(b, int64(e.Sequence)) })
	b = appendList(b, oidInt8, entries, func(b []byte, e *db.Entry) []byte { return appendInt8Arg(b, e.Timestamp.UnixNano()) })
	b = appendTextArg(b, entries[0].Runner)
	b = appendTextArg(b, t.durability)
	return endBind(b, at)
}

// appendList appends an array of one dimension, in binary form.
func appendList(b []byte, oid uint32, entries []*db.Entry, appendOne func([]byte, *db.Entry) []byte) []byte {
	b = append(b, 0, 0, 0, 0)
	begin := len(b)
	for _, word := range []uint32{1, 1, oid, uint32(len(entries)), 1} { // dimensions, NULLs are possible, type, length, first index
		b = binary.BigEndian.AppendUint32(b, word)
	}
	for _, e := range entries {
		b = appendOne(b, e)
	}
	return endArg(b, begin)
}
