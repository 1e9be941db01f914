package toy

import (
	"context"
	"sync/atomic"

	"dbrunner/internal/db/engine"
	"dbrunner/internal/report"
)

// pool has one connection: the map is written by one at a time.
type pool struct {
	slot     chan struct{}
	waits    engine.Waits
	acquires atomic.Int64
	canceled atomic.Int64
}

func newPool() *pool { return &pool{slot: make(chan struct{}, 1)} }

func (p *pool) acquire(ctx context.Context) error {
	end := p.waits.Begin()
	defer end()
	select {
	case p.slot <- struct{}{}:
		p.acquires.Add(1)
		return nil
	case <-ctx.Done():
		p.canceled.Add(1)
		return engine.WaitGivenUp(ctx)
	}
}

func (p *pool) release() { <-p.slot }

func (p *pool) stats() report.Pool {
	waiting, longest := p.waits.Longest()
	return report.Pool{
		Max: 1, Total: 1, InUse: len(p.slot), Idle: 1 - len(p.slot), Waiting: waiting, LongestWait: longest,
		Acquires: p.acquires.Load(), CanceledAcquires: p.canceled.Load(),
	}
}
