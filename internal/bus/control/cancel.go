package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"dbrunner/internal/bus"
)

// controlEvery is how often requests to cancel are looked for, in addition to announcements: that is a core message,
// which may be lost.
const controlEvery = 2 * time.Second

// headerOperation marks an entry of a key-value bucket that was deleted.
const headerOperation = "KV-Operation"

// cancelKey names a job.
type cancelKey struct{ database, jobID string }

// cancelRequest is an open request: when it was made, by the server's clock, and where the bucket has it.
type cancelRequest struct {
	asked    time.Time
	sequence uint64
}

// Cancellations are the open requests to cancel jobs of some databases: kept in a key-value bucket, read by each runner
// into memory. A request counts for messages that were stored before it; both times are the NATS servers' own. It is open
// as long as the bucket keeps it, which the bucket alone decides: no clock of a runner has a part in it. It is safe for
// concurrent use.
type Cancellations struct {
	conn      *bus.Conn
	databases map[string]bool
	changed   chan struct{}
	count     atomic.Int64 // of open, for the hot path
	*follower

	mu    sync.RWMutex
	open  map[cancelKey]cancelRequest
	added map[string]bool // databases with requests that are not announced yet

	// Of the reading goroutine.
	created time.Time // of the bucket's stream
	next    uint64    // the first sequence that was not read
	failing bool      // announced already
}

// NewCancellations makes this connection's open requests for some databases. Run reads them; from then on no lane of this
// connection pulls after a renewed link before they have been read again. It is called once, before the intakes run.
func NewCancellations(c *bus.Conn, databases []string) *Cancellations {
	n := &Cancellations{
		conn: c, databases: make(map[string]bool, len(databases)),
		changed: make(chan struct{}, 1),
		open:    make(map[cancelKey]cancelRequest), added: make(map[string]bool), next: 1,
		follower: newFollower(c, "the cancel requests"),
	}
	for _, name := range databases {
		n.databases[name] = true
	}
	c.AddReady(n.Ready)
	return n
}

// RequestCancel keeps a request to cancel a job and returns once the bucket has it. A later one for the same job
// replaces it. ErrStreamFull: there are too many.
func RequestCancel(ctx context.Context, c *bus.Conn, database, jobID string, value []byte) error {
	if err := errors.Join(bus.CheckName("database", database), bus.CheckID(jobID)); err != nil {
		return err
	}
	msg := nats.Msg{Subject: bus.ControlSubject(c, database+"."+jobID), Data: value}
	err := c.PublishCertainly(ctx, &msg)
	if err != nil {
		return fmt.Errorf("store the cancel request: %w", err)
	}
	return nil
}

// Requested reports whether the end of a job was asked for after its message was stored.
func (n *Cancellations) Requested(database, jobID string, stored time.Time) bool {
	if n.count.Load() == 0 {
		return false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	request, open := n.open[cancelKey{database, jobID}]
	return open && stored.Before(request.asked)
}

// Open is the number of open requests for these databases.
func (n *Cancellations) Open() int { return int(n.count.Load()) }

// Changed gets a token after requests were added.
func (n *Cancellations) Changed() <-chan struct{} { return n.changed }

// Added names the databases that got requests since the last call.
func (n *Cancellations) Added() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := slices.Sorted(maps.Keys(n.added))
	clear(n.added)
	return names
}

// Run reads requests until the context ends. It returns nil, or why it cannot subscribe.
func (n *Cancellations) Run(ctx context.Context) error {
	return n.follow(ctx, n.conn.Subjects().Control(">"), controlEvery, n.poll)
}

// poll reads what is new, from the stream's leader, and goes on where the last attempt ended.
func (n *Cancellations) poll(ctx context.Context, failed int) error {
	linked, unwatch := n.conn.WhileLinked(ctx)
	defer unwatch()
	renewals, connected := n.conn.Link()
	if !connected {
		return errNoLink
	}
	bounded, cancel := context.WithTimeout(linked, limitOf(!n.created.IsZero(), failed))
	defer cancel()
	err := n.readNew(bounded)
	if err == nil || errors.Is(err, bus.ErrNotFound) { // no bucket holds no requests
		n.caughtUp(renewals)
	}
	if err != nil && ctx.Err() == nil && !n.failing {
		n.conn.Log().Warn("cancel requests not read; retrying", zap.Error(err))
	}
	n.failing = err != nil
	return err
}

func (n *Cancellations) readNew(ctx context.Context) error {
	info, err := n.info(ctx)
	if err != nil {
		return err
	}
	if !info.Created.Equal(n.created) || info.State.LastSeq+1 < n.next {
		n.created, n.next = info.Created, 1
		n.forgetBefore(math.MaxUint64)
	}
	stream, all := info.Config.Name, bus.ControlKey(n.conn.Subjects(), ">")
	for n.next <= info.State.LastSeq {
		m, err := bus.GetMessage(ctx, n.conn, stream, bus.GetRequest{Sequence: n.next, NextFor: all})
		if err != nil {
			return err
		}
		if m == nil { // what was left has gone meanwhile
			n.next = info.State.LastSeq + 1
			break
		}
		n.take(m)
		n.next = m.Sequence + 1
	}
	n.forgetBefore(info.State.FirstSeq)
	return nil
}

// info asks for the bucket's state, and creates it again where that is our task.
func (n *Cancellations) info(ctx context.Context) (*jetstream.StreamInfo, error) {
	stream := bus.ControlStream(n.conn.Subjects())
	info, err := readInfo(ctx, n.conn, stream)
	if restore := n.conn.Restorer(); errors.Is(err, bus.ErrNotFound) && restore != nil {
		n.conn.Log().Error("bucket of cancel requests deleted; creating it again")
		if err = restore(ctx); err == nil {
			info, err = readInfo(ctx, n.conn, stream)
		}
	}
	return info, err
}

// readInfo asks for the state of the stream behind a bucket, once.
func readInfo(ctx context.Context, c *bus.Conn, stream string) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	if err := c.API(ctx, "STREAM.INFO."+stream, nil, &info); err != nil {
		return nil, err
	}
	return &info, nil
}

// take takes over one entry of the bucket.
func (n *Cancellations) take(m *bus.StoredMessage) {
	key := strings.TrimPrefix(m.Subject, bus.ControlKey(n.conn.Subjects(), ""))
	database, jobID, ok := strings.Cut(key, ".")
	if !ok || !n.databases[database] || strings.Contains(jobID, ".") { // no job's
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if deleted(m) {
		delete(n.open, cancelKey{database, jobID})
	} else {
		n.open[cancelKey{database, jobID}] = cancelRequest{m.Time, m.Sequence}
		n.added[database] = true
		signal(n.changed)
	}
	n.count.Store(int64(len(n.open)))
}

// deleted reports whether an entry is the mark of a key that was taken out of the bucket.
func deleted(m *bus.StoredMessage) bool {
	if len(m.Headers) == 0 {
		return false
	}
	h, err := nats.DecodeHeadersMsg(m.Headers)
	return err == nil && h.Get(headerOperation) != "" && h.Get(headerOperation) != "PUT"
}

// forgetBefore forgets the requests below a sequence: the bucket has them no more, because of their age or a purge.
func (n *Cancellations) forgetBefore(first uint64) {
	if n.count.Load() == 0 {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for key, request := range n.open {
		if request.sequence < first {
			delete(n.open, key)
		}
	}
	n.count.Store(int64(len(n.open)))
}
