package client

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
)

// Errors of WriteAudit.
var (
	// ErrNoAudit is returned if the stream of audit entries does not exist.
	ErrNoAudit = errors.New("the audit stream is missing")
	// ErrAuditFull is returned if the stream of audit entries takes no more.
	ErrAuditFull = errors.New("the audit stream is full")
)

const (
	auditTimeout = 5 * time.Second        // of an entry, with all attempts
	deniedGrace  = 500 * time.Millisecond // so long an acknowledgment may follow where an earlier publish was denied
)

// WriteAudit stores an entry about an action of an operator, before that action. It returns nil once the stream has it. What the
// server's permissions do not allow is ErrDenied, found within a round trip; its text has the subject.
func WriteAudit(ctx context.Context, c *Client, entry *contract.AuditEntry) error {
	entry.Complete(time.Now())
	if err := entry.Check(); err != nil {
		return err
	}
	body, err := json.Marshal(entry)
	if err != nil {
		return fmt.Errorf("encode the audit entry: %w", err)
	}
	msg := &nats.Msg{
		Subject: c.subjects.Audit(entry.Database, entry.Action), Data: body,
		Header: nats.Header{contract.HeaderMessageID: {rand.Text()}}, // attempts are one entry
	}
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	for attempt := 0; ; attempt++ {
		err := publishAudit(ctx, c, msg)
		if errors.Is(err, nats.ErrNoResponders) {
			err = explainNoAudit(ctx, c)
		}
		if err != nil && transient(err) && ctx.Err() == nil && pause(ctx, attempt, 20*time.Millisecond) {
			continue
		}
		if err != nil {
			return fmt.Errorf("publish to %s: %w", msg.Subject, err)
		}
		return nil
	}
}

// publishAudit publishes once. The server refuses a publish before it answers the flush after it.
func publishAudit(ctx context.Context, c *Client, msg *nats.Msg) error {
	once := *msg
	once.Reply = c.nc.NewInbox()
	sub, err := c.nc.SubscribeSync(once.Reply)
	if err != nil {
		return err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is closed
	if err := c.nc.PublishMsg(&once); err != nil {
		return err
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	wait := ctx
	denied := c.denied(msg.Subject)
	if denied {
		var cancel context.CancelFunc
		wait, cancel = context.WithTimeout(ctx, deniedGrace)
		defer cancel()
	}
	answer, err := sub.NextMsgWithContext(wait)
	switch {
	case err != nil && denied:
		return ErrDenied
	case err != nil:
		return err
	case answer.Header.Get("Status") == noResponders:
		return nats.ErrNoResponders
	}
	var ack struct {
		Error *APIError `json:"error"`
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return fmt.Errorf("read the acknowledgment: %w", err)
	}
	if ack.Error != nil && hasCode(ack.Error, fullCodes()...) {
		return fmt.Errorf("%w: %w", ErrAuditFull, ack.Error)
	}
	if ack.Error != nil {
		return ack.Error
	}
	return nil
}

// fullCodes are what a stream answers that has no room: maximum messages, bytes and, of a server or account, storage.
func fullCodes() []jetstream.ErrorCode {
	return []jetstream.ErrorCode{codeStoreFailed, codeStorageExceeded, codeMemoryExceeded}
}

// explainNoAudit returns ErrNoAudit if the stream does not exist. A stream without a leader gives no answer either.
func explainNoAudit(ctx context.Context, c *Client) error {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	err := c.request(ctx, "STREAM.INFO."+c.subjects.AuditStream(), struct{}{}, &struct{}{})
	switch {
	case hasCode(err, jetstream.JSErrCodeStreamNotFound):
		return ErrNoAudit
	case err != nil:
		return fmt.Errorf("no stream takes the entry, and it is not known whether there is one: %w", err)
	}
	return nats.ErrNoResponders
}

// StoredAudit is an entry as its stream has it.
type StoredAudit struct {
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"` // by the server's clock
	contract.AuditEntry
}

// AuditFilter chooses entries. The zero value chooses all.
type AuditFilter struct {
	Database, Action string
	Since            time.Time
	Newest           int // only so many, the newest; 0: all
}

// AuditEntries returns the stored entries that the filter chooses, oldest first. Database and action are those of the subject, which
// the server's permissions cover. It needs permission to DIRECT.GET of the stream.
func AuditEntries(ctx context.Context, c *Client, filter AuditFilter) ([]StoredAudit, error) {
	out := []StoredAudit{}
	prefix := c.subjects.Audit("", "")
	prefix = strings.TrimSuffix(prefix, "fleet.")
	request := MessagesRequest{Stream: c.subjects.AuditStream(), Subject: prefix + ">", Since: filter.Since}
	err := Messages(ctx, c, request, func(m *Message) error {
		entry := StoredAudit{Sequence: m.Sequence, Stored: m.Time}
		if json.Unmarshal(m.Data, &entry.AuditEntry) != nil {
			entry.AuditEntry = contract.AuditEntry{Reason: "(the entry cannot be read)"}
		}
		entry.Database, entry.Action = auditSubject(strings.TrimPrefix(m.Subject, prefix))
		if filter.Database != "" && filter.Database != entry.Database || filter.Action != "" && filter.Action != entry.Action {
			return nil
		}
		if out = append(out, entry); filter.Newest > 0 && len(out) > filter.Newest {
			out = out[1:]
		}
		return nil
	})
	if errors.Is(err, ErrStreamMissing) {
		err = ErrNoAudit
	}
	if err != nil {
		return nil, fmt.Errorf("read the audit stream: %w", err)
	}
	return out, nil
}

// auditSubject returns what an entry's subject names: fleet.<action> or database.<database>.<action>.
func auditSubject(rest string) (database, action string) {
	if of, ok := strings.CutPrefix(rest, "database."); ok {
		database, action, _ = strings.Cut(of, ".")
		return database, action
	}
	_, action, _ = strings.Cut(rest, ".")
	return "", action
}
