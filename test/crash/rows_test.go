package crash

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// manyRows is how many rows the job of these tests returns, of a kilobyte each.
const manyRows = 20_000

// slowRows is a job with one effect and rows that have no room in its result; in the middle of them the database waits.
func slowRows(id, name string, seconds int) string {
	read := fmt.Sprintf("SELECT n, repeat('x', 1000) AS text, CASE WHEN n = %d THEN pg_sleep(%d)::text END AS pause FROM generate_series(1, %d) AS n",
		manyRows/2, seconds, manyRows)
	return fmt.Sprintf(`{"id":%q,"format":"csv","statements":[{"sql":"INSERT INTO effects (name) VALUES ('%s')"},{"sql":%q}]}`, id, name, read)
}

type rowsObject struct {
	Bucket, Name, Digest string
	RowCount             int `json:"row_count"`
}

// rowsOf is where the rows of a job are.
func (w *world) rowsOf(id string) rowsObject {
	w.t.Helper()
	require.Equal(w.t, "succeeded", w.stored(id).Status)
	var answer struct {
		Statements []struct {
			Object *rowsObject `json:"rows_object"`
		}
	}
	require.NoError(w.t, json.Unmarshal(w.lookup(id), &answer))
	require.Len(w.t, answer.Statements, 2)
	require.NotNil(w.t, answer.Statements[1].Object)
	return *answer.Statements[1].Object
}

// checkRows reads the rows of a job as any client does, which verifies their digest.
func (w *world) checkRows(id string) {
	w.t.Helper()
	o := w.rowsOf(id)
	bucket, err := w.js.ObjectStore(w.t.Context(), o.Bucket)
	require.NoError(w.t, err)
	info, err := bucket.GetInfo(w.t.Context(), o.Name)
	require.NoError(w.t, err)
	require.Equal(w.t, o.Digest, info.Digest)
	rows, err := bucket.GetBytes(w.t.Context(), o.Name)
	require.NoError(w.t, err)
	require.Equal(w.t, manyRows, o.RowCount)
	require.Equal(w.t, manyRows+1, bytes.Count(rows, []byte("\r\n")))
}

// objects lists the complete objects, and those of which there are only chunks.
func (w *world) objects() (complete, chunks int) {
	w.t.Helper()
	stream, err := w.js.Stream(w.t.Context(), "OBJ_DBRUNNER_ROWS")
	require.NoError(w.t, err)
	info, err := stream.Info(w.t.Context(), jetstream.WithSubjectFilter(">"))
	require.NoError(w.t, err)
	for subject := range info.State.Subjects {
		if strings.Contains(subject, ".M.") {
			complete++
		} else {
			chunks++
		}
	}
	return complete, chunks - complete
}

// halfStored waits until a part of the rows is in the store.
func (w *world) halfStored() {
	w.t.Helper()
	require.Eventually(w.t, func() bool {
		stream, err := w.js.Stream(w.t.Context(), "OBJ_DBRUNNER_ROWS")
		return err == nil && stream.CachedInfo().State.Msgs > 50
	}, testTimeout, 5*time.Millisecond)
}

func TestKilledWhileRowsAreStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first")
	w.serving()
	w.publish("transaction", slowRows("a1", "a", 3))
	w.halfStored()
	first.kill()
	require.Nil(t, w.lookup("a1"))
	complete, _ := w.objects()
	require.Zero(t, complete, "no part is visible")
	w.start("second")
	w.checkRows("a1")
	require.Equal(t, 1, w.effects("a"))
	complete, left := w.objects()
	require.Equal(t, 1, complete)
	require.Equal(t, 1, left, "what the first one left is unreferenced until it is cleaned up")
}

// The rows of a commit whose result was not stored are those that the ledger names, and stay.
func TestKilledBetweenRowsAndTheirResult(t *testing.T) {
	t.Parallel()
	for _, place := range []string{"after_commit", "before_store", "after_store"} {
		t.Run(place, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			first := w.start("first", "DBRUNNER_CRASH_AT="+place)
			w.serving()
			w.publish("transaction", slowRows("a1", "a", 0))
			first.died()
			w.start("second")
			w.checkRows("a1")
			w.drained()
			require.Equal(t, 1, w.effects("a"))
			complete, left := w.objects()
			require.Equal(t, []int{1, 0}, []int{complete, left}, "the rows are stored once")
		})
	}
}

// A runner that is stopped for longer than its lease wakes up when another one has stored the rows: its own are removed.
func TestFrozenWhileRowsAreStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first")
	w.serving()
	w.publish("transaction", slowRows("a1", "a", 2))
	w.halfStored()
	first.freeze()
	w.start("second")
	w.checkRows("a1")
	named := w.rowsOf("a1")
	first.thaw()
	require.Eventually(t, func() bool {
		complete, left := w.objects()
		return complete == 1 && left == 0
	}, testTimeout, 50*time.Millisecond)
	require.Equal(t, named, w.rowsOf("a1"))
	w.checkRows("a1")
	require.Equal(t, 1, w.effects("a"))
}

// The server of the store goes in the middle, and comes back.
func TestStoreRestartsWhileRowsAreStored(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.start("first")
	w.serving()
	w.publish("transaction", slowRows("a1", "a", 2))
	w.halfStored()
	w.node.Restart()
	w.checkRows("a1")
	w.drained()
	require.Equal(t, 1, w.effects("a"))
	complete, _ := w.objects()
	require.Equal(t, 1, complete)
}

// A runner dies when the rows of a batch are written and not committed: the next one reads them again.
func TestKilledInABatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.start("first")
	w.serving()
	var bucket jetstream.ObjectStore
	require.Eventually(t, func() bool {
		var err error
		bucket, err = w.js.ObjectStore(t.Context(), "DBRUNNER_PARAMS")
		return err == nil
	}, testTimeout, 20*time.Millisecond)
	info, err := bucket.PutBytes(t.Context(), "rows", bytes.Repeat([]byte("[\"a\"]\n"), manyRows))
	require.NoError(t, err)
	w.publish("transaction", fmt.Sprintf(`{"id":"a1","statements":[
		{"sql":"INSERT INTO effects (name) VALUES ($1)","params_from":{"name":"rows","digest":%q},"expect_rows":%d},{"sql":"SELECT pg_sleep(2)::text AS n"}]}`,
		info.Digest, manyRows))
	w.sleeping("pg_sleep(2)")
	first.kill()
	require.Zero(t, w.effects("a"))
	w.start("second")
	require.Equal(t, "succeeded", w.stored("a1").Status)
	require.Equal(t, manyRows, w.effects("a"))
}
