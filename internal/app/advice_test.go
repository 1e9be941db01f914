package app

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/internal/db"
	"dbrunner/internal/manager"
)

type advising struct {
	db.Database
	err    error
	advice []string
}

func (a *advising) Probe(context.Context) error { return a.err }
func (a *advising) Advice() []string            { return a.advice }

func TestAdviceIsLoggedOnce(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	engine := &advising{err: errors.New("unreachable"), advice: []string{"one"}}
	p := (&database{Database: &manager.Database{Name: "shop", DB: engine}}).prober(zap.New(core))
	require.ErrorIs(t, p.Probe(t.Context()), engine.err)
	require.Zero(t, logs.Len(), "nothing of a database that was not reached")
	engine.err = nil
	for range 3 {
		require.NoError(t, p.Probe(t.Context()))
	}
	engine.advice = []string{"one", "two"}
	require.NoError(t, p.Probe(t.Context()))
	require.Equal(t, 2, logs.Len())
	require.Equal(t, "shop", logs.All()[1].ContextMap()["database"])
	require.Equal(t, "two", logs.All()[1].Message)
}
