package delivery_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/delivery"
)

// storedBy gives a message the header.
func storedBy(d *delivery.Delivery, times ...string) *delivery.Delivery {
	d.Headers = map[string][]string{contract.HeaderStoredBy: times}
	return d
}

// TestMessagesStoredLate states that a message stored after its limit runs at no delivery and takes nothing of its id.
func TestMessagesStoredLate(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]func(d *delivery.Delivery) []string{
		"a nanosecond": func(d *delivery.Delivery) []string { return []string{d.Timestamp.Add(-1).Format(time.RFC3339Nano)} },
		"a zone": func(d *delivery.Delivery) []string {
			return []string{d.Timestamp.Add(-time.Minute).In(time.FixedZone("", 7200)).Format(time.RFC3339)}
		},
		"unreadable": func(*delivery.Delivery) []string { return []string{"tomorrow"} },
		"twice": func(d *delivery.Delivery) []string {
			return []string{d.Timestamp.Add(time.Hour).Format(time.RFC3339), d.Timestamp.Add(time.Hour).Format(time.RFC3339)}
		},
	} {
		for what, body := range map[string]string{"a job": transaction("pay-1", effect("late")), "not a job": `{"id":"pay-1","nonsense":1}`, "not JSON": `{"id":"pay-1",`} {
			for _, deliveries := range []uint64{1, 2, 50} {
				s := setup(t)
				d := deliver("transaction", body, 7, deliveries)
				out := s.run(storedBy(d, limit(d)...))
				require.Equal(t, contract.Expired, out.Status, "%s, %s", name, what)
				require.Equal(t, d.DerivedID(), out.Store.Key)
				require.False(t, out.Started)
				s.settle(d, out)
				got := read(t, s.results[d.DerivedID()])
				require.Equal(t, "expired", got.Error.Code)
				require.Equal(t, d.DerivedID(), got.JobID)
				require.Len(t, s.deadLetters, 1)
				require.Equal(t, contract.ReasonStoredLate, s.deadLetters[0].Reason)
				require.Equal(t, d.DerivedID(), s.deadLetters[0].ResultID)
				require.Equal(t, "pay-1", s.deadLetters[0].JobID)
				row, err := s.database.Lookup(t.Context(), "pay-1")
				require.NoError(t, err)
				require.Nil(t, row, "the id is not taken")
				row, err = s.database.Lookup(t.Context(), d.DerivedID())
				require.NoError(t, err)
				require.Nil(t, row)

				// The runner died before the dead letter: the next delivery leaves it.
				again := deliver("transaction", body, 7, deliveries+1)
				s.deadLetters = nil
				s.settle(again, s.run(storedBy(again, limit(again)...)))
				require.Equal(t, contract.ReasonStoredLate, s.deadLetters[0].Reason)

				// The id is free for a message in time.
				in := deliver("transaction", transaction("pay-1", effect("early")), 8, 1)
				in = storedBy(in, in.Timestamp.Format(time.RFC3339Nano))
				s.settle(in, s.run(in))
				require.Equal(t, "succeeded", read(t, s.results["pay-1"]).Status)
				require.Equal(t, 1, s.count("early"))
				require.Zero(t, s.count("late"))
			}
		}
	}
}

// TestAMessageStoredInTimeWaits states that the limit is not one on the start of a job.
func TestAMessageStoredInTimeWaits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	d := deliver("transaction", transaction("pay-1", effect("in time")), 7, 3)
	out := s.run(storedBy(d, d.Timestamp.Format(time.RFC3339Nano))) // years ago by this machine's clock
	require.Equal(t, contract.Succeeded, out.Status)
	s.settle(d, out)
	require.Equal(t, 1, s.count("in time"))
}
