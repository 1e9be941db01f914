package app

import (
	"dbrunner/internal/bus/relay"
	"dbrunner/internal/outbox"
)

// claimWaits is for how many ack waits a relay claims rows: another runner takes over after a time like that of a job's.
const claimWaits = 2

// makeRelay makes the relay of the database's outbox, if it has one.
func (d *database) makeRelay(r *running) {
	if d.Outbox == nil {
		return
	}
	d.relay = outbox.New(outbox.Options{
		Database: d.Name, Targets: d.OutboxTargets, Source: d.Outbox, Publisher: relay.New(r.conn),
		Claim:  claimWaits * r.cfg.Topology.AckWait,
		Paused: d.paused.Load, Logger: r.log.Named("outbox"),
	})
	d.status.SetOutbox(d.relay)
}
