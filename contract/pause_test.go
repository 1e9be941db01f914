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
	for _, key := range []string{
		"", "pause", "pause.", "pauses.shop", "pause.shop.", "pause.a b", "pause.shop.queue.bulk", "pause.shop.schedule.jobs.shop.query.nightly",
		"resume.shop.feed", "schedule.jobs.shop.query.nightly",
	} {
		_, ok := contract.ParsePauseKey(key)
		require.False(t, ok, key)
	}
}
