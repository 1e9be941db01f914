package app

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/results"
	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// RowsGrace is the age from which on rows are looked at.
func RowsGrace(cfg *config.Config) time.Duration {
	r := &running{cfg: cfg, log: zap.NewNop(), conn: &bus.Conn{}}
	for name, d := range cfg.Databases {
		r.databases = append(r.databases, &database{Database: &manager.Database{Name: name, Config: d}})
	}
	return r.newRowsSweeper().grace
}

// RowsSweeper returns the scan of a runner of this configuration for unreferenced rows, which takes rows as
// young up to an age that the test says. It returns how many objects it has removed.
func RowsSweeper(t *testing.T, cfg *config.Config) func(grace time.Duration) int {
	t.Helper()
	opened, err := manager.Open(cfg, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, manager.Close(opened)) })
	conn, err := bus.Connect(t.Context(), manager.BusOptions(cfg, zap.NewNop()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, closeConn(context.Background(), conn)) })
	databases := databasesOf(opened)
	for _, d := range databases {
		d.results = &resultStore{Results: results.Of(conn, d.Name)}
	}
	s := (&running{cfg: cfg, log: zap.NewNop(), conn: conn, databases: databases}).newRowsSweeper()
	return func(grace time.Duration) int {
		s.grace = grace
		removed, err := s.sweepOnce(t.Context())
		require.NoError(t, err)
		return removed
	}
}
