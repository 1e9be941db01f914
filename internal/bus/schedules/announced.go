package schedules

import (
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// Announced leaves a token in a channel for one whenever a record or a state was written, until stop is called. Announcements may be
// lost.
func Announced(c *bus.Conn, news chan<- struct{}) (stop func(), err error) {
	notify := func(*nats.Msg) {
		select {
		case news <- struct{}{}:
		default: // one is waiting already
		}
	}
	records, err := c.NATS().Subscribe(contract.SchedulesSubject(c.Subjects(), ">"), notify)
	if err != nil {
		return nil, fmt.Errorf("subscribe to schedules: %w", bus.ClosedAs(err))
	}
	states, err := c.NATS().Subscribe(c.Subjects().State("schedule.>"), notify)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to the states of schedules: %w", bus.ClosedAs(err)), records.Unsubscribe())
	}
	return func() {
		_ = records.Unsubscribe() // fails only where the connection is closed
		_ = states.Unsubscribe()
	}, nil
}
