package contract_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

// full is a result with a value in every member.
func full() *contract.Result {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	affected := int64(2)
	columns := []contract.Column{{Name: `n "ä"`, Type: "int8"}}
	object := &contract.RowsObject{
		Bucket: "B", Name: "o", Size: 3, RowCount: 4, Digest: "SHA-256=x", Format: "csv", Compression: "none",
	}
	set := contract.Set{
		Command: "INSERT 0 2", RowsAffected: &affected, Columns: columns, Rows: json.RawMessage(`[{"n \"ä\"":"1"}]`), RowCount: 1,
		More: []contract.Set{{RowsAffected: &affected, Columns: columns, Object: object, RowCount: 4}},
	}
	return &contract.Result{
		Version: 1, Duplicate: true, RowsExpired: true, JobID: "a", Kind: "query", Database: "shop", Effect: contract.ReadOnly,
		Status: contract.Failed, Hash: contract.Hash{0, 255}, Sequence: 1, Deliveries: 2, Attempts: 3, Runner: "r1", QueuedAt: at,
		StartedAt: at.Add(1), FinishedAt: at.Add(2), Labels: map[string]string{"b": "1", "a": "<&>"},
		Answer: contract.Answer{
			Engine: "postgres", Set: set, Statements: []contract.Set{set, {RowsAffected: &affected}},
			Health:    &contract.Health{Verdict: contract.Degraded, Reasons: []string{"pool: full"}},
			Migration: &contract.Migration{Action: "up", VersionBefore: "1", VersionAfter: "2", Latest: "2"},
		},
		Error: &contract.Error{
			Code: contract.CodeTimeout, Message: "too slow", EngineCode: "57014", Retryable: true,
			Faults: []contract.Fault{{Path: "sql", Code: contract.CodeSyntax, Message: "?"}},
		},
	}
}

// TestResultReadsBack: what Append writes is what the tags of the structs read, member by member.
func TestResultReadsBack(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]*contract.Result{
		"full": full(), "empty": {Version: 1}, "no rows": {Version: 1, Answer: contract.Answer{Set: contract.Set{
			Columns: []contract.Column{}, Rows: json.RawMessage(`[]`),
		}}},
	} {
		body := want.Append(nil)
		require.True(t, json.Valid(body), "%s", body)
		got, err := contract.ReadResult(body)
		require.NoError(t, err)
		require.Equal(t, want, got, name)
		again, err := json.Marshal(want)
		require.NoError(t, err)
		require.JSONEq(t, string(body), string(again))
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	r := full()
	r.Labels, r.Health, r.Migration = nil, nil, nil
	dst := make([]byte, 0, 8<<10)
	require.Zero(t, testing.AllocsPerRun(100, func() { dst = r.Append(dst[:0]) }))
}

func TestMarks(t *testing.T) {
	t.Parallel()
	r := full()
	r.Duplicate, r.RowsExpired, r.Error = false, false, nil
	body := r.Append(nil)
	marked := contract.MarkDuplicate(contract.MarkExpired(body))
	r.Duplicate, r.RowsExpired = true, true
	require.Equal(t, string(r.Append(nil)), string(marked))
	require.Equal(t, string(marked), string(contract.MarkDuplicate(marked)))
	r.Error = full().Error
	require.Equal(t, string(r.Append(nil)), string(contract.AddError(marked, r.Error)))
	require.Equal(t, string(r.Append(nil)), string(contract.AddError(r.Append(nil), &contract.Error{Code: contract.CodeInternal})))
	require.Equal(t, []contract.RowsObject{*full().More[0].Object, *full().More[0].Object}, contract.RowsObjects(body))
}

// TestHeadKeysAreMembers: what a head is read from are members of results.
func TestHeadKeysAreMembers(t *testing.T) {
	t.Parallel()
	r := full()
	head, err := contract.ReadHead(r.Append(nil))
	require.NoError(t, err)
	require.Equal(t, contract.Head{
		JobID: r.JobID, Kind: r.Kind, Database: r.Database, Effect: r.Effect, Status: r.Status, Hash: r.Hash, Sequence: r.Sequence,
		QueuedAt: r.QueuedAt, ErrorCode: string(r.Error.Code), Duplicate: true,
	}, head)
}

func TestEachRow(t *testing.T) {
	t.Parallel()
	var rows []string
	set := contract.Set{Rows: json.RawMessage(`[[1],{"a":"2"}]`)}
	require.NoError(t, set.EachRow(func(row json.RawMessage) error { rows = append(rows, string(row)); return nil }))
	require.Equal(t, []string{`[1]`, `{"a":"2"}`}, rows)
}
