// Package engine is what the engines share: the encoding of rows, guards, the meter of waiting calls, the ledger's words, the
// stages of a diagnosis, connection strings and the errors of drivers. Only engines import it. It knows no driver.
package engine
