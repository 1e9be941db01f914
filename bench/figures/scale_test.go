package figures

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSizesAreComparedWithTheFirstOfTheirStage(t *testing.T) {
	t.Parallel()
	var r Rows
	for i := range 3 {
		r.Add("runners b", "1 runners", 500, Sample{Rate: 1000 + float64(i), Worker: 50, NATS: 50, Begin: 20e6, End: 30e6, Peak: 31e6})
		r.Add("runners b", "16 runners", 500, Sample{Rate: 900, Worker: 80, NATS: 40, Least: 90 - float64(i), Most: 110 + float64(i)})
		r.Add("replicas b", "R1", 500, Sample{Rate: 10, NATS: 5})
	}
	all := r.Scale()
	require.Len(t, all, 3)
	require.Equal(t, Scaled{
		Stage: "runners b", Size: "1 runners", Jobs: 500, Rounds: 3, CPU: 100, CPURatio: 1, Worker: 50, NATS: 50, Rate: 1001, Ratio: 1,
		Slowest: 1000, Fastest: 1002, Begin: 20, End: 30, Peak: 31,
	}, all[0])
	require.InDelta(t, 1.2, all[1].CPURatio, 0.001)
	require.InDelta(t, 0.9, all[1].Ratio, 0.001)
	require.InDelta(t, 88, all[1].Least, 0.001, "of all rounds")
	require.InDelta(t, 112, all[1].Most, 0.001)
	require.InDelta(t, 1, all[2].Ratio, 0.001, "of another stage")

	var text strings.Builder
	require.NoError(t, PrintScale(&text, all))
	require.Contains(t, text.String(), "88–112")
}
