package app

import (
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"dbrunner/internal/config"
)

func TestMemoryLimitOfACgroup(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"none":                {},
		"version 2":           {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, want: 128 << 20},
		"version 2, no limit": {files: map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}},
		"a parent's": {files: map[string]string{
			"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/memory.max": "1000\n",
		}, want: 1000},
		"version 1": {files: map[string]string{
			"proc/self/cgroup": "9:cpu:/\n4:memory:/docker/x\n0::/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
		}, want: 2000},
		"version 1, no limit": {files: map[string]string{
			"proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}},
		"unreadable": {files: map[string]string{"proc/self/cgroup": "x\n\n0:\n", "sys/fs/cgroup/memory.max": "1\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			for file, text := range c.files {
				require.NoError(t, os.MkdirAll(filepath.Dir(filepath.Join(root, file)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(root, file), []byte(text), 0o600))
			}
			require.Equal(t, c.want, memoryLimit(root))
		})
	}
}

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
