package bus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/report"
)

// HeartbeatPublisher publishes heartbeats on one subject, of which the stream keeps the last one. One goroutine uses it.
type HeartbeatPublisher struct {
	conn    *Conn
	subject string
	last    uint64 // sequence of our last heartbeat there; 0: not known, so that it proves nothing
}

// RunnerHeartbeats is for what a runner says of itself.
func RunnerHeartbeats(c *Conn, instance string) (*HeartbeatPublisher, error) {
	if err := CheckName("instance", instance); err != nil {
		return nil, err
	}
	return &HeartbeatPublisher{conn: c, subject: c.subjects.RunnerHealth(instance)}, nil
}

// DatabaseHeartbeats is for what a runner says of a database.
func DatabaseHeartbeats(c *Conn, database, instance string) (*HeartbeatPublisher, error) {
	if err := errors.Join(CheckName("database", database), CheckName("instance", instance)); err != nil {
		return nil, err
	}
	return &HeartbeatPublisher{conn: c, subject: c.subjects.DatabaseHealth(database, instance)}, nil
}

// Publish publishes a heartbeat, once. shared: since our last one another process has published there, so that there is
// another process with this runner's instance name. The heartbeat is published all the same.
func (b *HeartbeatPublisher) Publish(ctx context.Context, body []byte) (shared bool, err error) {
	msg := nats.Msg{Subject: b.subject, Data: body}
	if b.last > 0 {
		msg.Header = nats.Header{HeaderExpectedSequence: {strconv.FormatUint(b.last, 10)}}
	}
	ack, err := b.conn.Publish(ctx, &msg)
	if b.last > 0 && (HasCode(err, CodeWrongLastSequence) || HasCode(err, CodeWriteInFlight)) {
		shared = publishedByOther(err)
		msg.Header = nil
		ack, err = b.conn.Publish(ctx, &msg)
	}
	b.last = ack.Sequence // after an error its outcome is unknown
	if err != nil {
		return shared, fmt.Errorf("publish the heartbeat: %w", err)
	}
	return shared, nil
}

// publishedByOther distinguishes a later message of another process from none at all: ours may have gone, by its age or by an
// operator's hand. The server says the sequence that it has in words.
func publishedByOther(err error) bool {
	var api *APIError
	if !errors.As(err, &api) || api.ErrCode != CodeWrongLastSequence {
		return false
	}
	_, have, _ := strings.Cut(api.Description, ": ")
	return strings.Trim(have, " ") != "0"
}

// ReadLag asks the server how far a lane is behind. It asks once, without a retry.
func ReadLag(ctx context.Context, c *Conn, database, lane string) (report.Lag, error) {
	var info struct {
		Pending     uint64 `json:"num_pending"`
		AckPending  int    `json:"num_ack_pending"`
		Redelivered int    `json:"num_redelivered"`
	}
	if err := c.API(ctx, "CONSUMER.INFO."+c.subjects.JobsStream(database)+"."+lane, nil, &info); err != nil {
		return report.Lag{}, fmt.Errorf("lag of lane %s of %s: %w", lane, database, err)
	}
	return report.Lag{Pending: info.Pending, AckPending: info.AckPending, Redelivered: info.Redelivered, At: time.Now()}, nil
}
