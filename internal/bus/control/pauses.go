package control

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/report"
)

// How the bucket of pauses is read.
const (
	pausesEvery  = 500 * time.Millisecond // half of what a pause may take, in addition to announcements, which may be lost
	wholeEvery   = time.Minute            // everything is read again: what was purged by hand is no pause
	restoreEvery = 10 * time.Second       // between two attempts to create a bucket that is missing
	recreatedFor = time.Hour              // so long health reports that the bucket was recreated
)

// pauseEntry is the last entry of a key in the bucket.
type pauseEntry struct {
	value    []byte
	sequence uint64
	stored   time.Time // by the server's clock
	ended    bool      // a delete marker: the pause is over
}

// PausesOptions configures Pauses.
type PausesOptions struct {
	Conn      *bus.Conn
	Databases []string // whose pauses are obeyed
	// Apply makes a database's pauses effective; none: it is not paused. It is called by one goroutine, before the pauses are
	// reported, and before intakes pull over a link that was renewed.
	Apply func(database string, pauses []report.Pause)
	// Age is the age of an entry; nil: by the server's clock.
	Age func(now, stored time.Time) time.Duration
}

// Pauses are the operators' pauses of some databases, kept in a key-value bucket, which each runner reads into memory. A
// pause lasts as long as its key exists. What was read stays in force while the bucket is missing or cannot be read. Pauses
// that a recreated bucket lacks are put back. It is safe for concurrent use.
type Pauses struct {
	opts PausesOptions
	conn *bus.Conn
	*follower

	state sync.RWMutex
	shown map[string][]report.Pause // by database; what Apply got
	about string                    // what is wrong with the bucket; empty: nothing

	// Of the reading goroutine.
	entries   map[string]pauseEntry // by key
	lost      map[string]pauseEntry // pauses of an earlier bucket that this one lacks
	applied   map[string][]report.Pause
	created   time.Time // of the bucket's stream; zero: it was never read
	recreated time.Time // when we noticed it, by our clock; zero: it was not
	next      uint64    // the first sequence that was not read
	messages  uint64    // in the stream, when it was read last
	first     uint64    // the stream's first sequence then
	whole     time.Time // when everything was read last
	wholeOver uint64    // renewals of the link then
	failing   time.Time // since when it cannot be read; zero: it can
	restored  time.Time // when we tried to create it last
}

// NewPauses makes the pauses of some databases. Run reads them; from then on no lane of this connection pulls after a renewed
// link before they have been read again. It is called once, before the intakes run.
func NewPauses(opts PausesOptions) *Pauses {
	p := &Pauses{
		opts: opts, conn: opts.Conn, follower: newFollower(opts.Conn, "the pauses"),
		shown: map[string][]report.Pause{}, entries: map[string]pauseEntry{}, lost: map[string]pauseEntry{},
		applied: map[string][]report.Pause{},
	}
	if p.opts.Age == nil {
		p.opts.Age = time.Time.Sub
	}
	opts.Conn.AddReady(p.Ready)
	return p
}

// Of returns the pauses of a database that are in force.
func (p *Pauses) Of(database string) []report.Pause {
	p.state.RLock()
	defer p.state.RUnlock()
	return p.shown[database]
}

// Trouble returns what is wrong with the bucket; empty: nothing.
func (p *Pauses) Trouble() string {
	p.state.RLock()
	defer p.state.RUnlock()
	return p.about
}

// Run reads pauses until the context ends. It returns nil, or why it cannot subscribe.
func (p *Pauses) Run(ctx context.Context) error {
	return p.follow(ctx, p.conn.Subjects().State("pause.>"), pausesEvery, p.poll)
}

// poll reads what is new, from the stream's leader, makes it effective and reports it.
func (p *Pauses) poll(ctx context.Context, failed int) error {
	linked, unwatch := p.conn.WhileLinked(ctx)
	defer unwatch()
	renewals, connected := p.conn.Link()
	if !connected {
		return errNoLink
	}
	bounded, cancel := context.WithTimeout(linked, limitOf(!p.created.IsZero(), failed))
	defer cancel()
	info, err := p.readNew(bounded, renewals)
	if err == nil {
		p.putBack(bounded)
	}
	p.apply()
	// Without a bucket, nothing is paused but what was before. A runner that was never permitted to read it works as one of an
	// earlier release does: it confirms no pause, and reports that.
	if err == nil || errors.Is(err, bus.ErrNotFound) || errors.Is(err, bus.ErrDenied) && p.created.IsZero() {
		p.caughtUp(renewals)
	}
	if ctx.Err() == nil {
		p.judge(info, err)
	}
	return err
}

// readNew reads the entries that are new, or all of them.
func (p *Pauses) readNew(ctx context.Context, renewals uint64) (*jetstream.StreamInfo, error) {
	stream := bus.StateStream(p.conn.Subjects())
	info, err := p.info(ctx, stream)
	if err != nil {
		return nil, err
	}
	state := &info.State
	another := !p.created.IsZero() && (!info.Created.Equal(p.created) || state.LastSeq+1 < p.next)
	unchanged := state.LastSeq+1 == p.next
	all := another || p.created.IsZero() || renewals != p.wholeOver || time.Since(p.whole) >= wholeEvery ||
		unchanged && (state.Msgs != p.messages || state.FirstSeq != p.first) // purged
	if unchanged && !all {
		return info, nil
	}
	from, found := p.next, p.entries
	if all {
		from, found = 1, map[string]pauseEntry{}
	}
	next, err := p.read(ctx, stream, from, found)
	if err == nil && !all {
		err = p.dropPurged(ctx, stream)
	}
	if err != nil {
		return info, err // what was read of an unfinished whole is not taken over
	}
	if another {
		p.recreated = time.Now()
		p.conn.Log().Error("bucket of pauses recreated; putting back the pauses that this runner knows")
		for key, e := range p.entries {
			if _, known := p.lost[key]; !known && !e.ended {
				p.lost[key] = e
			}
		}
	}
	p.entries, p.created, p.next = found, info.Created, max(next, state.LastSeq+1)
	p.messages, p.first = state.Msgs, state.FirstSeq
	if all {
		p.whole, p.wholeOver = time.Now(), renewals
		p.sweep(ctx, info)
	}
	return info, nil
}

