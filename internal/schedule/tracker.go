package schedule

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus/schedules"
	"dbrunner/internal/report"
)

// How the tracker works.
const (
	pollEvery = time.Second            // what is new is read
	pollAfter = 100 * time.Millisecond // at least between two readings that were announced
	pollLimit = 20 * time.Second       // of one reading
	workLimit = 20 * time.Second       // of the work on one schedule
	workers   = 32                     // schedules that are worked on at the same time
	fullFrom  = 0.9                    // share of the bucket of states from which on no state is written
	tightFrom = 0.5                    // share from which on a state's history is purged
	shownFor  = time.Hour              // so long it is reported that a bucket was recreated
)

// Bucket reads the entries of a bucket.
type Bucket interface {
	// Read returns what is new since the last call.
	Read(ctx context.Context) (*schedules.News, error)
}

// Store reads and writes single entries, and publishes jobs.
type Store interface {
	ReadRecord(ctx context.Context, key string, from uint64) (entries []schedules.Entry, last *schedules.Entry, err error)
	ReadState(ctx context.Context, key string) (*schedules.Entry, error)
	PutState(ctx context.Context, key string, value []byte, expected uint64) (sequence uint64, err error)
	PurgeState(ctx context.Context, key string, below uint64) error
	PurgeRecord(ctx context.Context, key string, below uint64) error
	Unfinished(ctx context.Context, database string, sequence uint64, messageID string) (bool, error)
	Publish(ctx context.Context, key contract.ScheduleKey, messageID string, body []byte) (sequence uint64, err error)
}

// Options configures a Tracker.
type Options struct {
	Records, States Bucket
	Store           Store
	Databases       map[string]*Rules // whose schedules are tracked
	Runner          string            // its instance name
	Log             *zap.Logger

	// Link returns how often the connection was renewed, and whether it stands.
	Link func() (renewals uint64, connected bool)
	// News gets a token when something was written to a bucket.
	News <-chan struct{}
	// Paused returns whether a schedule is paused, and by whom and why, for people.
	Paused func(key contract.ScheduleKey) (by string, paused bool)
	// PausesKnown reports whether all pauses have been read over the link that stands. Until then, nothing fires: a schedule may have been
	// paused while the runner was away.
	PausesKnown func() bool
	// Now is this runner's clock, with a monotonic reading.
	Now func() time.Time
	// Explain returns why the buckets have not been read for some time; empty: it is not worth a report.
	Explain func(err error, since time.Duration) string
}

// Tracker tracks the schedules of some databases and fires them. Run does the work; everything else may be called at any time.
type Tracker struct {
	opts    Options
	results chan *entry
	slots   chan struct{}

	clockMu sync.Mutex
	clock   clock

	mu         sync.Mutex
	entries    map[string]*entry
	ticks      map[string]*report.Ticks // by database: what this runner has counted
	trouble    string                   // of the buckets or the clock
	statesFrom time.Time
	used       float64 // of the bucket of states
	full       float64 // of the bucket of records
	again      time.Time

	// Of Run.
	queue      queue
	generation uint64
	polled     time.Time
	over       uint64    // renewals of the link at the last reading, and one
	ready      bool      // work may start
	failing    time.Time // since when the buckets cannot be read; zero: they can
}

// New returns a tracker.
func New(opts Options) *Tracker {
	t := &Tracker{
		opts: opts, results: make(chan *entry, workers), slots: make(chan struct{}, workers), clock: clock{now: opts.Now},
		entries: map[string]*entry{}, ticks: map[string]*report.Ticks{},
	}
	for name := range opts.Databases {
		t.ticks[name] = &report.Ticks{}
	}
	return t
}

// Run tracks until ctx ends, and returns once everything that it started has ended.
func (t *Tracker) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	announced := false
	for {
		if since := t.opts.Now().Sub(t.polled); since >= pollEvery || announced && since >= pollAfter {
			t.poll(ctx)
			announced = false
		}
		t.start(ctx, &group)
		timer.Reset(t.pause(announced))
		select {
		case <-ctx.Done():
			return nil
		case e := <-t.results:
			t.take(e)
		case <-t.opts.News:
			announced = true
		case <-timer.C:
		}
	}
}

