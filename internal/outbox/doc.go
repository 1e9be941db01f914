// Package outbox relays the rows of an outbox: it claims rows in a committed update, publishes them as jobs with no lock held,
// and deletes them after the stream has confirmed them. Whatever dies in between, a row is published again under the same ids,
// so that its effect happens once.
package outbox
