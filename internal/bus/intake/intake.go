package intake

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// Phase is what an intake is doing.
type Phase string

// The phases.
const (
	Idle       Phase = "idle"       // Run was not called
	Pulling    Phase = "pulling"    // asks for messages as slots are free
	Recovering Phase = "recovering" // the consumer does not answer; see Reason
	Stopped    Phase = "stopped"    // Run has returned
)

// State describes an intake at one moment.
type State struct {
	Phase        Phase
	Reason       string    // of Recovering
	Since        time.Time // of the phase
	Created      time.Time // of the consumer, as last read
	Outstanding  int       // messages asked for that have not come
	Handled      uint64    // messages given to the handler
	Requeued     uint64    // messages that arrived without a slot or after the end
	LeftToExpire uint64    // messages that may have waited while the process was stopped, left alone
	Orphans      uint64    // messages that the consumer had left behind and that were taken up again
	Recoveries   uint64    // how often the subscription was recreated
}

// Intake pulls the jobs of one lane.
type Intake struct {
	conn      *bus.Conn
	log       *zap.Logger
	database  string
	stream    string
	name      string
	times     times
	baseSlots int

	wanted chan uint64 // a sequence that TakeUp asks for

	mu      sync.Mutex
	ordered bool // the consumer is one of an ordered queue
	state   State
	ackWait time.Duration
	bounds  requestBounds
}

// requestBounds are a consumer's own limits of pull requests, of the server's configuration or an operator's hand. 0: none.
type requestBounds struct {
	batch   int
	expires time.Duration
}

// times are the periods of the pull protocol.
type times struct {
	expires   time.Duration // of a request
	brief     time.Duration // the same, of a request for burst slots
	heartbeat time.Duration // at which the server shows that a request is alive
	silence   time.Duration // without any sign the request counts as lost: two heartbeats and some
	drain     time.Duration // at most, for what is on the way at the end
	pause     time.Duration // the same, of jobs that are still delivered when the lane is paused
	quiet     time.Duration // without a message at the end nothing more is expected
	sweep     time.Duration // between two scans for messages that were left behind
	retry     time.Duration // at most, between two requests for a consumer that is not there
}

func defaultTimes() times {
	return times{
		expires: 30 * time.Second, brief: time.Second, heartbeat: 3 * time.Second, silence: 7 * time.Second,
		drain: 2 * time.Second, pause: 400 * time.Millisecond, quiet: 150 * time.Millisecond, retry: 2 * time.Second, sweep: 30 * time.Second,
	}
}

// Open finds the consumer of a lane. It must be there: Manage or Verify come first.
func Open(ctx context.Context, c *bus.Conn, database, lane string) (*Intake, error) {
	if err := errors.Join(bus.CheckName("database", database), bus.CheckLane(lane)); err != nil {
		return nil, err
	}
	i := &Intake{
		conn:     c,
		log:      c.Log().With(zap.String("database", database), zap.String("lane", lane)),
		database: database,
		stream:   c.Subjects().JobsStream(database),
		name:     lane,
		times:    defaultTimes(),
		wanted:   make(chan uint64, 1),
		state:    State{Phase: Idle, Since: time.Now()},
	}
	info, err := bus.ConsumerInfo(ctx, c, i.stream, lane)
	if err != nil {
		return nil, fmt.Errorf("open the intake of %s/%s: %w", database, lane, err)
	}
	i.learn(info)
	return i, nil
}

// AckWait is how long the server waits for a sign before it delivers a held message again.
func (i *Intake) AckWait() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ackWait
}

// Ordered reports whether the consumer is one of an ordered queue, as it was last read.
func (i *Intake) Ordered() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.ordered
}

// TakeUp asks for a message that the consumer does not deliver: it is handed over as an orphan is, without a credit, unless another
// runner has it. It does not wait; a request that is under way is enough.
func (i *Intake) TakeUp(sequence uint64) {
	select {
	case i.wanted <- sequence:
	default:
	}
}

// State reports how the intake is.
func (i *Intake) State() State {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.state
}

// learn takes over what the consumer says of itself.
func (i *Intake) learn(info *jetstream.ConsumerInfo) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.state.Created = info.Created
	i.ackWait = info.Config.AckWait
	i.ordered = info.Config.Metadata[bus.MetaOrdered] != ""
	i.bounds = requestBounds{batch: info.Config.MaxRequestBatch, expires: info.Config.MaxRequestExpires}
}

// limits are the consumer's bounds of pull requests as they were last read.
func (i *Intake) limits() requestBounds {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.bounds
}

// enter changes the phase and reports it once.
func (i *Intake) enter(phase Phase, reason string) {
	i.mu.Lock()
	changed := i.state.Phase != phase || i.state.Reason != reason
	before := i.state.Phase
	if changed {
		i.state.Phase, i.state.Reason, i.state.Since = phase, reason, time.Now()
	}
	i.mu.Unlock()
	switch {
	case !changed:
	case phase == Recovering:
		i.log.Warn("intake interrupted", zap.String("reason", reason))
	case phase == Pulling && before == Recovering:
		i.log.Info("intake resumed")
	}
}

func (i *Intake) count(change func(*State)) {
	i.mu.Lock()
	change(&i.state)
	i.mu.Unlock()
}

// SetBaseSlots bounds what is asked for while jobs take long: up to n messages are held or asked for at any time, more, up to
// the credits, only as jobs end quickly: as many as ended within the last moment, in requests that do not stand
// long. 0, the default, is no bound. It is called before Run.
func (i *Intake) SetBaseSlots(n int) { i.baseSlots = n }

// Run asks for as many messages as credits were received, each credit being the right to one, and calls handle
// with each message from one goroutine; handle must not block, and not send credits into a channel that is full.
// It recovers by itself from everything that can happen to consumer, stream, server and link, and ends only with
// the context: then it asks for nothing more, requeues what has arrived and was not handled, and returns nil when
// the server knows. If the context's cause is report.ErrPaused, it calls handle with what has arrived, instead of requeuing
// it. No credits are received after that. It may be called once.
func (i *Intake) Run(ctx context.Context, credits <-chan int, handle func(*Message)) error {
	p := newPull(i, credits, handle)
	return p.run(ctx)
}
