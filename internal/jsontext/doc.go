// Package jsontext reads and appends JSON text: a strict lexer, a tape of a whole text, and appending of strings and bytes.
// It does not know what any key means.
package jsontext
