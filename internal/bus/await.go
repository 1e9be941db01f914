package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// againEvery is how often AwaitResult looks by itself: a re-published result is a core message and may be lost.
const againEvery = 3 * time.Second

// AwaitResult waits for the stored result of a job: it subscribes, then gets, then gets again every few seconds.
func AwaitResult(ctx context.Context, c *Conn, database, jobID string) ([]byte, error) {
	if err := errors.Join(CheckName("database", database), CheckID(jobID)); err != nil {
		return nil, err
	}
	arrivals := make(chan *nats.Msg, 1)
	sub, err := c.NATS().ChanSubscribe(c.Subjects().Result(database, jobID), arrivals)
	if err != nil {
		return nil, fmt.Errorf("await the result: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	of := ResultsOf(c, database)
	t := time.NewTicker(againEvery)
	defer t.Stop()
	for {
		body, err := of.GetDirect(ctx, jobID)
		switch {
		case err == nil && body != nil:
			return body, nil
		case err != nil && !Transient(err):
			return nil, err
		}
		select {
		case m := <-arrivals:
			return m.Data, nil
		case <-t.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("await the result of %s in %s: %w", jobID, database, errors.Join(ctx.Err(), err))
		}
	}
}
