// Package check holds what was seen from outside during a run under faults, its history, against what dbrunner promises.
// It reads the log of what was published, the stored results, the dead letters, the tables, and what the servers and the
// operating system show; it never reads a runner's own state. Each promise is one rule with a name.
package check
