//go:build !crashpoints

// Package crash marks the places where a runner is killed by the crash tests. In an ordinary build a mark
// is an empty function; a build with the tag crashpoints kills the process there when the environment asks.
package crash

// At marks a place where the process may die.
func At(string) {}

// AtJob marks the place where a job starts: a job that kills its runner dies here.
func AtJob(string) {}
