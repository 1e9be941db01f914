// Package app puts the parts of a runner together and runs them: it connects to NATS, checks or makes the streams,
// opens the databases, and runs lanes, gates, sweepers and the heartbeat until it is asked to stop; then it lets what
// runs come to its end.
//
// It owns the order of starting and stopping. It executes nothing itself and
// decides nothing about a job.
package app
