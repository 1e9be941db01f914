// Package inspect finds out whether a runner with a configuration could work: check looks at NATS and every database,
// diagnose at one database in depth. It runs no job, and creates and changes nothing.
package inspect
