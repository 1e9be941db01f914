// Package bus is the connection to NATS: publishes whose outcome is known, requests to JetStream, the pull subscription
// that never holds more messages than the worker has free slots, replies and heartbeats. The packages below it hold one
// resource each: streams and consumers, results, cancel requests, dead letters, objects, the service, and the embedded
// server of the demonstration.
//
// It knows subjects, sequences and bytes. It never reads a job's body, never decides what a delivery means and
// never picks an acknowledgement by itself, with one exception: a message without a free slot is requeued.
//
// Messages are pulled through the documented JetStream API instead of the client library's consume loop: the
// library takes a message with an empty body and a Status header for a control message, and a published
// "Status: 409" ends its loop for good. Here only what carries a $JS.ACK. reply is a job, and all that does is.
package bus
