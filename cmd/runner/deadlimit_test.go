package main

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
)

// TestDeadListReadsWhatItShows: each dead letter costs a request, and a stream may have hundreds of thousands.
func TestDeadListReadsWhatItShows(t *testing.T) {
	t.Parallel()
	url := bustest.Server(t).ClientURL()
	nc, js := bustest.Plain(t, url)
	_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "DBRUNNER_DEAD", Subjects: []string{"dbrunner.dead.>"}})
	require.NoError(t, err)
	for i := range 50 {
		_, err := js.Publish(t.Context(), fmt.Sprintf("dbrunner.dead.shop.query.k%d", i), []byte(`{}`))
		require.NoError(t, err)
	}
	var asked atomic.Int64
	_, err = nc.Subscribe("$JS.API.STREAM.MSG.GET.DBRUNNER_DEAD", func(*nats.Msg) { asked.Add(1) })
	require.NoError(t, err)
	require.NoError(t, nc.Flush())
	list := func(args ...string) (lines int, requests int64) {
		before := asked.Load()
		got := runCommand(t, "", append([]string{"dead", "ls", "--server", url}, args...)...)
		require.Equal(t, exitOK, got.code, got.err)
		require.NoError(t, nc.Flush())
		return strings.Count(got.out, "shop.query."), asked.Load() - before
	}
	lines, requests := list("--limit", "3")
	require.Equal(t, 3, lines)
	require.EqualValues(t, 4, requests, "one more than it shows, to know that there is one")
	lines, requests = list("--limit", "50")
	require.Equal(t, 50, lines)
	require.EqualValues(t, 51, requests)
	lines, _ = list("--newest", "2", "--limit", "1")
	require.Equal(t, 2, lines)
}
