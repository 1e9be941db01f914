package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
	"dbrunner/internal/crash"
	"dbrunner/internal/report"
)

// window is how many messages may be on their way to streams at a time: results use the same places.
const window = 256

// Publisher publishes rows of outboxes. It is safe for concurrent use.
type Publisher struct{ conn *bus.Conn }

// New returns the publisher of a connection.
func New(conn *bus.Conn) *Publisher { return &Publisher{conn} }

// Ready waits until all is read that keeps a runner from work, over the link that stands.
func (p *Publisher) Ready(ctx context.Context) error { return p.conn.Ready(ctx) }

// Publish publishes messages, several at a time, and returns an error for each: nil once a stream has it, report.ErrTooLarge if
// none ever will. After any other error a stream may have it.
func (p *Publisher) Publish(ctx context.Context, messages []*report.OutboxMessage) []error {
	errs, posted, oldest := make([]error, len(messages)), make([]bus.Posted, len(messages)), 0
	await := func(until int) error { // for the answers to the messages before it
		for ; oldest < until; oldest++ {
			if errs[oldest] == nil {
				errs[oldest] = explain(posted[oldest].Wait(ctx))
			}
		}
		return nil
	}
	for i, m := range messages {
		_ = await(i - window + 1)
		err := ctx.Err()
		if err != nil {
			errs[i] = explain(err)
			continue
		}
		crash.At("outbox_publishing")
		posted[i], err = p.conn.Post(ctx, &nats.Msg{
			Subject: p.conn.Namespace() + "." + m.Target, Data: m.Body,
			Header: nats.Header{contract.HeaderMessageID: {m.ID}, contract.HeaderStoredBy: {m.StoredBy.UTC().Format(time.RFC3339Nano)}},
		}, func() error { return await(i) })
		errs[i] = explain(err)
	}
	crash.At("outbox_posted")
	_ = await(len(messages))
	return errs
}

// explain explains an error of a publish.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, bus.ErrTooLarge):
		return report.ErrTooLarge
	case errors.Is(err, bus.ErrNoStream):
		return fmt.Errorf("%w: the database or the kind is unknown, the topology is missing, or its stream has no leader", err)
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("no answer from JetStream; if that persists, check that the runner may publish there (docs/security.md)")
	default:
		return err
	}
}

// Retention asks the runners of a database for how long its ledger keeps a row. They do not answer to their own inboxes, so
// that the answer goes to a reply subject of that database.
func (p *Publisher) Retention(ctx context.Context, database string) (time.Duration, error) {
	subjects := p.conn.Subjects()
	reply := contract.OutboxReply(subjects, database, nats.NewInbox()[len(nats.InboxPrefix):])
	sub, err := p.conn.NATS().SubscribeSync(reply)
	if err != nil {
		return 0, bus.ClosedAs(err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is closed
	if err := p.conn.NATS().PublishRequest(subjects.API("databases."+database), reply, nil); err != nil {
		return 0, bus.ClosedAs(err)
	}
	m, err := sub.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return 0, errors.New("it has no runner")
	case err != nil:
		return 0, errors.New("no answer to " + subjects.API("databases."+database))
	}
	return readRetention(m, database)
}

// readRetention reads the answer of a runner.
func readRetention(m *nats.Msg, database string) (time.Duration, error) {
	var answer struct {
		Databases []struct {
			Name   string `json:"name"`
			Ledger struct {
				Mode      string `json:"mode"`
				Retention string `json:"retention"`
			} `json:"ledger"`
		} `json:"databases"`
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil || len(answer.Databases) != 1 || answer.Databases[0].Name != database {
		return 0, errors.New("its runner's answer cannot be read")
	}
	ledger := answer.Databases[0].Ledger
	if ledger.Mode == "off" {
		return 0, nil
	}
	retention, err := time.ParseDuration(ledger.Retention)
	if err != nil || retention <= 0 {
		return 0, errors.New("its runner's answer has no retention of the ledger")
	}
	return retention, nil
}
