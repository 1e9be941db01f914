package bustest

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/report"
)

// RaceWriters stores n results by several concurrent writers, and checks that each has exactly one winner, whose
// bytes are the stored ones.
func RaceWriters(t *testing.T, conns []*bus.Conn, n, writers int) {
	t.Helper()
	type write struct {
		body    string
		verdict report.StoreVerdict
		err     error
	}
	all := make([][]write, n)
	var wg sync.WaitGroup
	bound := make(chan struct{}, 200)
	for i := range n {
		all[i] = make([]write, writers)
		for w := range writers {
			bound <- struct{}{}
			wg.Go(func() {
				defer func() { <-bound }()
				body := fmt.Sprintf("%d by %d", i, w)
				verdict, err := results.Of(conns[w%len(conns)], Database).Store(t.Context(), fmt.Sprintf("job%d", i), []byte(body))
				all[i][w] = write{body, verdict, err}
			})
		}
	}
	wg.Wait()
	for i, writes := range all {
		stored, err := results.Of(conns[0], Database).StoredResult(t.Context(), fmt.Sprintf("job%d", i))
		require.NoError(t, err)
		winners := 0
		for _, w := range writes {
			require.NoError(t, w.err)
			if w.verdict == report.Stored {
				winners++
				require.Equal(t, w.body, string(stored), "job %d: the winner's bytes are not the stored ones", i)
			} else {
				require.Equal(t, report.Taken, w.verdict)
			}
		}
		// A writer whose answer was lost finds its own message and gets Taken.
		require.LessOrEqual(t, winners, 1, "job %d has two winners", i)
		require.NotEmpty(t, stored)
	}
}
