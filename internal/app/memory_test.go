package app

import (
	"math"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/internal/config"
)

// The limit of the garbage collector is the process's: this test is not parallel.
func TestMemoryIsBounded(t *testing.T) {
	before := debug.SetMemoryLimit(math.MaxInt64)
	defer debug.SetMemoryLimit(before)
	cfg := config.Default()
	cfg.Databases["shop"] = cfg.Defaults.NewDatabase("sqlite", config.NewSecret("x"))
	d := cfg.Databases["shop"]
	core, logs := observer.New(zap.InfoLevel)
	d.Slots, d.Pool.Max, cfg.Worker.SettleInFlight = 4, 1, 4
	boundMemory(cfg, zap.New(core), 128<<20)
	require.Zero(t, logs.Len())
	require.EqualValues(t, 128<<20/10*9, debug.SetMemoryLimit(-1))
	boundMemory(cfg, zap.New(core), 1<<30)
	require.EqualValues(t, 128<<20/10*9, debug.SetMemoryLimit(-1), "one that is set stays")
	d.Slots, d.Pool.Max = 240, 15
	boundMemory(cfg, zap.New(core), 128<<20)
	require.Equal(t, 1, logs.Len())
	require.EqualValues(t, 128, logs.All()[0].ContextMap()["limit_mib"])
	debug.SetMemoryLimit(math.MaxInt64)
	boundMemory(cfg, zap.New(core), 0)
	require.Equal(t, 1, logs.Len(), "nothing is known of a limit")
}

// Calls and queues have slots besides those of other jobs.
func TestMemoryOfAllSlots(t *testing.T) {
	t.Parallel()
	needed := func(change func(*config.Database)) int64 {
		cfg := config.Default()
		d := cfg.Defaults.NewDatabase("sqlite", config.NewSecret("x"))
		d.Slots, d.Pool.Max = 40, 1
		change(d)
		cfg.Databases["shop"] = d
		return largestMemory(cfg)
	}
	plain := needed(func(*config.Database) {})
	job := int64(defaultBody) + int64(config.Default().Defaults.MaxBytes)
	calls := needed(func(d *config.Database) { d.Kinds = []string{"call", "health"} })
	require.Equal(t, 40*job+4*decodedValues, calls-plain)
	queue := needed(func(d *config.Database) { d.Queues = map[string]*config.Queue{"bulk": {Slots: 3, FleetSlots: 3}} })
	require.Equal(t, 3*(job+decodedValues), queue-plain)
}
