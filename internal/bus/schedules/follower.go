package schedules

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

const (
	wholeEvery   = 5 * time.Minute  // everything is read again: what was purged by hand is gone
	restoreEvery = 10 * time.Second // between two attempts to create a bucket that is missing
	batchSize    = 500              // entries that one request reads
	batchFrom    = 16               // sequences that may be new, from which on they are read in batches
	batchWait    = 2 * time.Second  // for the next entry of a batch
)

// Entry is an entry of a key.
type Entry struct {
	Key      string
	Value    []byte
	Sequence uint64
	Time     time.Time // by the server's clock
	Deleted  bool      // it is a delete marker
}

// News is what a reading found.
type News struct {
	Entries []Entry // in the order of the stream
	All     bool    // they are all that there is: what was known before counts no more
	Again   bool    // the bucket is another one than before
	Created time.Time
	Used    float64 // share of the bucket's size

	Server          time.Time // the server's clock, between the next two
	Asked, Answered time.Time // this process's clock
}

// Follower reads the entries of a bucket: all of them, and later what is new. It belongs to one goroutine.
type Follower struct {
	conn   *bus.Conn
	now    func() time.Time
	stream string
	prefix string // of the subjects, before the key
	filter string // of the keys

	created  time.Time // of the stream; zero: it was never read
	next     uint64    // the first sequence that was not read
	whole    time.Time // when everything was read last
	renewals uint64    // of the link then
	restored time.Time // when we tried to create it last
}

// Records returns the follower of the bucket of records. now is this process's clock.
func Records(c *bus.Conn, now func() time.Time) *Follower {
	s := c.Subjects()
	return &Follower{conn: c, now: now, stream: bus.SchedulesStream(s), prefix: bus.SchedulesKey(s, ""), filter: ">"}
}

// States returns the follower of the states of schedules.
func States(c *bus.Conn, now func() time.Time) *Follower {
	s := c.Subjects()
	return &Follower{conn: c, now: now, stream: bus.StateStream(s), prefix: bus.StateKey(s, ""), filter: "schedule.>"}
}

// Pauses returns the follower of the pauses of schedules.
func Pauses(c *bus.Conn, now func() time.Time) *Follower {
	s := c.Subjects()
	return &Follower{conn: c, now: now, stream: bus.StateStream(s), prefix: bus.StateKey(s, ""), filter: "pause.*.schedule.>"}
}

// Read reads what is new since the last call, from the stream's leader. After an error, the next call reads it again.
func (f *Follower) Read(ctx context.Context) (*News, error) {
	ctx, unwatch := f.conn.WhileLinked(ctx)
	defer unwatch()
	renewals, _ := f.conn.Link()
	asked := f.now()
	info, err := f.info(ctx)
	if err != nil {
		return nil, err
	}
	news := &News{Created: info.Created, Used: used(info), Server: info.TimeStamp, Asked: asked, Answered: f.now()}
	state := &info.State
	news.Again = !f.created.IsZero() && (!info.Created.Equal(f.created) || state.LastSeq+1 < f.next)
	news.All = news.Again || f.created.IsZero() || renewals != f.renewals || asked.Sub(f.whole) >= wholeEvery
	from := f.next
	if news.All {
		from = 1
	}
	if state.LastSeq+1 == from {
		return news, nil
	}
	next, err := f.readFrom(ctx, max(from, 1), state.LastSeq, news)
	if err != nil {
		return nil, err
	}
	f.created, f.next = info.Created, max(next, state.LastSeq+1)
	if news.All {
		f.whole, f.renewals = asked, renewals
	}
	return news, nil
}

// info asks for the state of the stream, and creates it where that is our task, once in a while: the server may refuse it.
func (f *Follower) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	err := f.conn.API(ctx, "STREAM.INFO."+f.stream, nil, &info)
	restore := f.conn.Restorer()
	if !errors.Is(err, bus.ErrNotFound) || restore == nil || f.now().Sub(f.restored) < restoreEvery {
		return &info, err
	}
	f.restored = f.now()
	f.conn.Log().Error("bucket missing; creating it", zap.String("stream", f.stream))
	if err := restore(ctx); err != nil {
		return nil, err
	}
	return &info, f.conn.API(ctx, "STREAM.INFO."+f.stream, nil, &info)
}

