package relay_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/relay"
	"dbrunner/internal/report"
)

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

// The outboxes of many databases share the places of one connection.
func TestManyOutboxesPublishAtTheSameTime(t *testing.T) {
	t.Parallel()
	const outboxes, rows = 8, 500
	b := bustest.Setup(t)
	var relays sync.WaitGroup
	for o := range outboxes {
		relays.Go(func() {
			messages := make([]*report.OutboxMessage, 0, rows)
			for i := range rows {
				messages = append(messages, &report.OutboxMessage{
					Target: "jobs." + bustest.Database + ".query", ID: fmt.Sprintf("outbox%d-%d", o, i), StoredBy: time.Now().Add(time.Hour), Body: []byte("{}"),
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for _, err := range relay.New(b.Conn).Publish(ctx, messages) {
				if !assert.NoError(t, err) {
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		relays.Wait()
		close(done)
	}()
	select {
	case <-done:
		stream, err := b.JS.Stream(t.Context(), "DBRUNNER_JOBS_"+bustest.Database)
		require.NoError(t, err)
		require.EqualValues(t, outboxes*rows, stream.CachedInfo().State.Msgs)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the relays wait for each other")
	}
}
