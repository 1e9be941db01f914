package postgres

import "dbrunner/internal/db/dialect"

// Dialect returns how SQL text and parameters of this engine are read.
func Dialect() *dialect.Dialect {
	d := dialect.Postgres()
	d.CheckValue = checkValue
	return d
}
