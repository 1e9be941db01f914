// Package jobs defines what a job is: the table of kinds, decoding and validation of messages, policy, request hashes, and the
// work of each kind on a database.
//
// It knows neither NATS nor an engine, and decides nothing about redeliveries: see package delivery.
package jobs
