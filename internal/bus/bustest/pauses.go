package bustest

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/control"
	"dbrunner/internal/report"
)

// Paused are the pauses of Database that a runner obeys, and how often each change was applied.
type Paused struct {
	*control.Pauses

	mu      sync.Mutex
	applied [][]report.Pause
}

// Applied returns what was made effective, in order.
func (p *Paused) Applied() [][]report.Pause {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.applied)
}

// Keys returns the keys of the pauses of Database that are in force.
func (p *Paused) Keys() []string {
	var keys []string
	for _, pause := range p.Of(Database) {
		keys = append(keys, pause.Key)
	}
	return keys
}

// WatchPauses runs the reading of the pauses of Database until the test's end, and returns when all have been read. change may
// change the options before.
func WatchPauses(t *testing.T, conn *bus.Conn, change ...func(*control.PausesOptions)) *Paused {
	t.Helper()
	p := &Paused{}
	opts := control.PausesOptions{Conn: conn, Databases: []string{Database}, Apply: func(_ string, pauses []report.Pause) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.applied = append(p.applied, pauses)
	}}
	for _, f := range change {
		f(&opts)
	}
	p.Pauses = control.NewPauses(opts)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.NoError(t, p.Ready(t.Context()))
	return p
}
