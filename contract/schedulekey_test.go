package contract_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

// TestScheduleKeys: a key is the subject of its jobs and a name, and everything else is refused.
func TestScheduleKeys(t *testing.T) {
	t.Parallel()
	s := contract.Subjects{Namespace: "dbrunner"}
	for key, subject := range map[string]string{
		"jobs.shop.query.nightly":             "dbrunner.jobs.shop.query",
		"jobs.shop.migration.up":              "dbrunner.jobs.shop.migration",
		"jobs.shop.call.pay.monthly":          "dbrunner.jobs.shop.call.pay",
		"queues.shop.bulk.transaction.close":  "dbrunner.queues.shop.bulk.transaction",
		"queues.shop.bulk.call.pay.monthly":   "dbrunner.queues.shop.bulk.call.pay",
		"queues.jobs.jobs.query.queues":       "dbrunner.queues.jobs.jobs.query",
		"jobs.schedule.call.schedule.nightly": "dbrunner.jobs.schedule.call.schedule",
	} {
		k, err := contract.ParseScheduleKey(key)
		require.NoError(t, err, key)
		require.Equal(t, key, k.String())
		require.Equal(t, subject, k.Subject(s))
		pause := contract.PauseTarget{Database: k.Database, Schedule: key}
		read, known := contract.ParsePauseKey(contract.PauseKey(pause))
		require.True(t, known, key)
		require.Equal(t, pause, read)
		of, ok := s.SplitJob(subject)
		require.True(t, ok, key)
		require.Equal(t, contract.JobSubject{Database: k.Database, Queue: k.Queue, Kind: k.Kind, Name: k.Call}, of)
	}
	for key, says := range map[string]string{
		"": "write jobs.", "jobs": "write jobs.", "jobs.shop.query": "write jobs.", "other.shop.query.x": "write jobs.", "jobs.shop.query.a.b": "write jobs.",
		"queues.shop.bulk.query": "write jobs.", "queues.shop.bulk": "write jobs.", "jobs.shop.call.pay": "write jobs.", "jobs.shop.call.pay.a.b": "write jobs.",
		"queues.shop.bulk.call.pay": "write jobs.", "queues.shop.Bulk.query.x": "the queue is not", "queues.shop..query.x": "the queue is not",
		"jobs.sh op.query.x": "the database is not", "jobs.shop.query.X": "the names of schedules", "jobs.shop.call.Pay.x": "the names of schedules",
		"jobs.shop.call..x": "write jobs.", "queues.shop.bulk.migration.x": "write jobs.shop.migration.x", "queues.shop.bulk.health.x": "queues take no jobs",
		"jobs.shop.approve.x": "dry runs and approvals", "jobs.shop.dry_run.pay.x": "dry runs and approvals", "queues.shop.bulk.approve.x": "dry runs and approvals", "jobs.shop.>.x": "the kind is not",
	} {
		_, err := contract.ParseScheduleKey(key)
		require.ErrorContains(t, err, says, key)
	}
}
