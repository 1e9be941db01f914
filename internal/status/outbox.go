package status

import (
	"dbrunner/contract"
	"dbrunner/internal/report"
)

// outboxState returns how the database's outbox is; nil: it has none.
func (d *Database) outboxState() *report.Outbox {
	if d.outbox == nil {
		return nil
	}
	s := d.outbox.State()
	return &s
}

// outboxTrouble returns what an operator should look at in the database's outbox; empty: nothing.
func (d *Database) outboxTrouble() string {
	if s := d.outboxState(); s != nil {
		return s.Trouble
	}
	return ""
}

// outboxStatus is the database's outbox in a heartbeat; nil: it has none.
func (d *Database) outboxStatus() *contract.OutboxStatus {
	s := d.outboxState()
	if s == nil {
		return nil
	}
	out := &contract.OutboxStatus{Relayed: s.Relayed, Trouble: s.Trouble}
	if s.Counted {
		out.Waiting, out.Failed, out.Oldest = &s.Waiting, &s.Failed, moment(s.Oldest)
	}
	return out
}

// outboxNews is everything about the outbox whose change is worth a heartbeat and a health check. Numbers are not: they change
// all the time.
func (d *Database) outboxNews() string {
	s := d.outboxState()
	switch {
	case s == nil || s.Trouble == "":
		return ""
	case s.Failing:
		return "outbox failing"
	default:
		return "outbox rows failed"
	}
}
