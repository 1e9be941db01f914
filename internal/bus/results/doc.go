// Package results stores, reads and awaits the stored results of databases, whose subjects belong to the first writer, and
// purges the oldest ones so that there is room for new ones.
package results
