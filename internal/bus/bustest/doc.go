// Package bustest starts real NATS servers for tests: one with JetStream, or a cluster of several in this process,
// each stoppable, killable and restartable on the same port and the same files. Production code never imports it.
package bustest
