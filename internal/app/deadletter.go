package app

import (
	"context"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/bus/deadletters"
	"dbrunner/internal/delivery"
)

// ownPrefix is what the names of a dead letter's own headers begin with. A job's header of such a name is kept as data
// under another one, so that no job can forge a header of a dead letter.
const ownPrefix = "dbrunner-"

// deadLetterOutbox is one database's worker.Outbox.
type deadLetterOutbox struct {
	conn   *bus.Conn
	runner string
}

// Reply publishes to a validated reply subject, best effort.
func (o *deadLetterOutbox) Reply(subject string, body []byte) error {
	return o.conn.Reply(subject, body)
}

// PublishDeadLetter stores a dead letter.
func (o *deadLetterOutbox) PublishDeadLetter(ctx context.Context, d *delivery.Delivery, deadLetter *delivery.DeadLetter) error {
	h := make(map[string][]string, len(d.Headers)+11)
	for name, values := range d.Headers {
		if strings.HasPrefix(strings.ToLower(name), ownPrefix) {
			name = contract.HeaderOriginal + name
		}
		h[name] = values
	}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(contract.HeaderJobID, deadLetter.JobID)
	set(contract.HeaderReason, deadLetter.Reason)
	set(contract.HeaderCode, deadLetter.Code)
	set(contract.HeaderMessage, deadLetter.Message)
	set(contract.HeaderFaults, string(deadLetter.Faults))
	set(contract.HeaderResultID, deadLetter.ResultID)
	set(contract.HeaderSequence, strconv.FormatUint(d.Sequence, 10))
	set(contract.HeaderQueuedAt, d.Timestamp.UTC().Format(time.RFC3339Nano))
	set(contract.HeaderDeliveries, strconv.FormatUint(d.Deliveries, 10))
	set(contract.HeaderRunner, o.runner)
	set(contract.HeaderSubject, d.Subject)
	return deadletters.Publish(ctx, o.conn, d.Database, d.Kind, deadLetter.DerivedID, h, d.Body)
}
