package app

import (
	"context"
	"errors"
	"sync"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/intake"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
	"dbrunner/internal/worker"
)

// laneIntake is one lane's worker.Intake. Each run is a new subscription: nothing of an earlier one is left when a gate
// opens again.
type laneIntake struct {
	conn      *bus.Conn
	cfg       *config.Config
	database  string
	lane      string
	optional  bool // its consumer may be missing: it is waited for
	ordered   bool // its queue is an ordered one
	baseSlots int  // jobs that are in flight however long they take; 0: all that slots allow

	mu      sync.Mutex
	current *intake.Intake // the last one that was run; nil before the first run
}

var (
	_ worker.Intake  = (*laneIntake)(nil)
	_ worker.Message = (*intake.Message)(nil)
)

// Run pulls messages until ctx ends. Before, it waits until all that keeps jobs from starting has been read over the link that
// stands.
func (i *laneIntake) Run(ctx context.Context, credits <-chan int, handle func(delivery.Delivery, worker.Message)) error {
	if err := i.conn.Ready(ctx); err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	opened, err := i.open(ctx)
	for i.optional && errors.Is(err, bus.ErrNotFound) || errors.Is(err, errOtherOrder) { // the watch of the topology reports it
		if bus.Pause(ctx, topology.WatchInterval) != nil {
			return nil
		}
		opened, err = i.open(ctx)
	}
	if err != nil {
		return err
	}
	opened.SetBaseSlots(i.baseSlots)
	return opened.Run(ctx, credits, func(m *intake.Message) { handle(deliveryOf(m), m) })
}

// open finds the lane's consumer. One that was deleted while no request was open is recreated if that is our task.
func (i *laneIntake) open(ctx context.Context) (*intake.Intake, error) {
	opened, err := intake.Open(ctx, i.conn, i.database, i.lane)
	if errors.Is(err, bus.ErrNotFound) && i.cfg.Topology.Mode == config.TopologyManage {
		if err = ensureTopology(ctx, i.conn, i.cfg); err != nil {
			return nil, err
		}
		opened, err = intake.Open(ctx, i.conn, i.database, i.lane)
	}
	if err != nil {
		return nil, err
	}
	if opened.Ordered() != i.ordered {
		return nil, errOtherOrder
	}
	i.mu.Lock()
	i.current = opened
	i.mu.Unlock()
	return opened, nil
}

// errOtherOrder: the queue is ordered for some runners and not for others. None takes its jobs as the others do not.
var errOtherOrder = errors.New("the queue's consumer is one of another order than the configuration says")

// takeUp asks for a message that the consumer does not deliver.
func (i *laneIntake) takeUp(sequence uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current != nil {
		i.current.TakeUp(sequence)
	}
}

// trouble returns why messages do not come although they are asked for; empty if nothing is wrong.
func (i *laneIntake) trouble() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.current == nil {
		return ""
	}
	if s := i.current.State(); s.Phase == intake.Recovering {
		return s.Reason
	}
	return ""
}

// deliveryOf is what jobs need of a message.
func deliveryOf(m *intake.Message) delivery.Delivery {
	return delivery.Delivery{
		Message: jobs.Message{
			Database: m.Database(), Queue: m.Queue(), Kind: m.Kind(), Name: m.Name(), Subject: m.Subject(), Sequence: m.Sequence(), Timestamp: m.Timestamp(),
			Headers: m.Headers(), Body: m.Data(),
		},
		Deliveries:       m.Deliveries(),
		MaybeRedelivered: !m.First(),
		Beside:           m.Wanted(),
	}
}
