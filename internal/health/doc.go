// Package health judges one database: whether it can be reached, answers, takes writes, has connections to spare and the
// schema that its migrations give it.
package health
