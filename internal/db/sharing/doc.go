// Package sharing lets transactions of different jobs find each other that may share one commit. It decides who waits for whom,
// and for how long; an engine runs the group.
package sharing
