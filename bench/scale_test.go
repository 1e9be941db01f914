package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/bench/figures"
)

// answerOf is the answer of a runner to job n of work b.
func answerOf(runner string, n int) *nats.Msg {
	k := works()[1]
	body := k.rows(fmt.Appendf(nil, `{"runner":%q,`, runner), n)
	return &nats.Msg{Subject: fmt.Sprintf("dbrunner.results.postgres.b1_%d", n), Data: append(body, '}')}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestSharesCountFromWhenEachRunnerHasAnswered(t *testing.T) {
	t.Parallel()
	k := works()[1]
	a := newAnswers(&k, 14, 2, 2)
	for n := range 3 {
		a.receive(answerOf("first", n))
	}
	require.False(t, isClosed(a.started), "the second runner has not answered")
	a.receive(answerOf("second", 3))
	require.True(t, isClosed(a.started))
	for n := 4; n < 14; n++ {
		runner := "first"
		if n%5 == 0 {
			runner = "second"
		}
		a.receive(answerOf(runner, n))
	}
	require.True(t, isClosed(a.ended))
	require.NoError(t, a.failure())
	least, most := a.shares()
	require.InDelta(t, 40, least, 0.1, "2 of 10, where 5 are fair")
	require.InDelta(t, 160, most, 0.1)
}

func TestABacklogThatSomeRunnersMissedIsNoMeasurement(t *testing.T) {
	t.Parallel()
	k := works()[1]
	a := newAnswers(&k, 3, 1, 2)
	for n := range 3 {
		a.receive(answerOf("first", n))
	}
	require.ErrorContains(t, a.failure(), "before each of 2 runners had one: 1 had")
	require.True(t, isClosed(a.started))
	require.True(t, isClosed(a.ended))
}

func TestAWrongAnswerEndsTheBacklogAlsoWhileItWarmsUp(t *testing.T) {
	t.Parallel()
	k := works()[1]
	for what, second := range map[string]*nats.Msg{
		"a second answer to job 0":   answerOf("first", 0),
		"an answer to job 10 of 10":  answerOf("first", 10),
		"job 1: the answer lacks":    {Subject: "dbrunner.results.postgres.b1_1", Data: answerOf("first", 2).Data},
		"an answer on subject other": {Subject: "other"},
	} {
		a := newAnswers(&k, 10, 5, 0)
		a.receive(answerOf("first", 0))
		a.receive(second)
		require.ErrorContains(t, a.failure(), what)
		require.True(t, isClosed(a.started), what)
		require.True(t, isClosed(a.ended), what)
	}
}

func TestAtAFixedRateEachJobHasOneAnswer(t *testing.T) {
	t.Parallel()
	k := works()[1]
	s := newStopwatch(2)
	s.publish(0)
	s.publish(1)
	s.answer(answerOf("first", 1), &k)
	s.answer(answerOf("first", 0), &k)
	require.True(t, isClosed(s.all))
	require.NoError(t, s.failure())
	require.Positive(t, s.took[0])
	s.answer(answerOf("first", 0), &k)
	require.ErrorContains(t, s.failure(), "a second answer to job 0")

	s = newStopwatch(2)
	s.answer(answerOf("first", 1), &k)
	require.ErrorContains(t, s.failure(), "not published")
	require.True(t, isClosed(s.all), "the rest is not waited for")
}

func TestPercentilesAreThoseOfTheSortedTimes(t *testing.T) {
	t.Parallel()
	times := make([]time.Duration, 10_001)
	for i := range times {
		times[i] = time.Duration(10_000-i) * time.Millisecond
	}
	require.Equal(t, latency{P50: 5000, P99: 9900, P999: 9990, Max: 10_000}, percentiles(times))
}

func TestScaleRunsOnlyWhenItIsNamed(t *testing.T) {
	t.Parallel()
	o := options{}
	o.scale.fill(false)
	require.False(t, o.has("scale"))
	require.Equal(t, 2_000_000, o.limit())
	o.only = "scale"
	require.True(t, o.has("scale"))
	require.Equal(t, 20_000_000, o.limit())
	o = options{only: "scale", scale: scaleOptions{runners: 3}}
	o.scale.fill(true)
	require.Equal(t, 3, o.scale.runners, "as the flag says")
	require.Equal(t, 200_000, o.scale.backlog)
	require.Equal(t, 30*time.Second, o.scale.time)
}

func TestFiguresOfScaleAreKept(t *testing.T) {
	t.Parallel()
	r := &report{Scale: &scaleReport{}}
	s := &scale{scaleReport: r.Scale}
	s.add("backlog a", "10000 jobs", 10_000, figures.Sample{Rate: 5000, Worker: 50, Begin: 50e6, End: 60e6})
	s.Soak = append(s.Soak, soak{Work: "b", Rate: 1000, latency: latency{P999: 9.5}})
	var text strings.Builder
	require.NoError(t, r.print(&text))
	require.Contains(t, text.String(), "10000 jobs")
	require.Contains(t, text.String(), "p99.9 9.50")

	path := filepath.Join(t.TempDir(), "results", "scale.json")
	require.NoError(t, r.write(path, ""))
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, want := range []string{`"size": "10000 jobs"`, `"all_cpu_us_per_job": 50`, `"end_mb": 60`, `"p999_ms": 9.5`} {
		require.Contains(t, string(written), want)
	}
}
