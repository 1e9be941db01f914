package toy

import "dbrunner/internal/db/dialect"

// Dialect returns how text and parameters of this engine are read.
func Dialect() *dialect.Dialect {
	d := dialect.Toy()
	d.CheckValue = checkValue
	return d
}
