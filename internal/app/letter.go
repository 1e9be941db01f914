package app

import (
	"context"
	"strconv"
	"strings"
	"time"

	"dbrunner/internal/bus"
	"dbrunner/internal/jobs"
)

// The headers of a dead letter that say why it is there. The letter's payload is the job's body, unchanged.
const (
	LetterJobID      = "Dbrunner-Job-Id"
	LetterReason     = "Dbrunner-Reason" // a status or a code: what brought the letter here
	LetterCode       = "Dbrunner-Code"   // error.code of the answer
	LetterMessage    = "Dbrunner-Message"
	LetterFaults     = "Dbrunner-Faults"    // JSON array of {path, code, message}
	LetterResultID   = "Dbrunner-Result-Id" // the stored result is there; missing if there is none
	LetterSequence   = "Dbrunner-Sequence"  // of the job's message, with its time
	LetterQueuedAt   = "Dbrunner-Queued-At"
	LetterDeliveries = "Dbrunner-Deliveries"
	LetterRunner     = "Dbrunner-Runner"

	// RedriveOf is in the headers of a job that was published again from a dead letter: the first job's id.
	RedriveOf = "Dbrunner-Redrive-Of"
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

// PublishLetter stores a dead letter.
func (o *outbox) PublishLetter(ctx context.Context, d *jobs.Delivery, letter *jobs.Letter) error {
	return o.conn.PublishLetter(ctx, d.Database, d.Kind, letter.DerivedID, o.headers(d, letter), d.Body)
}

func (o *outbox) headers(d *jobs.Delivery, letter *jobs.Letter) map[string][]string {
	h := make(map[string][]string, len(d.Headers)+10)
	for name, values := range d.Headers {
		if strings.HasPrefix(strings.ToLower(name), ownPrefix) {
			name = bus.HeaderOriginal + name
		}
		h[name] = values
	}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{value}
		}
	}
	set(LetterJobID, letter.JobID)
	set(LetterReason, letter.Reason)
	set(LetterCode, letter.Code)
	set(LetterMessage, letter.Message)
	set(LetterFaults, string(letter.Faults))
	set(LetterResultID, letter.ResultID)
	set(LetterSequence, strconv.FormatUint(d.Sequence, 10))
	set(LetterQueuedAt, d.Timestamp.UTC().Format(time.RFC3339Nano))
	set(LetterDeliveries, strconv.FormatUint(d.Deliveries, 10))
	set(LetterRunner, o.runner)
	return h
}
