package api_test

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/api"
)

// TestAnswersAreDivided: no message is larger than the limit and its envelope, the parts are numbered, and together they have
// every job once, in order. One job that is larger than the limit still has a message of its own.
func TestAnswersAreDivided(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 2, 1000} {
		for _, limit := range []int{-1, 300, 4096, 1 << 20} {
			var jobs []contract.RunningJob
			for i := range n {
				jobs = append(jobs, contract.RunningJob{JobID: fmt.Sprintf("job-%04d", i), Kind: "query", State: contract.JobWaiting})
			}
			answer := contract.RunningAnswer{Version: 1, Runner: "r1", Process: "p", Database: "shop", InFlight: n}
			parts, err := api.EncodeRunning(&answer, jobs, limit)
			require.NoError(t, err)
			require.NotEmpty(t, parts)
			var all []contract.RunningJob
			for i, part := range parts {
				var read contract.RunningAnswer
				require.NoError(t, json.Unmarshal(part, &read))
				require.Equal(t, i+1, read.Part)
				require.Equal(t, len(parts), read.Parts)
				require.Equal(t, n, read.InFlight)
				require.NotNil(t, read.Jobs)
				if len(read.Jobs) > 1 {
					require.LessOrEqual(t, len(part), limit+4096)
				}
				all = append(all, read.Jobs...)
			}
			require.Equal(t, jobs, all)
		}
	}
}
