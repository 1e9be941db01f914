// Package worker takes the deliveries of one database's consumer from the bus, has them run by package delivery, and settles
// them: the intake loop, the bounded slots, the leases, the gate of a database that does not answer, the drain, and
// the sweeping of the ledger. It is the only place that picks the verb with which a message is acknowledged.
//
// It never decides what a delivery means (package delivery does), never speaks to NATS or to a database itself, and knows both
// through the small interfaces it declares.
package worker
