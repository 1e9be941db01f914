package contract_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestAuditEntriesAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 5000)
	e := &contract.AuditEntry{
		By: long, Tool: long, Reason: long, Action: contract.AuditRedrive, Database: "shop",
		Before: map[string]string{"a": long, "empty": ""}, After: map[string]string{"b": long},
	}
	for range 5000 {
		e.Targets = append(e.Targets, strings.Repeat("\x00", 5000))
	}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.FixedZone("", 3600))
	e.Complete(now)
	require.NoError(t, e.Check())
	require.Len(t, e.Targets, contract.MaxAuditTargets)
	require.Equal(t, 5000, e.Count)
	require.Equal(t, strings.Repeat("é", contract.MaxAuditText), e.Reason)
	require.NotContains(t, e.Before, "empty")
	require.Equal(t, time.UTC, e.At.Location())
	text, err := json.Marshal(e)
	require.NoError(t, err)
	require.Less(t, len(text), 250<<10, "it fits into the stream's largest message")

	e.Complete(now.Add(time.Hour))
	require.True(t, e.At.Equal(now), "an entry that is written again keeps its time")
	require.Equal(t, 5000, e.Count)
}

func TestAuditEntriesNeedASubject(t *testing.T) {
	t.Parallel()
	for _, e := range []contract.AuditEntry{
		{Action: contract.AuditPause}, {Action: contract.AuditPause, Database: "a.b"}, {Action: "a.b", Database: "shop"}, {Database: "shop"}, {},
	} {
		require.Error(t, e.Check(), "%+v", e)
	}
	require.NoError(t, (&contract.AuditEntry{Action: contract.AuditTopology}).Check())
	s := contract.Subjects{Namespace: "dbrunner"}
	require.Equal(t, "dbrunner.audit.database.shop.pause", s.Audit("shop", contract.AuditPause))
	require.Equal(t, "dbrunner.audit.fleet.topology", s.Audit("", contract.AuditTopology))
	require.Equal(t, "DBRUNNER_AUDIT", s.AuditStream())
}
