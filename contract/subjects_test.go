package contract_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestJobSubjects(t *testing.T) {
	t.Parallel()
	s := contract.Subjects{Namespace: "dbrunner"}
	for subject, of := range map[string]contract.JobSubject{
		"dbrunner.jobs.shop.query":              {Database: "shop", Kind: "query"},
		"dbrunner.jobs.shop.call.pay":           {Database: "shop", Kind: "call", Name: "pay"},
		"dbrunner.queues.shop.bulk.transaction": {Database: "shop", Queue: "bulk", Kind: "transaction"},
		"dbrunner.queues.shop.bulk.call.pay":    {Database: "shop", Queue: "bulk", Kind: "call", Name: "pay"},
		"dbrunner.jobs.queues.queues.queues":    {Database: "queues", Kind: "queues", Name: "queues"},
	} {
		got, ok := s.SplitJob(subject)
		require.True(t, ok, subject)
		require.Equal(t, of, got, subject)
		require.Equal(t, subject, s.Of(of))
	}
	for _, subject := range []string{
		"", "dbrunner", "dbrunner.jobs", "dbrunner.jobs.shop", "dbrunner.queues.shop", "dbrunner.queues.shop.bulk", "dbrunner.results.shop.query", "acme.jobs.shop.query",
	} {
		_, ok := s.SplitJob(subject)
		require.False(t, ok, subject)
	}
}

func TestQueueNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "bulk_2", "0", "_", strings.Repeat("a", 64)} {
		require.True(t, contract.ValidQueue(name), name)
	}
	for _, name := range []string{"", "Bulk", "a-b", "a.b", "a b", "ä", "*", ">", strings.Repeat("a", 65)} {
		require.False(t, contract.ValidQueue(name), name)
	}
}
