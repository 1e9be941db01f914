package contract_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestPauseKeys(t *testing.T) {
	t.Parallel()
	require.Equal(t, "pause.shop", contract.PauseKey(contract.PauseTarget{Database: "shop"}))
	target, ok := contract.ParsePauseKey("pause.shop")
	require.True(t, ok)
	require.Equal(t, contract.PauseTarget{Database: "shop"}, target)
	schedule := contract.PauseTarget{Database: "shop", Schedule: "jobs.shop.query.nightly"}
	require.Equal(t, "pause.shop.schedule.jobs.shop.query.nightly", contract.PauseKey(schedule))
	target, ok = contract.ParsePauseKey(contract.PauseKey(schedule))
	require.True(t, ok)
	require.Equal(t, schedule, target)
	require.False(t, target.Stops("") || target.Stops("bulk"), "a paused schedule stops no jobs")
	bulk := contract.PauseTarget{Database: "shop", Queue: "bulk"}
	require.Equal(t, "pause.shop.queue.bulk", contract.PauseKey(bulk))
	parsed, ok := contract.ParsePauseKey("pause.shop.queue.bulk")
	require.True(t, ok)
	require.Equal(t, bulk, parsed)
	require.True(t, bulk.Stops("bulk"))
	require.False(t, bulk.Stops("") || bulk.Stops("feed"))
	for _, key := range []string{
		"", "pause", "pause.", "pauses.shop", "pause.shop.", "pause.a b", "pause.shop.queue.", "pause.shop.queue.Bulk", "pause.shop.queue.a.b", "pause..queue.bulk", "pause.shop.schedule.jobs.other.query.nightly", "pause.shop.schedule.nightly",
		"resume.shop.feed", "schedule.jobs.shop.query.nightly",
	} {
		_, ok := contract.ParsePauseKey(key)
		require.False(t, ok, key)
	}
}
