package intake

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/bus"
)

// orphanKey is in the keys of the bucket of requests to cancel that hold leases of orphans, between the database and the
// sequence of the message. Ids of jobs have no dots.
const orphanKey = ".orphan."

// orphanCount is what the bucket holds of an orphan.
type orphanCount struct {
	Version    int       `json:"version"`
	Stored     time.Time `json:"stored"` // of the message: a stream that was recreated starts its sequences again
	Deliveries uint64    `json:"deliveries"`
	Holder     string    `json:"holder"` // a random word for each delivery
}

// orphanLease is the right to work on an orphan for AckWait since it was last written, by the server's clock. One goroutine at a
// time renews it.
type orphanLease struct {
	conn     *bus.Conn
	key      string
	count    orphanCount
	sequence uint64 // of the last write
}

var errOrphanTaken = errors.New("another runner has redelivered the message")

// leaseOrphan counts one more delivery of an orphan; nil if another runner has it at this moment. now is the server's time.
func (i *Intake) leaseOrphan(ctx context.Context, m *bus.StoredMessage, now time.Time) (*orphanLease, error) {
	l := &orphanLease{
		conn: i.conn, key: i.database + orphanKey + strconv.FormatUint(m.Sequence, 10),
		count: orphanCount{Version: 1, Stored: m.Time, Deliveries: orphanDelivery, Holder: rand.Text()},
	}
	last, before, err := l.read(ctx)
	if err != nil {
		return nil, err
	}
	if last != nil {
		l.sequence = last.Sequence
	}
	if before.Stored.Equal(m.Time) {
		if now.Sub(last.Time) < i.AckWait() {
			return nil, nil
		}
		l.count.Deliveries = max(before.Deliveries+1, orphanDelivery)
	}
	err = l.write(ctx)
	if errors.Is(err, errOrphanTaken) {
		return nil, nil
	}
	if err != nil { // it may be written all the same: then it is counted, and taken up by a later scan
		return nil, err
	}
	return l, nil
}

// read reads what the bucket has, zero where that is no count.
func (l *orphanLease) read(ctx context.Context) (last *bus.StoredMessage, count orphanCount, err error) {
	last, err = bus.GetMessage(ctx, l.conn, bus.ControlStream(l.conn.Subjects()), bus.GetRequest{LastFor: bus.ControlKey(l.conn.Subjects(), l.key)})
	if err != nil {
		return nil, count, fmt.Errorf("read the deliveries of a message: %w", err)
	}
	if last == nil || json.Unmarshal(last.Data, &count) != nil {
		return last, orphanCount{}, nil
	}
	return last, count, nil
}

// write writes the lease over its last state; errOrphanTaken if another process has written since, or, on a cluster, is about to.
func (l *orphanLease) write(ctx context.Context) error {
	body, err := json.Marshal(l.count)
	if err != nil {
		return err
	}
	ack, err := l.conn.Publish(ctx, &nats.Msg{
		Subject: bus.ControlSubject(l.conn, l.key), Data: body,
		Header: nats.Header{bus.HeaderExpectedSequence: {strconv.FormatUint(l.sequence, 10)}},
	})
	switch {
	case bus.HasCode(err, bus.CodeWrongLastSequence), bus.HasCode(err, bus.CodeWriteInFlight):
		return errOrphanTaken
	case err != nil:
		return fmt.Errorf("count a delivery of a message: %w", err)
	}
	l.sequence = ack.Sequence
	return nil
}

// renew extends the lease. An earlier renewal whose answer was lost may be what is in the way.
func (l *orphanLease) renew(ctx context.Context) error {
	err := l.write(ctx)
	if !errors.Is(err, errOrphanTaken) {
		return err
	}
	last, count, readErr := l.read(ctx)
	switch {
	case readErr != nil:
		return readErr
	case last == nil || count.Holder != l.count.Holder:
		return err
	}
	l.sequence = last.Sequence
	return l.write(ctx)
}
