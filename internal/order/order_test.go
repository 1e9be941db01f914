package order_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/order"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	own := order.Position{Sequence: 7, Stored: time.Unix(70, 0)}
	of := func(sequence uint64, stored int64) *order.Position {
		return &order.Position{Sequence: sequence, Stored: time.Unix(stored, 0)}
	}
	require.Equal(t, order.Mine, order.Judge(own, of(7, 70)))
	require.Equal(t, order.Earlier, order.Judge(own, of(6, 60)))
	require.Equal(t, order.Gone, order.Judge(own, nil))
	require.Equal(t, order.Gone, order.Judge(own, of(8, 80)))
	require.Equal(t, order.Gone, order.Judge(own, of(7, 71)), "another message has its sequence: the stream was recreated")
}

func TestStaysAndReleases(t *testing.T) {
	t.Parallel()
	own := order.Position{Sequence: 7, Stored: time.Unix(70, 0)}
	for status, stays := range map[contract.Status]bool{
		contract.Succeeded: false, contract.Canceled: false, contract.Failed: true, contract.Rejected: true, contract.Expired: true, contract.Unknown: true,
	} {
		require.Equal(t, stays, order.Stays(status), status)
	}
	require.False(t, order.Releases(nil, own))
	require.True(t, order.Releases(&own, own))
	require.False(t, order.Releases(&order.Position{Sequence: 7, Stored: time.Unix(71, 0)}, own))
	require.False(t, order.Releases(&order.Position{Sequence: 8, Stored: time.Unix(70, 0)}, own))
}
