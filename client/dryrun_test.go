package client_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/contract"
)

// Promise: the jobs of dry runs and approvals are what their fields say, and only a dry run that has succeeded has an approval.
func TestDryRunsAndApprovals(t *testing.T) {
	t.Parallel()
	raw, err := (&client.DryRun{
		Database: "shop", ID: "d1", Statements: []any{map[string]any{"sql": "DELETE FROM t"}}, Options: map[string]any{"max_affected": 3},
	}).Job()
	require.NoError(t, err)
	require.Equal(t, "dry_run", raw.Kind)
	require.Empty(t, raw.Name)
	require.JSONEq(t, `{"id":"d1","max_affected":3,"statements":[{"sql":"DELETE FROM t"}]}`, string(raw.Body))
	named, err := (&client.DryRun{Database: "shop", Name: "pay", Params: map[string]any{"from": 7}}).Job()
	require.NoError(t, err)
	require.Equal(t, "pay", named.Name)
	require.JSONEq(t, `{"params":{"from":7}}`, string(named.Body))
	_, err = (&client.DryRun{Database: "shop", Name: "pay", Statements: []any{1}}).Job()
	require.ErrorContains(t, err, "not both")
	_, err = (&client.DryRun{Database: "a.b"}).Job()
	require.ErrorIs(t, err, client.ErrSubject)

	two, none := int64(2), int64(0)
	result := &client.Result{Result: contract.Result{
		JobID: "d1", Kind: "dry_run", Database: "shop", Status: contract.Succeeded, Call: &contract.Call{Name: "pay"},
		Answer: contract.Answer{EffectDigest: "sha256:1", Statements: []contract.Set{
			{RowsAffected: &two}, {RowsAffected: &none}, {RowsAffected: &two, Columns: []contract.Column{{Name: "id", Type: "int4"}}},
		}},
	}}
	require.Equal(t, []int{0}, client.WithoutReturnedRows(result))
	approval, err := client.ApprovalOf(result)
	require.NoError(t, err)
	approval.Options = map[string]any{"timeout": "5s"}
	job, err := approval.Job()
	require.NoError(t, err)
	require.Equal(t, "approve", job.Kind)
	require.Equal(t, "pay", job.Name)
	require.Equal(t, "d1_approved", job.ID)
	require.JSONEq(t, `{"id":"d1_approved","approves":"d1","expect_digest":"sha256:1","timeout":"5s"}`, string(job.Body))
	result.Status = contract.Failed
	_, err = client.ApprovalOf(result)
	require.ErrorContains(t, err, "its status is failed")
	result.Kind = "transaction"
	_, err = client.ApprovalOf(result)
	require.ErrorContains(t, err, "not a dry run")
}
