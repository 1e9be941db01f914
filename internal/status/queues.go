package status

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/internal/bus"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/telemetry"
)

// The streams are looked at in the background, so that a scrape never waits: how often, and how
// long one look at one database may take.
const (
	queueInterval = 10 * time.Second
	queueTimeout  = 5 * time.Second
)

// sampler looks at the streams again and again.
type sampler struct {
	conn      *bus.Conn
	watch     *deadletters.Watch
	databases []*Database
	log       *zap.Logger

	mu          sync.Mutex
	queued      map[string]*telemetry.Queue
	deadLetters *telemetry.DeadLetters
}

// Run looks at all streams, immediately and then at each interval, until ctx ends. It returns nil.
func (s *sampler) Run(ctx context.Context) error {
	ticker := time.NewTicker(queueInterval)
	defer ticker.Stop()
	for {
		s.sample(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// sample looks once. What cannot be read keeps its last value, whose age is reported.
func (s *sampler) sample(ctx context.Context) {
	for _, d := range s.databases {
		q, err := s.database(ctx, d)
		if s.failed(ctx, err) {
			continue
		}
		s.mu.Lock()
		s.queued[d.Name] = q
		s.mu.Unlock()
	}
	deadLetters, err := s.readDeadLetters(ctx)
	if s.failed(ctx, err) {
		return
	}
	s.mu.Lock()
	s.deadLetters = deadLetters
	s.mu.Unlock()
}

func (s *sampler) failed(ctx context.Context, err error) bool {
	if err != nil && ctx.Err() == nil {
		s.log.Debug("stream not read", zap.Error(err))
	}
	return err != nil
}

func (s *sampler) database(ctx context.Context, d *Database) (*telemetry.Queue, error) {
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	q := &telemetry.Queue{At: time.Now()}
	for _, l := range d.lanes { // the heartbeats ask how far they are behind
		if lag := l.lag.Load(); lag != nil {
			q.Lanes = append(q.Lanes, telemetry.LaneQueue{Name: l.name, Lag: *lag})
			q.At = lag.At
		}
	}
	queues := []string{""}
	for _, l := range d.lanes {
		if l.queue != "" {
			queues = append(queues, l.queue)
		}
	}
	for _, name := range queues {
		oldest, _, err := bus.OldestIn(ctx, s.conn, d.Name, name)
		if err != nil {
			return nil, err
		}
		q.Oldest = append(q.Oldest, telemetry.OldestJob{Queue: name, Stored: oldest})
	}
	if room, ok := d.Results.SeenRoom(); ok {
		q.ResultsUsed = room.Used()
	}
	return q, nil
}

func (s *sampler) readDeadLetters(ctx context.Context) (*telemetry.DeadLetters, error) {
	ctx, cancel := context.WithTimeout(ctx, queueTimeout)
	defer cancel()
	state, err := s.watch.State(ctx)
	if err != nil {
		return nil, err
	}
	return &telemetry.DeadLetters{Kept: state.DeadLetters, Evicted: state.Evicted, At: time.Now()}, nil
}

func (s *sampler) queue(database string) *telemetry.Queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queued[database]
}

func (s *sampler) dead() *telemetry.DeadLetters {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.deadLetters
}
