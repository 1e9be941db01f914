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
	require.False(t, target.StopsJobs(), "a paused schedule stops no jobs")
	for _, key := range []string{
		"", "pause", "pause.", "pauses.shop", "pause.shop.", "pause.a b", "pause.shop.queue.bulk", "pause.shop.schedule.jobs.other.query.nightly", "pause.shop.schedule.nightly",
		"resume.shop.feed", "schedule.jobs.shop.query.nightly",
	} {
		_, ok := contract.ParsePauseKey(key)
		require.False(t, ok, key)
	}
}
