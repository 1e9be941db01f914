// Package manager turns a configuration into what the other packages take: it opens databases and their migrations, and
// makes the options of the bus, the topology of streams and consumers, and the policy of jobs.
//
// It owns the table of engines. It runs nothing.
package manager
