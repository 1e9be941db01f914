// Package bulk keeps rows and parameters outside of messages: rows that have no room in a result go into an object of the
// object store, and the parameters of a batch can come from one.
package bulk
