package results

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"dbrunner/internal/bus"
)

// againEvery is how often Await looks by itself: a re-published result is a core message and may be lost.
const againEvery = 3 * time.Second

// Await waits for the stored result of a job: it subscribes, then gets, then gets again every few seconds.
func Await(ctx context.Context, c *bus.Conn, database, jobID string) ([]byte, error) {
	if err := errors.Join(bus.CheckName("database", database), bus.CheckID(jobID)); err != nil {
		return nil, err
	}
	arrivals := make(chan *nats.Msg, 1)
	sub, err := c.NATS().ChanSubscribe(c.Subjects().Result(database, jobID), arrivals)
	if err != nil {
		return nil, fmt.Errorf("await the result: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	of := Of(c, database)
	t := time.NewTicker(againEvery)
	defer t.Stop()
	for {
		body, err := of.GetDirect(ctx, jobID)
		switch {
		case err == nil && body != nil:
			return body, nil
		case err != nil && !bus.Transient(err):
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
