// Package deadletters stores, lists, reads and deletes dead letters, and counts those that were evicted.
package deadletters
