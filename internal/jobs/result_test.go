package jobs

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// drawResult draws any result, also with texts that are no UTF-8.
func drawResult(t *rapid.T) *contract.Result {
	r := &contract.Result{
		JobID: rapid.StringMatching(`[A-Za-z0-9_-]{1,120}`).Draw(t, "id"), Kind: drawKind(t), Database: "shop",
		Effect:     rapid.SampledFrom([]contract.Effect{"", contract.ReadOnly, contract.ExactlyOnce}).Draw(t, "effect"),
		Status:     rapid.SampledFrom([]contract.Status{contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown}).Draw(t, "status"),
		Hash:       rapid.SampledFrom([][]byte{nil, []byte("0123456789abcdef0123456789abcdef")}).Draw(t, "hash"),
		Sequence:   rapid.Uint64().Draw(t, "sequence"),
		Deliveries: rapid.Uint64().Draw(t, "deliveries"), Attempts: rapid.Uint64().Draw(t, "attempts"),
		Runner: text().Draw(t, "runner"), QueuedAt: drawTime(t, "queued"), FinishedAt: drawTime(t, "finished"),
		Labels: rapid.MapOfN(text(), rapid.String(), 0, 3).Draw(t, "labels"),
	}
	if rapid.Bool().Draw(t, "started") {
		r.StartedAt = drawTime(t, "started")
	}
	if rapid.Bool().Draw(t, "failed") {
		r.Error = &contract.Error{
			Code: contract.Code(identifier().Draw(t, "code")), Message: string(rapid.SliceOf(rapid.Byte()).Draw(t, "message")),
			EngineCode: rapid.SampledFrom([]string{"", "40001"}).Draw(t, "engine"), Retryable: rapid.Bool().Draw(t, "again"),
			Faults: rapid.SliceOfN(rapid.Custom(func(t *rapid.T) contract.Fault {
				return contract.Fault{Path: text().Draw(t, "path"), Code: contract.CodeInvalidValue, Message: rapid.String().Draw(t, "message")}
			}), 0, 3).Draw(t, "faults"),
		}
	} else {
		set := db.ResultSet{
			Columns: []contract.Column{{Name: rapid.String().Draw(t, "column"), Type: "json"}},
			Rows:    []byte(`[[{"job_id":"no","error":{"code":"no"},"x":"\u0000\ud800` + strings.Repeat("y", 2000) + `"}]]`), RowCount: 1,
		}
		r.Set = rowsOf(&set)
	}
	return r
}

func drawTime(t *rapid.T, label string) time.Time {
	return time.Unix(rapid.Int64Range(0, 1<<33).Draw(t, label), rapid.Int64Range(0, 999_999_999).Draw(t, label+" ns")).UTC()
}

// TestResultReadsBack: what is appended is JSON, its head reads back exactly, and a mark changes the mark only.
func TestResultReadsBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := drawResult(t)
		body := r.Append([]byte("kept"))[4:]
		var generic map[string]any
		require.NoError(t, json.Unmarshal(body, &generic), "%s", body)
		want := contract.Head{
			JobID: r.JobID, Kind: r.Kind, Database: r.Database, Effect: r.Effect, Status: r.Status, Hash: r.Hash,
			Sequence: r.Sequence, QueuedAt: r.QueuedAt,
		}
		if r.Error != nil {
			want.ErrorCode = string(r.Error.Code)
		}
		head, err := contract.ReadHead(body)
		require.NoError(t, err)
		require.Equal(t, want, head)
		require.True(t, head.SameMessage(r.Sequence, r.QueuedAt.Local()))
		require.False(t, head.SameMessage(r.Sequence, r.QueuedAt.Add(1)))

		marked := contract.MarkDuplicate(body)
		require.Equal(t, body, r.Append(nil), "the argument is not changed")
		var again map[string]any
		require.NoError(t, json.Unmarshal(marked, &again))
		require.Equal(t, true, again["duplicate"])
		delete(again, "duplicate")
		require.Equal(t, generic, again)
		require.Equal(t, marked, contract.MarkDuplicate(marked))
	})
}

// TestReadResultOfAnotherMake: other orders of the keys and other blanks are read too, and marked.
func TestReadResultOfAnotherMake(t *testing.T) {
	t.Parallel()
	foreign := ` { "error" : {"message":"x","code":"timeout","faults":[{"code":"no"}]}, "queued_at":"2026-03-01T13:00:00.5+01:00",
		"rows":[{"status":"no"}], "sequence": 7, "status":"failed","database":"shop","kind":"query","job_id":"a","request_hash":"00ff",
		"later":{"code":"no"}, "deep":` + deep + `}`
	head, err := contract.ReadHead([]byte(foreign))
	require.NoError(t, err)
	require.Equal(t, contract.Head{
		JobID: "a", Kind: "query", Database: "shop", Status: contract.Failed, Hash: []byte{0, 255}, Sequence: 7,
		QueuedAt: head.QueuedAt, ErrorCode: "timeout",
	}, head)
	require.True(t, head.SameMessage(7, time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC)))
	marked, err := contract.ReadHead(contract.MarkDuplicate([]byte(foreign)))
	require.NoError(t, err)
	require.True(t, marked.Duplicate)
}

// deep is nested more deeply than any job may be: a result holds what a database gave.
var deep = strings.Repeat("[", 500) + strings.Repeat("]", 500)

func TestReadResultRefuses(t *testing.T) {
	t.Parallel()
	r := contract.Result{JobID: "a", Kind: "query", Database: "shop", Status: contract.Succeeded, Hash: make([]byte, 32), Sequence: 1, QueuedAt: testTime}
	good := string(r.Append(nil))
	_, err := contract.ReadHead([]byte(good))
	require.NoError(t, err)
	for _, c := range [][2]string{
		{good, ""},
		{good, "[]"},
		{good, "null"},
		{good, "{}"},
		{"}", ""},
		{"}", "}}"},
		{`"job_id":"a"`, `"job_id":1`},
		{`"job_id":"a",`, ``},
		{`"job_id":"a"`, `"job_id":"a","job_id":"b"`},
		{`"sequence":1`, `"sequence":-1`},
		{`"sequence":1`, `"sequence":"x"`},
		{`"sequence":1`, `"sequence":{}`},
		{`"queued_at":"2026`, `"queued_at":"x`},
		{`"status":"succeeded"`, `"status":""`},
		{hex.EncodeToString(r.Hash), "0g"},
	} {
		body := strings.Replace(good, c[0], c[1], 1)
		_, err := contract.ReadHead([]byte(body))
		require.Error(t, err, body)
		if !strings.HasPrefix(body, `{"version":1,`) {
			require.Equal(t, body, string(contract.MarkDuplicate([]byte(body))))
		}
	}
}
