package ui_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// stream opens the stream of a page; the function returns its next event.
func (s *site) stream(ctx context.Context, page string) func() (event, data string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/events?page="+page, nil)
	require.NoError(s.t, err)
	transport := &http.Transport{}
	got, err := transport.RoundTrip(r)
	require.NoError(s.t, err)
	require.Equal(s.t, "text/event-stream", got.Header.Get("Content-Type"))
	s.t.Cleanup(func() {
		_ = got.Body.Close()
		transport.CloseIdleConnections()
	})
	lines := bufio.NewReader(got.Body)
	return func() (event, data string) {
		for {
			line, err := lines.ReadString('\n')
			require.NoError(s.t, err)
			switch line = strings.TrimSuffix(line, "\n"); {
			case strings.HasPrefix(line, "event: "):
				event = line[len("event: "):]
			case strings.HasPrefix(line, "data: "):
				data = line[len("data: "):]
			case line == "" && event != "":
				return event, data
			}
		}
	}
}

func panelID(data string) string {
	var p struct{ ID string }
	_ = json.Unmarshal([]byte(data), &p) // another event has none
	return p.ID
}

func streamConfig(name string, subjects ...string) jetstream.StreamConfig {
	return jetstream.StreamConfig{Name: name, Subjects: subjects, AllowDirect: true}
}

func bucketConfig(name string) jetstream.KeyValueConfig {
	return jetstream.KeyValueConfig{Bucket: name}
}

// syncBuffer gathers what a process writes.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
