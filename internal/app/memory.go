package app

import (
	"cmp"
	"math"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"go.uber.org/zap"

	"dbrunner/internal/config"
	"dbrunner/internal/manager"
)

// What a runner takes besides jobs and results, and what the values of one body take once they are decoded: 200,000 of them. Both are
// measured (TestMemoryLimit of test/crash).
const (
	idleMemory    = 24 << 20
	decodedValues = 10 << 20
	// defaultBody is what a job may have where the server alone limits it, as NATS does by default.
	defaultBody = 1 << 20
)

// boundMemory has the garbage collector respect the memory limit of the process's cgroup, unless GOMEMLIMIT names one, and warns if the
// largest jobs and results that the configuration allows may not fit.
func boundMemory(cfg *config.Config, log *zap.Logger, limit int64) {
	set := debug.SetMemoryLimit(-1)
	if limit > 0 && set == math.MaxInt64 {
		set = limit / 10 * 9
		debug.SetMemoryLimit(set)
	}
	if limit == 0 {
		limit = set
	}
	if needed := largestMemory(cfg); needed > limit {
		log.Warn("memory limit below what the largest jobs and results may need; lower slots, pool.max, max_bytes or worker.settle_in_flight, or raise the limit",
			zap.Int64("limit_mib", limit>>20), zap.Int64("needed_mib", needed>>20))
	}
}

// largestMemory is what a runner needs if all jobs in its slots, and all results that are being stored, are as large as they may be. The
// values of a body are decoded only while its job executes or waits for a connection, which burst slots do not.
func largestMemory(cfg *config.Config) int64 {
	body := int64(cfg.Topology.Jobs.MaxMessageBytes)
	if body == 0 {
		body = defaultBody
	}
	needed, largest := int64(idleMemory), int64(0)
	for _, d := range cfg.Databases {
		result := int64(d.MaxBytes)
		slots, base := workSlots(d)
		needed += slots*(body+result) + base*decodedValues
		largest = max(largest, result)
	}
	return needed + int64(cfg.Worker.SettleInFlight)*largest
}

// workSlots are the slots of a database's lanes of work, and those of them that are base slots: calls have as many as other jobs, and
// each queue has its own.
func workSlots(d *config.Database) (slots, base int64) {
	for _, l := range manager.Lanes(d) {
		if !l.Pausable { // migrations and health checks: few, and small
			continue
		}
		own := l.Slots(d.Slots)
		slots += int64(own)
		base += int64(cmp.Or(l.BaseSlots(d.BaseSlots()), own))
	}
	return slots, base
}

// memoryLimit is what the kernel lets the processes of this one's cgroup have together, in bytes; 0: no limit is known.
func memoryLimit() int64 {
	limit, err := memlimit.FromCgroup()
	if err != nil || limit > math.MaxInt64 { // no limit, no cgroup, or another system than Linux
		return 0
	}
	return int64(limit)
}
