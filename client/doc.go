// Package client publishes jobs for dbrunner and reads their results, over a NATS connection that stays the caller's.
//
// Choose the id of a job before it is published: publishing the same job again with the same id is safe at any time and
// leads to the first result. A Client is safe for concurrent use and starts no goroutines.
package client
