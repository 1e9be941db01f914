package dbtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

func testLedger(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Record":     testRecord,
		"Lookup":     testLookup,
		"Sweep":      testSweep,
		"Blank":      testBlankEntry,
		"Waits":      testRecordWaits,
		"Supersedes": testSupersedes,
		"Now": func(t *testing.T, h Harness) {
			b := setup(t, h)
			now, err := b.db.Now(t.Context())
			require.NoError(t, err)
			require.WithinDuration(t, time.Now(), now, time.Minute)
		},
	})
}

func testRecord(t *testing.T, h Harness) {
	b := setup(t, h)
	row, inserted, err := b.db.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	require.True(t, inserted)
	requireEntry(t, entry("job"), row)

	second := entry("job")
	second.Status, second.Answer, second.Sequence = "failed", []byte(`{}`), 99
	row, inserted, err = b.db.Record(t.Context(), second)
	require.NoError(t, err)
	require.False(t, inserted)
	requireEntry(t, entry("job"), row)

	_, err = b.transact(sealed("job"), b.item(1, "a"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
	require.Equal(t, 0, b.count("item"))
}

func testLookup(t *testing.T, h Harness) {
	b := setup(t, h)
	row, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.Nil(t, row)
	_, err = b.transact(sealed("job"), b.item(1, "a"))
	require.NoError(t, err)
	row, err = b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	requireEntry(t, entry("job"), row)
	now, err := b.db.Now(t.Context())
	require.NoError(t, err)
	require.WithinDuration(t, now, row.RecordedAt, time.Minute)

	_, err = b.transact(func(ctx context.Context, _ []db.ResultSet) (*db.Entry, error) {
		row, err := b.db.Lookup(ctx, "other")
		require.NoError(t, err)
		require.Nil(t, row, "does not wait for a transaction under way")
		return entry("other"), nil
	}, b.item(2, "b"))
	require.NoError(t, err)
}

// requireEntry compares all but the time at which the server took it.
func requireEntry(t testing.TB, want, got *db.Entry) {
	t.Helper()
	require.NotNil(t, got)
	require.False(t, got.RecordedAt.IsZero())
	require.True(t, got.Timestamp.Equal(want.Timestamp), "%v is not %v to the nanosecond", got.Timestamp, want.Timestamp)
	require.True(t, got.SameMessage(want.Sequence, want.Timestamp))
	w, g := *want, *got
	w.RecordedAt, g.RecordedAt, w.Timestamp, g.Timestamp = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	require.Equal(t, w, g)
}

// testBlankEntry records what could not be decoded: no hash, an empty answer, the largest numbers.
func testBlankEntry(t *testing.T, h Harness) {
	b := setup(t, h)
	e := &db.Entry{
		JobID: "s1_0", Status: "rejected", Answer: []byte("{}"), Sequence: 1<<63 - 1,
		Timestamp: time.Unix(0, 1).UTC(), Runner: "r",
	}
	_, inserted, err := b.db.Record(t.Context(), e)
	require.NoError(t, err)
	require.True(t, inserted)
	row, err := b.db.Lookup(t.Context(), "s1_0")
	require.NoError(t, err)
	require.Empty(t, row.RequestHash)
	require.False(t, row.SameRequest(row.RequestHash), "no hash equals nothing")
	row.RequestHash = nil
	requireEntry(t, e, row)

	large := entry("large")
	large.Answer = make([]byte, 0, 1<<20)
	for len(large.Answer) < 1<<20-4 {
		large.Answer = append(large.Answer, "ü🦆"...)
	}
	_, _, err = b.db.Record(t.Context(), large)
	require.NoError(t, err)
	row, err = b.db.Lookup(t.Context(), "large")
	require.NoError(t, err)
	requireEntry(t, large, row)
}

func testSweep(t *testing.T, h Harness) {
	b := setup(t, h)
	other := b.second(func(o *db.Options) { o.Name += "x" })
	for _, id := range []string{"a", "b", "c"} {
		_, _, err := b.db.Record(t.Context(), entry(id))
		require.NoError(t, err)
	}
	_, _, err := other.Record(t.Context(), entry("theirs"))
	require.NoError(t, err)

	sweep := func(before time.Time, limit, want int) {
		t.Helper()
		n, err := b.db.Sweep(t.Context(), before, limit)
		require.NoError(t, err)
		require.Equal(t, want, n)
	}
	later := time.Now().Add(time.Hour)
	sweep(time.Now().Add(-time.Hour), 10, 0)
	sweep(later, 2, 2)
	sweep(later, 2, 1)
	sweep(later, 2, 0)
	row, err := other.Lookup(t.Context(), "theirs")
	require.NoError(t, err)
	require.NotNil(t, row, "the rows of another database stay")
}

// testRecordWaits records while a transaction that will insert the same key is open: the one that comes first,
// both ends agree.
func testRecordWaits(t *testing.T, h Harness) {
	b := setup(t, h)
	other := b.second()
	inSeal, goOn := make(chan struct{}), make(chan struct{})
	effect := make(chan error, 1)
	insert := b.item(1, "a")
	go func() {
		_, err := b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
			close(inSeal)
			<-goOn
			return entry("job"), nil
		}, insert)
		effect <- err
	}()
	await(t, inSeal, "the seal")
	type end struct {
		inserted bool
		err      error
	}
	recorded := make(chan end, 1)
	go func() {
		_, inserted, err := other.Record(t.Context(), entry("job"))
		recorded <- end{inserted, err}
	}()
	close(goOn)
	err, r := await(t, effect, "the transaction"), await(t, recorded, "the record")
	require.NoError(t, r.err)
	if r.inserted {
		require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "%v", err)
		require.Equal(t, 0, b.count("item"))
		return
	}
	require.NoError(t, err)
	require.Equal(t, 1, b.count("item"))
}