// pause is how long there is nothing to do.
func (t *Tracker) pause(announced bool) time.Duration {
	d := pollEvery - t.opts.Now().Sub(t.polled)
	if announced {
		d = pollAfter - t.opts.Now().Sub(t.polled)
	}
	if now, trouble := t.time(); trouble == "" && t.ready && len(t.queue) > 0 && len(t.slots) < workers {
		d = min(d, t.queue[0].at.Sub(now))
	}
	return max(d, time.Millisecond)
}

// time returns the server's time.
func (t *Tracker) time() (now time.Time, trouble string) {
	t.clockMu.Lock()
	defer t.clockMu.Unlock()
	return t.clock.read()
}

// poll reads what is new in both buckets.
func (t *Tracker) poll(ctx context.Context) {
	t.polled = t.opts.Now()
	renewals, connected := t.opts.Link()
	if !connected {
		t.over = 0
		return
	}
	bounded, cancel := context.WithTimeout(ctx, pollLimit)
	defer cancel()
	records, err := t.read(bounded, t.opts.Records)
	var states *schedules.News
	if err == nil {
		states, err = t.read(bounded, t.opts.States)
	}
	if records != nil {
		t.takeRecords(records)
	}
	if states != nil {
		t.takeStates(states)
	}
	if err == nil {
		t.over = renewals + 1
	}
	if ctx.Err() == nil {
		t.report(err)
	}
}

func (t *Tracker) read(ctx context.Context, b Bucket) (*schedules.News, error) {
	news, err := b.Read(ctx)
	if err == nil {
		t.clockMu.Lock()
		t.clock.add(news.Server, news.Asked, news.Answered)
		t.clockMu.Unlock()
	}
	return news, err
}

// report takes over what is wrong with the buckets or the clock.
func (t *Tracker) report(err error) {
	text := ""
	_, clockTrouble := t.time()
	if err == nil {
		t.failing = time.Time{}
	} else if t.failing.IsZero() {
		t.failing = t.opts.Now()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil:
		if text = t.opts.Explain(err, t.opts.Now().Sub(t.failing)); text == "" {
			text = t.trouble
		}
	case clockTrouble != "":
		text = clockTrouble + "; no schedule fires here"
	case t.used > fullFrom:
		text = "the bucket of states is more than 90 percent full, so that no schedule fires; raise topology.state.max_bytes and run runner topology apply"
	case t.full > tooFull:
		text = "the bucket of schedules is more than 80 percent full; raise topology.schedules.max_bytes and run runner topology apply"
	case !t.again.IsZero() && t.opts.Now().Sub(t.again) < shownFor:
		text = "the bucket of schedules was recreated; runner schedule apply puts the schedules back"
	}
	if text != t.trouble && text != "" {
		t.opts.Log.Warn("schedules impaired", zap.String("problem", text))
	}
	t.trouble = text
}

// tooFull is the share of the bucket of records from which health is degraded.
const tooFull = 0.8

// find returns the schedule of a key, which it adds if it is of one of the databases; nil: it is not, or no key of a schedule.
func (t *Tracker) find(key string) *entry {
	if e := t.entries[key]; e != nil {
		return e
	}
	id, err := contract.ParseScheduleKey(key)
	if err != nil || t.opts.Databases[id.Database] == nil {
		return nil
	}
	e := &entry{key: key, id: id, generation: t.generation}
	t.entries[key] = e
	return e
}

