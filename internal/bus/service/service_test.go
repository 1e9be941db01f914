package service_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/service"
)

// serve opens a service until the test's end; end ends it earlier.
func serve(t *testing.T, conn *bus.Conn, opts service.Options, endpoints ...service.Endpoint) (end func()) {
	t.Helper()
	service, err := service.Open(context.Background(), conn, opts, endpoints)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- service.Run(ctx, ctx) }()
	ended := false
	end = func() {
		cancel()
		if !ended {
			ended = true
			require.NoError(t, <-done)
		}
	}
	t.Cleanup(end)
	return end
}

func echo(_ context.Context, r *service.Request) ([]byte, error) {
	switch string(r.Body) {
	case "refuse":
		return nil, &service.Error{Status: 418, Message: "no", Body: []byte("why")}
	case "fail":
		return nil, errors.New("a secret")
	}
	return append([]byte(r.Tokens[1]+" "+r.Header("Word")+" "), r.Body...), nil
}

func TestServiceAnswers(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	conn, _ := bustest.Connect(t, b.Node.ClientURL(), func(o *bus.Options) { o.Instance, o.InboxPrefix = "client", "_INBOX" })
	requester, err := client.New(conn.NATS(), client.Options{Namespace: conn.Namespace()})
	require.NoError(t, err)
	end := serve(t, b.Conn, service.Options{Version: "v1.2.3-rc.1+dirty", Bound: 4},
		service.Endpoint{Name: "echo", Subject: "echo.*", Handle: echo})

	body, err := requester.Ask(t.Context(), "echo.demo", map[string][]string{"Word": {"hello"}}, []byte("there"))
	require.NoError(t, err)
	require.Equal(t, "demo hello there", string(body))
	var refused *client.ServiceError
	_, err = requester.Ask(t.Context(), "echo.demo", nil, []byte("refuse"))
	require.ErrorAs(t, err, &refused)
	require.Equal(t, client.ServiceError{Status: 418, Message: "no", Body: []byte("why")}, *refused)
	_, err = requester.Ask(t.Context(), "echo.demo", nil, []byte("fail"))
	require.ErrorAs(t, err, &refused)
	require.Equal(t, 500, refused.Status)
	require.NotContains(t, refused.Message, "secret")

	_, err = requester.Ask(t.Context(), "nosuch", nil, nil)
	require.ErrorIs(t, err, client.ErrNoService)
	require.True(t, service.Answers(t.Context(), conn, "echo.demo"))
	require.False(t, service.Answers(t.Context(), conn, "nosuch"))

	m, err := b.Plain.Request("$SRV.STATS.dbrunner", nil, 5*time.Second)
	require.NoError(t, err)
	var stats micro.Stats
	require.NoError(t, json.Unmarshal(m.Data, &stats))
	require.Equal(t, "1.2.3-rc.1+dirty", stats.Version)
	require.Contains(t, string(stats.Endpoints[0].Data), `"answered":3,"failed":2`, "a probe is not answered")

	end()
	_, err = requester.Ask(t.Context(), "echo.demo", nil, nil)
	require.ErrorIs(t, err, client.ErrNoService)
}

// TestServiceEndsInOrder: requests in progress are answered, requests above the limit are refused immediately.
func TestServiceEndsInOrder(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	started, finish := make(chan struct{}, 1), make(chan struct{})
	end := serve(t, b.Conn, service.Options{Bound: 1}, service.Endpoint{
		Name: "slow", Subject: "slow.*", Handle: func(context.Context, *service.Request) ([]byte, error) {
			started <- struct{}{}
			<-finish
			return []byte("done"), nil
		},
	}, service.Endpoint{Name: "echo", Subject: "echo.*", Handle: echo})
	answer := make(chan *nats.Msg, 1)
	_, err := b.Plain.ChanSubscribe("mine", answer)
	require.NoError(t, err)
	require.NoError(t, b.Plain.PublishRequest("dbrunner.api.slow.demo", "mine", nil))
	<-started
	m, err := b.Plain.Request("dbrunner.api.slow.demo", nil, 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "503", m.Header.Get(micro.ErrorCodeHeader))
	m, err = b.Plain.Request("dbrunner.api.echo.demo", []byte("x"), 5*time.Second)
	require.NoError(t, err)
	require.Equal(t, "demo  x", string(m.Data), "verbs do not crowd out each other")
	time.AfterFunc(100*time.Millisecond, func() { close(finish) })
	end()
	require.Equal(t, "done", string((<-answer).Data))
}

// TestBroadcasts: every service answers, with several messages or an error, and goes on until all work has ended.
func TestBroadcasts(t *testing.T) {
	t.Parallel()
	b := bustest.Setup(t)
	all := func(name string) service.Options {
		return service.Options{Bound: 4, Broadcasts: []service.Broadcast{{
			Subject: "all.demo", Handle: func(r *service.Request) ([][]byte, error) {
				if len(r.Body) > 0 {
					return nil, &service.Error{Status: 400, Message: "no body"}
				}
				return [][]byte{[]byte(name + " 1"), []byte(name + " 2")}, nil
			},
		}}}
	}
	endSecond := serve(t, b.Conn, all("second"), service.Endpoint{Name: "echo", Subject: "echo.*", Handle: echo})
	first, err := service.Open(t.Context(), b.Conn, all("first"), []service.Endpoint{{Name: "echo", Subject: "echo.*", Handle: echo}})
	require.NoError(t, err)
	intake, stopIntake := context.WithCancel(t.Context())
	work, stopWork := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- first.Run(intake, work) }()

	answers := make(chan *nats.Msg, 16)
	_, err = b.Plain.ChanSubscribe("mine", answers)
	require.NoError(t, err)
	ask := func(body string, want ...string) {
		t.Helper()
		require.NoError(t, b.Plain.PublishRequest("dbrunner.api.all.demo", "mine", []byte(body)))
		var got []string
		for range want {
			m := <-answers
			got = append(got, string(m.Data)+m.Header.Get(micro.ErrorCodeHeader))
		}
		require.ElementsMatch(t, want, got)
	}
	ask("", "first 1", "first 2", "second 1", "second 2")
	ask("x", "400", "400")
	stopIntake()
	endSecond()
	ask("", "first 1", "first 2")
	require.Eventually(t, func() bool {
		_, err := b.Plain.Request("dbrunner.api.echo.demo", nil, 5*time.Second)
		return errors.Is(err, nats.ErrNoResponders)
	}, 10*time.Second, 10*time.Millisecond, "no other requests are taken")
	stopWork()
	require.NoError(t, <-done)
	_, err = b.Plain.Request("dbrunner.api.all.demo", nil, 5*time.Second)
	require.ErrorIs(t, err, nats.ErrNoResponders, "no request goes to a runner that has ended")
}

func TestMain(m *testing.M) { bustest.VerifyMain(m) }
