// Package outboxtable reads and writes the table of outboxes: rows that callers insert in their own transactions, and that
// relays publish. Each call is one statement, committed on its own.
package outboxtable
