package results

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/report"
)

// Results are the stored results of one database. It is safe for concurrent use.
type Results struct {
	conn     *bus.Conn
	database string
	stream   string
	direct   string      // the subject of a direct get, without the job's id
	first    nats.Header // of every result: only the first one on its subject is taken. Never written to
	purged   atomic.Uint64
	room     atomic.Pointer[Room] // as it was looked at last
}

// Of gives access to the stored results of a database.
func Of(c *bus.Conn, database string) *Results {
	stream := c.Subjects().ResultsStream(database)
	return &Results{
		conn: c, database: database, stream: stream,
		direct: c.APIPrefix() + "DIRECT.GET." + stream + "." + c.Subjects().Result(database, ""),
		first:  nats.Header{bus.HeaderExpectedSequence: {"0"}},
	}
}

// Store offers the result of a job: the first writer wins. It publishes again while the outcome is not known, until
// the context ends; so Taken may mean our own earlier attempt, and the caller compares the bytes. Many goroutines
// may call it concurrently; Options.MaxInFlight bounds how many are under way.
func (r *Results) Store(ctx context.Context, jobID string, body []byte) (report.StoreVerdict, error) {
	return r.store(ctx, jobID, r.first, body)
}

// StoreTraced is Store with the W3C trace context that the result belongs to in its headers.
func (r *Results) StoreTraced(ctx context.Context, jobID, traceParent string, body []byte) (report.StoreVerdict, error) {
	return r.store(ctx, jobID, nats.Header{bus.HeaderExpectedSequence: {"0"}, contract.HeaderTraceParent: {traceParent}}, body)
}

func (r *Results) store(ctx context.Context, jobID string, header nats.Header, body []byte) (report.StoreVerdict, error) {
	if err := bus.CheckID(jobID); err != nil {
		return 0, err
	}
	// A message id would be answered "stored" although another payload is there, so there is none.
	msg := nats.Msg{Subject: r.conn.Subjects().Store(r.database, jobID), Header: header, Data: body}
	verdict, err := r.conn.PublishFirst(ctx, &msg)
	if err != nil {
		return 0, fmt.Errorf("store the result of %s: %w", r.database, err)
	}
	return verdict, nil
}

// StoredResult returns the stored result of a job, nil if there is none. It asks the stream's leader: a direct get
// may be answered by a replica that has not seen a result yet which others have already seen.
func (r *Results) StoredResult(ctx context.Context, jobID string) ([]byte, error) {
	if err := bus.CheckID(jobID); err != nil {
		return nil, err
	}
	m, err := bus.GetMessage(ctx, r.conn, r.stream, bus.GetRequest{LastFor: r.conn.Subjects().Result(r.database, jobID)})
	if err != nil {
		return nil, fmt.Errorf("read the stored result: %w", err)
	}
	if m == nil {
		return nil, nil
	}
	if m.Data == nil {
		m.Data = []byte{}
	}
	return m.Data, nil
}

// directGetTimeout bounds a HasResult, which can always be replaced by StoredResult.
const directGetTimeout = time.Second

// HasResult reports whether a job has a stored result, as any replica knows it: on a cluster it may miss one of the last
// moment. It spares the server's API and is tried only once.
func (r *Results) HasResult(ctx context.Context, jobID string) (bool, error) {
	if err := bus.CheckID(jobID); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, directGetTimeout)
	defer cancel()
	answer, err := r.conn.Request(ctx, &nats.Msg{Subject: r.direct + jobID})
	if err != nil {
		return false, fmt.Errorf("direct get of the result: %w", err)
	}
	return bus.FoundDirect(answer)
}

// GetDirect returns the stored result of a job from any replica, nil if it has none yet. For clients that ask
// again anyway: it needs only the right to DIRECT.GET and spares the leader.
func (r *Results) GetDirect(ctx context.Context, jobID string) ([]byte, error) {
	if err := bus.CheckID(jobID); err != nil {
		return nil, err
	}
	m, err := bus.DirectGet(ctx, r.conn, r.direct+jobID, nil)
	if err != nil || m == nil {
		return nil, err
	}
	return m.Data, nil
}

// Room is how much of its limits a results stream uses.
type Room struct {
	Messages    uint64
	MaxMessages uint64 // 0 = no limit
	Bytes       uint64
	MaxBytes    uint64 // 0 = no limit
}

// Used is the larger share of both limits: 1 means that nothing more fits.
func (r Room) Used() float64 {
	return max(share(r.Messages, r.MaxMessages), share(r.Bytes, r.MaxBytes))
}

// Free reports whether there is room again for results of a given size after the stream was full.
func (r Room) Free(size int) bool {
	return (r.MaxMessages == 0 || r.Messages < r.MaxMessages) &&
		(r.MaxBytes == 0 || r.Bytes+uint64(max(size, 0))+messageOverhead <= r.MaxBytes)
}

// messageOverhead is more than what a stored message takes beside its subject, headers and body, in bytes.
const messageOverhead = 512

func share(n, limit uint64) float64 {
	if limit == 0 {
		return 0
	}
	return float64(n) / float64(limit)
}

// Room asks the server how full the results stream is.
func (r *Results) Room(ctx context.Context) (Room, error) {
	info, err := bus.StreamInfo(ctx, r.conn, r.stream)
	if err != nil {
		return Room{}, fmt.Errorf("room for results: %w", err)
	}
	return *roomOf(info), nil
}

// SeenRoom is how full the results stream was when RunRetention looked last, which costs no request; false before that.
func (r *Results) SeenRoom() (Room, bool) {
	if seen := r.room.Load(); seen != nil {
		return *seen, true
	}
	return Room{}, false
}

func roomOf(info *jetstream.StreamInfo) *Room {
	return &Room{
		Messages: info.State.Msgs, MaxMessages: uint64(max(info.Config.MaxMsgs, 0)),
		Bytes: info.State.Bytes, MaxBytes: uint64(max(info.Config.MaxBytes, 0)),
	}
}

// Purged is how many results this connection's retention has removed before their maximum age.
func (r *Results) Purged() uint64 { return r.purged.Load() }