func (t *Tracker) takeRecords(news *schedules.News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.full = news.Used
	if news.Again {
		t.again = t.opts.Now()
	}
	before := map[string]Record{}
	if news.All {
		t.generation++
		for key, e := range t.entries {
			before[key] = e.record
			e.record, e.generation = Record{}, t.generation
		}
	}
	for i := range news.Entries {
		e := t.find(news.Entries[i].Key)
		if e == nil || !news.All && news.Entries[i].Sequence <= e.record.last() {
			continue
		}
		e.record.Take(&news.Entries[i])
		if !news.All {
			t.wake(e)
		}
	}
	if !news.All {
		return
	}
	for key, e := range t.entries {
		old := before[key]
		if e.record.last() != old.last() || e.record.Exists != old.Exists || !e.record.Stored.Equal(old.Stored) {
			e.readOf = 0
			t.wake(e)
		}
	}
}

func (t *Tracker) takeStates(news *schedules.News) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.statesFrom, t.used = news.Created, news.Used
	if news.All {
		t.generation++
		for _, e := range t.entries {
			e.generation = t.generation
			if e.state.Revision > 0 {
				t.wake(e)
			}
			e.state = State{}
		}
	}
	for i := range news.Entries {
		key, ok := contract.ScheduleOfState(news.Entries[i].Key)
		if !ok {
			continue
		}
		if e := t.find(key); e != nil && news.Entries[i].Sequence > e.state.Revision {
			e.state = stateOf(&news.Entries[i])
			t.wake(e)
		}
	}
}

// wake makes a schedule be decided about as soon as possible.
func (t *Tracker) wake(e *entry) {
	e.news, e.failures = true, 0
	if !e.busy {
		t.plan(e, time.Unix(1, 0))
	}
}

// plan makes a schedule be decided about at a time; zero: when something changes.
func (t *Tracker) plan(e *entry, at time.Time) {
	if e.wake = at; !at.IsZero() {
		heap.Push(&t.queue, &waiting{entry: e, at: at})
	}
}

// start starts the work on what is due.
func (t *Tracker) start(ctx context.Context, group *sync.WaitGroup) {
	now, trouble := t.time()
	renewals, connected := t.opts.Link()
	if t.ready = trouble == "" && connected && t.over == renewals+1 && t.opts.PausesKnown(); !t.ready {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 && !t.queue[0].at.After(now) {
		next := t.queue[0]
		if next.entry.busy || !next.entry.wake.Equal(next.at) {
			heap.Pop(&t.queue)
			continue
		}
		select {
		case t.slots <- struct{}{}:
		default:
			return
		}
		heap.Pop(&t.queue)
		next.entry.busy, next.entry.news, next.entry.wake = true, false, time.Time{}
		mine := *next.entry
		w := &work{t: t, rules: t.opts.Databases[mine.id.Database], entry: &mine, statesFrom: t.statesFrom, full: t.used > fullFrom, tight: t.used > tightFrom}
		group.Go(func() {
			bounded, cancel := context.WithTimeout(ctx, workLimit)
			defer cancel()
			w.run(bounded)
			<-t.slots
			select {
			case t.results <- w.entry:
			case <-ctx.Done():
			}
		})
	}
}

// take takes over what a worker has read, written and found out.
func (t *Tracker) take(mine *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.entries[mine.key]
	e.busy = false
	if e.generation == mine.generation {
		if mine.record.last() >= e.record.last() || !mine.record.Exists && mine.record.Removed == 0 {
			e.record, e.definition, e.fault, e.readOf = mine.record, mine.definition, mine.fault, mine.readOf
		}
		if mine.state.Revision >= e.state.Revision || mine.state.Revision == 0 {
			e.state = mine.state
		}
	}
	if mine.problem != "" && mine.problem != e.problem {
		t.opts.Log.Warn("schedule does not fire", zap.String("schedule", e.key), zap.String("problem", mine.problem))
	}
	e.problem, e.failures = mine.problem, mine.failures
	switch {
	case e.news || e.generation != mine.generation:
		t.plan(e, time.Unix(1, 0))
	case e.gone():
		delete(t.entries, e.key)
	default:
		t.plan(e, mine.wake)
	}
}
