// Package bus is the connection to NATS: publishes whose outcome is known, requests to JetStream, replies and heartbeats.
// The packages below it hold one resource each: streams and consumers, the intake, results, cancel requests, dead letters,
// objects, the service, and the embedded server of the demonstration.
//
// It knows subjects, sequences and bytes. It never reads a job's body and never decides what a delivery means.
package bus
