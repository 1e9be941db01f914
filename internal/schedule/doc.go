// Package schedule fires schedules: it publishes a job at each tick of a record. Every runner of a database tracks the same
// records and decides alike; a tick is claimed, published and confirmed by compare-and-set of the schedule's state, so that
// no leader is needed and each tick is counted once. Decide is the whole rule, a pure function; Tracker carries it out.
package schedule
