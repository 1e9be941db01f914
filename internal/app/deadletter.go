package app

import (
	"context"
	"strconv"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/jobs"
)

// The headers of a dead letter that say why it is there. The letter's payload is the job's body, unchanged.
const (
	HeaderJobID      = contract.HeaderJobID
	HeaderReason     = contract.HeaderReason // a status or a code: what brought the letter here
	HeaderCode       = contract.HeaderCode   // error.code of the answer
	HeaderMessage    = contract.HeaderMessage
	HeaderFaults     = contract.HeaderFaults   // JSON array of {path, code, message}
	HeaderResultID   = contract.HeaderResultID // the stored result is there; missing if there is none
	HeaderSequence   = contract.HeaderSequence // of the job's message, with its time
	HeaderQueuedAt   = contract.HeaderQueuedAt
	HeaderDeliveries = contract.HeaderDeliveries
	HeaderRunner     = contract.HeaderRunner

	// RedriveOf is in the headers of a job that was published again from a dead letter: the first job's id.
	RedriveOf = contract.HeaderRedriveOf
)

// ownPrefix is what the names of a letter's own headers begin with. A job's header of such a name is kept as data
// under another one, so that nobody can write into a letter.
const ownPrefix = "dbrunner-"

// outbox is one database's worker.Outbox.
type outbox struct {
	conn   *bus.Conn
	runner string
}

// Reply publishes to a validated reply subject, best effort.
func (o *outbox) Reply(subject string, body []byte) error { return o.conn.Reply(subject, body) }

// PublishDeadLetter stores a dead letter.
func (o *outbox) PublishDeadLetter(ctx context.Context, d *jobs.Delivery, letter *jobs.DeadLetter) error {
	return bus.PublishDeadLetter(ctx, o.conn, d.Database, d.Kind, letter.DerivedID, o.headers(d, letter), d.Body)
}

func (o *outbox) headers(d *jobs.Delivery, letter *jobs.DeadLetter) map[string][]string {
	h := make(map[string][]string, len(d.Headers)+10)
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
	set(HeaderJobID, letter.JobID)
	set(HeaderReason, letter.Reason)
	set(HeaderCode, letter.Code)
	set(HeaderMessage, letter.Message)
	set(HeaderFaults, string(letter.Faults))
	set(HeaderResultID, letter.ResultID)
	set(HeaderSequence, strconv.FormatUint(d.Sequence, 10))
	set(HeaderQueuedAt, d.Timestamp.UTC().Format(time.RFC3339Nano))
	set(HeaderDeliveries, strconv.FormatUint(d.Deliveries, 10))
	set(HeaderRunner, o.runner)
	return h
}
