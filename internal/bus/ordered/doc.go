// Package ordered reads the first message of ordered queues from the stream's leader, and keeps the records with which operators
// resume them.
package ordered
