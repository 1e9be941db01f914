// Package deadletters stores dead letters in their stream, and counts those that the stream evicted because it was full.
package deadletters