func used(info *jetstream.StreamInfo) float64 {
	if info.Config.MaxBytes <= 0 {
		return 0
	}
	return float64(info.State.Bytes) / float64(info.Config.MaxBytes)
}

// readFrom reads the entries from a sequence on, and returns the sequence after the last. Batches are read from any replica,
// which may lag behind; what is left comes from the leader.
func (f *Follower) readFrom(ctx context.Context, from, last uint64, news *News) (next uint64, err error) {
	for next = from; last >= batchFrom && next <= last-batchFrom; {
		read, more, err := f.batch(ctx, next, news)
		if err != nil {
			f.conn.Log().Debug("batch not read; reading single entries", zap.String("stream", f.stream), zap.Error(err))
		}
		next = max(next, read)
		if err != nil || !more {
			break
		}
	}
	for {
		m, err := bus.GetMessage(ctx, f.conn, f.stream, bus.GetRequest{Sequence: next, NextFor: f.prefix + f.filter})
		if m == nil || err != nil {
			return next, err
		}
		news.Entries = append(news.Entries, f.entry(m))
		next = m.Sequence + 1
	}
}

func (f *Follower) entry(m *bus.StoredMessage) Entry {
	return Entry{
		Key: strings.TrimPrefix(m.Subject, f.prefix), Value: m.Data, Sequence: m.Sequence, Time: m.Time, Deleted: Deleted(m),
	}
}

// batch reads a batch of entries, and returns the sequence after the last one, and whether there are more.
func (f *Follower) batch(ctx context.Context, from uint64, news *News) (next uint64, more bool, err error) {
	request, err := json.Marshal(map[string]any{"seq": from, "next_by_subj": f.prefix + f.filter, "batch": batchSize})
	if err != nil {
		return 0, false, err
	}
	nc := f.conn.NATS()
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return 0, false, bus.ClosedAs(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is closed
	if err := nc.PublishRequest(f.conn.APIPrefix()+"DIRECT.GET."+f.stream, inbox, request); err != nil {
		return 0, false, bus.ClosedAs(err)
	}
	for {
		bounded, cancel := context.WithTimeout(ctx, batchWait)
		m, err := sub.NextMsgWithContext(bounded)
		cancel()
		if err != nil {
			return next, false, fmt.Errorf("read a batch: %w", err)
		}
		if status := m.Header.Get("Status"); status != "" {
			pending := m.Header.Get("Nats-Num-Pending")
			return next, status == "204" && pending != "" && pending != "0", nil
		}
		e, err := f.direct(m)
		if err != nil {
			return next, false, err
		}
		news.Entries = append(news.Entries, e)
		next = e.Sequence + 1
	}
}

// direct is the entry in an answer to a direct get.
func (f *Follower) direct(m *nats.Msg) (Entry, error) {
	sequence, err := strconv.ParseUint(m.Header.Get("Nats-Sequence"), 10, 64)
	stored, err2 := time.Parse(time.RFC3339Nano, m.Header.Get("Nats-Time-Stamp"))
	if err := errors.Join(err, err2); err != nil {
		return Entry{}, fmt.Errorf("answer to a direct get: %w", err)
	}
	return Entry{
		Key: strings.TrimPrefix(m.Header.Get("Nats-Subject"), f.prefix), Value: m.Data, Sequence: sequence, Time: stored,
		Deleted: marks(m.Header.Get(headerOperation)),
	}, nil
}

// headerOperation marks an entry of a key-value bucket that was deleted.
const headerOperation = "KV-Operation"

func marks(operation string) bool { return operation != "" && operation != "PUT" }

// Deleted reports whether an entry is the mark of a key that was taken out of the bucket.
func Deleted(m *bus.StoredMessage) bool {
	if len(m.Headers) == 0 {
		return false
	}
	h, err := nats.DecodeHeadersMsg(m.Headers)
	return err == nil && marks(h.Get(headerOperation))
}
