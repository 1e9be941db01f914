package telemetry_test

import (
	"context"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/telemetry"
)

// testTimeout bounds everything that a test waits for.
const testTimeout = 30 * time.Second

// A request in progress when the server stops gets its answer; a hanging one does not delay the stop.
func TestServerEnds(t *testing.T) {
	t.Parallel()
	entered, release := make(chan string, 2), make(chan struct{})
	server, err := telemetry.Listen(t.Context(), telemetry.ServerOptions{
		Address: "127.0.0.1:0", Logger: zap.NewNop(), Ready: func() telemetry.Readiness { return telemetry.Readiness{} },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			entered <- r.URL.RawQuery
			if r.URL.RawQuery == "hangs" {
				<-r.Context().Done()
				return
			}
			<-release
			_, _ = io.WriteString(w, "done")
		}),
	})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	answers := make(chan string, 2)
	for _, query := range []string{"waits", "hangs"} {
		go func() {
			body := get("http://" + server.Address() + "/metrics?" + query)
			answers <- body
		}()
		select {
		case <-entered:
		case <-time.After(testTimeout):
			require.FailNow(t, "no answer")
		}
	}
	stop()
	close(release)
	require.ElementsMatch(t, []string{"done", ""}, []string{<-answers, <-answers})
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(testTimeout):
		require.FailNow(t, "it does not end")
	}
}

// get returns an answer's body, empty if there is none.
func get(url string) string {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testTimeout}
	response, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return ""
	}
	return string(body)
}