// info asks for the state of the stream behind the bucket, and creates it where that is our task, once in a while: the
// server may refuse it.
func (p *Pauses) info(ctx context.Context, stream string) (*jetstream.StreamInfo, error) {
	info, err := readInfo(ctx, p.conn, stream)
	restore := p.conn.Restorer()
	if !errors.Is(err, bus.ErrNotFound) || restore == nil || time.Since(p.restored) < restoreEvery {
		return info, err
	}
	p.restored = time.Now()
	p.conn.Log().Error("bucket of pauses missing; creating it")
	if err := restore(ctx); err != nil {
		return nil, err
	}
	return readInfo(ctx, p.conn, stream)
}

// read reads the entries of pauses from a sequence on until there are no more, and returns the sequence after the last. A key
// whose entry is replaced meanwhile has a later one: none is missed.
func (p *Pauses) read(ctx context.Context, stream string, from uint64, into map[string]pauseEntry) (next uint64, err error) {
	prefix := bus.StateKey(p.conn.Subjects(), "")
	for next = from; ; {
		m, err := bus.GetMessage(ctx, p.conn, stream, bus.GetRequest{Sequence: max(next, 1), NextFor: prefix + "pause.>"})
		if m == nil || err != nil {
			return next, err
		}
		into[strings.TrimPrefix(m.Subject, prefix)] = pauseEntry{value: m.Data, sequence: m.Sequence, stored: m.Time, ended: deleted(m)}
		next = m.Sequence + 1
	}
}

// dropPurged drops the pauses in force here whose records are not there any more, as after a purge by hand: among other
// entries that were written, nothing else shows it.
func (p *Pauses) dropPurged(ctx context.Context, stream string) error {
	for key, e := range p.entries {
		target, ok := contract.ParsePauseKey(key)
		if !ok || e.ended || !slices.Contains(p.opts.Databases, target.Database) {
			continue
		}
		m, err := bus.GetMessage(ctx, p.conn, stream, bus.GetRequest{LastFor: bus.StateKey(p.conn.Subjects(), key)})
		if err != nil {
			return err
		}
		if m == nil {
			delete(p.entries, key)
		}
	}
	return nil
}

// putBack stores the pauses of an earlier bucket that this one lacks, unless their key was written after them: the end of a
// pause counts.
func (p *Pauses) putBack(ctx context.Context) {
	for _, key := range slices.Sorted(maps.Keys(p.lost)) {
		old := p.lost[key]
		now, there := p.entries[key]
		if there && (!now.ended || now.stored.After(old.stored)) {
			delete(p.lost, key)
			continue
		}
		sequence, err := storePause(ctx, p.conn, key, old.value, now.sequence)
		switch {
		case err == nil:
			delete(p.lost, key)
			p.entries[key] = pauseEntry{value: old.value, sequence: sequence, stored: old.stored}
			p.conn.Log().Warn("pause put back into the recreated bucket", zap.String("key", key))
		case errors.Is(err, ErrPauseChanged): // by another runner or an operator: it is read next
		default:
			p.conn.Log().Warn("pause not put back; it stays in force here", zap.String("key", key), zap.Error(err))
		}
		signal(p.news)
	}
}

// apply makes effective what has changed, and reports it then.
func (p *Pauses) apply() {
	effective := maps.Clone(p.entries)
	for key, e := range p.lost {
		if now, there := effective[key]; !there || now.ended {
			effective[key] = e
		}
	}
	found := make(map[string][]report.Pause)
	for _, key := range slices.Sorted(maps.Keys(effective)) {
		e := effective[key]
		if target, ok := contract.ParsePauseKey(key); ok && !e.ended {
			found[target.Database] = append(found[target.Database], e.pause(key))
		}
	}
	for _, database := range p.opts.Databases {
		before, now := p.applied[database], found[database]
		if slices.Equal(before, now) {
			continue
		}
		p.announce(database, before, now)
		p.opts.Apply(database, now)
		p.applied[database] = now
		p.state.Lock()
		p.shown[database] = now
		p.state.Unlock()
	}
}

// pause is the pause that an entry is.
func (e *pauseEntry) pause(key string) report.Pause {
	out := report.Pause{ActivePause: contract.ActivePause{Key: key, Revision: e.sequence}, Since: e.stored}
	record, err := contract.ReadPause(e.value)
	if err != nil {
		out.Reason = "the record " + key + " cannot be read: " + err.Error()
		return out
	}
	out.Reason, out.By = printable(record.Reason), printable(record.By)
	return out
}

func (p *Pauses) announce(database string, before, now []report.Pause) {
	log := p.conn.Log().With(zap.String("database", database))
	for i := range now {
		log.Warn("paused by an operator", zap.String("key", now[i].Key), zap.Uint64("revision", now[i].Revision),
			zap.String("reason", now[i].Reason), zap.String("by", now[i].By))
	}
	for i := range before {
		if !slices.ContainsFunc(now, func(n report.Pause) bool { return n.Key == before[i].Key }) {
			log.Info("resumed", zap.String("key", before[i].Key))
		}
	}
}
