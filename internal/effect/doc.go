// Package effect identifies what a transaction does by a digest, and compares an approval with the dry run that it approves.
package effect
