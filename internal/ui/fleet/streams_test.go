package fleet_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/ui/fleet"
)

// testTimeout bounds everything that a test waits for.
const testTimeout = 90 * time.Second

func TestMain(m *testing.M) { bustest.VerifyMain(m) }

// streams are the streams of dead letters and of the results of shop, and a source that reads them.
func streams(t *testing.T) (js jetstream.JetStream, src *fleet.Source) {
	t.Helper()
	node := bustest.Server(t)
	nc, js := bustest.Plain(t, node.ClientURL())
	for name, subject := range map[string]string{"DBRUNNER_DEAD": "dbrunner.dead.>", "DBRUNNER_RESULTS_shop": "dbrunner.results.shop.*"} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}, AllowDirect: true})
		require.NoError(t, err)
	}
	src, err := fleet.NewSource(nc, "dbrunner", "")
	require.NoError(t, err)
	return js, src
}

func deadLetter(n, size int) *nats.Msg {
	return &nats.Msg{Subject: fmt.Sprintf("dbrunner.dead.shop.query.k%d", n), Header: nats.Header{"Dbrunner-Job-Id": {fmt.Sprintf("job-%d", n)}}, Data: make([]byte, size)}
}

// TestLargeDeadLetters: however large the bodies of dead letters are, the newest ones are known, those that were there before the first
// look and those that come later.
func TestLargeDeadLetters(t *testing.T) {
	t.Parallel()
	js, src := streams(t)
	const most, size = 90, 900 << 10 // more than one reading may take
	publish := func(from int) {
		for n := from; n < from+most; n++ {
			_, err := js.PublishMsg(t.Context(), deadLetter(n, size))
			require.NoError(t, err)
		}
	}
	publish(1)
	dead := &fleet.DeadLetters{Source: src}
	newest := func() uint64 {
		dead.Forget()
		view, err := dead.Get(t.Context(), nil)
		require.NoError(t, err)
		require.NotEmpty(t, view.List)
		return view.List[len(view.List)-1].Sequence
	}
	require.EqualValues(t, most, newest())
	publish(most + 1)
	require.Eventually(t, func() bool { return newest() == 2*most }, testTimeout, time.Millisecond, "later looks go on")
	require.Eventually(t, func() bool {
		dead.Forget()
		view, err := dead.Get(t.Context(), nil)
		return err == nil && len(view.List) == 2*most && !view.Partial
	}, testTimeout, time.Millisecond, "and find all of them in the end")
}

// TestMessagesWhileReading: what is stored between the question for the state of a stream and the reading is known once.
func TestMessagesWhileReading(t *testing.T) {
	t.Parallel()
	js, src := streams(t)
	ctx, cancel := context.WithCancel(t.Context())
	var publisher sync.WaitGroup
	defer publisher.Wait()
	defer cancel()
	publisher.Go(func() {
		for n := 1; ctx.Err() == nil; n++ {
			_, _ = js.PublishMsg(ctx, deadLetter(n, 10)) // fails at the end
			_, _ = js.Publish(ctx, fmt.Sprintf("dbrunner.results.shop.job-%d", n), fmt.Appendf(nil, `{"job_id":"job-%d","status":"succeeded"}`, n))
		}
	})
	dead, recent := &fleet.DeadLetters{Source: src}, &fleet.Recent{Source: src}
	for range 100 {
		dead.Forget()
		view, err := dead.Get(ctx, nil)
		require.NoError(t, err)
		for i := 1; i < len(view.List); i++ {
			require.Greater(t, view.List[i].Sequence, view.List[i-1].Sequence, "a dead letter is known once")
		}
		results, _, err := recent.Of(ctx, "shop")
		require.NoError(t, err)
		for i := 1; i < len(results); i++ {
			require.Less(t, results[i].Sequence, results[i-1].Sequence, "a result is known once")
		}
	}
}
