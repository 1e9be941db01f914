// Package dialect reads and writes the SQL text of every engine: the lexer, the compiler of parameters, the tables of words,
// scripts and their parts. What differs between engines is data in a Dialect. It knows no driver and runs nothing.
package dialect
