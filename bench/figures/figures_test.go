package figures

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// rounds is a bare loop and a runner, three rounds each.
func rounds() Rows {
	var r Rows
	for i, cpu := range []float64{80, 100, 90} {
		r.Add("c", "exactly_once", 2500, Sample{Rate: 1000, Worker: 2 * cpu, NATS: cpu, Peak: 30e6})
		r.Add("c", "bare", 2500, Sample{Rate: 2000 + float64(i), Worker: cpu, Postgres: 10, Peak: 20e6})
	}
	return r
}

func TestMediansAndRatiosOfTheSameRound(t *testing.T) {
	t.Parallel()
	r := rounds()
	r.Finish()
	require.Equal(t, "bare", r[0].Mode, "it comes first")
	require.InDelta(t, 100, r[0].CPU, 0.01)
	require.InDelta(t, 1, r[0].CPURatio, 0.001)
	require.InDelta(t, 90, r[0].Lowest, 0.01)
	require.InDelta(t, 110, r[0].Highest, 0.01)
	require.InDelta(t, 270, r[1].CPU, 0.01)
	require.InDelta(t, 2.7, r[1].CPURatio, 0.001, "of 240/90, 300/110 and 270/100")
	require.InDelta(t, 0.5, r[1].Ratio, 0.001)
	require.InDelta(t, 30, r[1].Peak, 0.01)
}

func TestABusyMachineIsRefused(t *testing.T) {
	t.Parallel()
	require.NoError(t, CheckLoad(MostLoad))
	require.ErrorIs(t, CheckLoad(MostLoad+0.01), ErrBusy)

	r := rounds()
	r.Finish()
	err := r.CheckSpread()
	require.ErrorIs(t, err, ErrBusy, "from 90 to 110")
	require.ErrorContains(t, err, "work c varies by 20 %")
	r = rounds()
	r[1].samples[0].Worker = 87
	r.Finish()
	require.NoError(t, r.CheckSpread(), "from 97 to 110")
	require.NoError(t, Rows{}.CheckSpread())
}

func TestRoundsInWhichTheBareLoopVariedLeastCount(t *testing.T) {
	t.Parallel()
	r := rounds()
	require.False(t, r.Quiet("c", 3), "from 90 to 110")
	require.True(t, r.Quiet("c", 2))
	r.Add("c", "exactly_once", 2500, Sample{Worker: 500})
	r.Add("c", "bare", 2500, Sample{Worker: 105})
	require.True(t, r.Quiet("c", 3), "100, 105 and 110")
	require.Len(t, r[1].samples, 4, "a question changes nothing")

	r.Keep(3)
	r.Finish()
	require.InDelta(t, 100, r[0].Lowest, 0.01)
	require.InDelta(t, 110, r[0].Highest, 0.01)
	require.InDelta(t, 500, r[1].Highest, 0.01, "what the runner needed does not count")
	require.InDelta(t, 300, r[1].CPU, 0.01, "the median of 300, 270 and 500")
	require.Equal(t, 4, r[0].Measured)
	require.NoError(t, r.CheckSpread())
}

func TestTheMachinesClock(t *testing.T) {
	t.Parallel()
	busy, all, err := parseClock("cpu  10 1 5 100 20 2 3 4 0 0\ncpu0 1 1 1 1 1 1 1 1\n")
	require.NoError(t, err)
	require.InDelta(t, 25, busy, 0, "user, nice, system, irq, softirq and what the host gives to others")
	require.InDelta(t, 145, all, 0)
	_, _, err = parseClock("intr 1")
	require.Error(t, err)
}

func TestTheTableReplacesTheOneOfThePage(t *testing.T) {
	t.Parallel()
	r := rounds()
	r.Add("a", "raw-pgx", 0, Sample{Rate: 12345})
	r.Finish()
	page := filepath.Join(t.TempDir(), "page.md")
	require.ErrorIs(t, r.Fill(page), os.ErrNotExist)
	require.NoError(t, os.WriteFile(page, []byte("# Page\n"), 0o600))
	require.ErrorContains(t, r.Fill(page), "no place for the table")
	for range 2 { // and once more over its own
		require.NoError(t, os.WriteFile(page, []byte("# Page\n\n"+tableBegin+"| old |\n"+tableEnd+"\nMore.\n"), 0o600))
		require.NoError(t, r.Fill(page))
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		require.Equal(t, "# Page\n\n"+tableBegin+
			"| work | mode | CPU µs per job | times bare | rounds | worker | NATS | PostgreSQL | jobs/s | ratio to bare | peak MB |\n"+
			"|---|---|---|---|---|---|---|---|---|---|---|\n"+
			"| a | raw-pgx | | | | | | | 12,345 | | |\n"+
			"| c | bare | 100 | 1.00 | 90–110 | 90 | | 10 | 2,001 | 1.00 | 20 |\n"+
			"| c | exactly_once | 270 | 2.70 | 240–300 | 180 | 90 | | 1,000 | 0.50 | 30 |\n"+tableEnd+"\nMore.\n", string(text))
	}
}