// testSupersedes writes rows over those of earlier jobs with their ids, and over no others.
func testSupersedes(t *testing.T, h Harness) {
	b := setup(t, h)
	_, _, err := b.db.Record(t.Context(), entry("job"))
	require.NoError(t, err)
	old, err := b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	superseding := func(before time.Time, sequence uint64) *db.Entry {
		e := entry("job")
		e.Sequence, e.Status, e.Supersedes = sequence, "failed", before
		return e
	}
	seal := func(e *db.Entry) db.BeforeCommit {
		return func(context.Context, []db.ResultSet) (*db.Entry, error) { return e, nil }
	}
	_, err = b.transact(seal(superseding(old.RecordedAt, 7)), b.item(1, "a"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "the row is as young as that: %v", err)
	row, inserted, err := b.db.Record(t.Context(), superseding(old.RecordedAt, 7))
	require.NoError(t, err)
	require.False(t, inserted)
	requireEntry(t, entry("job"), row)

	after := old.RecordedAt.Add(time.Millisecond)
	_, err = b.transact(seal(superseding(after, 9)), b.item(1, "a"))
	require.NoError(t, err)
	require.Equal(t, 1, b.count("item"))
	row, err = b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.EqualValues(t, 9, row.Sequence)
	require.False(t, row.RecordedAt.Before(old.RecordedAt), "it counts from now on")
	_, err = b.transact(sealed("next"), b.item(2, "b"))
	require.NoError(t, err, "the session goes on")
	_, err = b.transact(sealed("next"), b.item(3, "c"))
	require.Equal(t, db.ClassAlreadyRecorded, db.ClassOf(err), "and so does its fence: %v", err)

	first := superseding(row.RecordedAt.Add(time.Millisecond), 10)
	_, inserted, err = b.db.Record(t.Context(), first)
	require.NoError(t, err)
	require.True(t, inserted)
	row, err = b.db.Lookup(t.Context(), "job")
	require.NoError(t, err)
	require.EqualValues(t, 10, row.Sequence)
	fresh := superseding(time.Unix(0, 0), 11)
	fresh.JobID = "fresh"
	_, inserted, err = b.db.Record(t.Context(), fresh)
	require.NoError(t, err)
	require.True(t, inserted, "there is nothing to supersede")
}
