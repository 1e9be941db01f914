package engine

import (
	"dbrunner/contract"
	"dbrunner/internal/db"
)

// CheckGuard checks the guard of the statement with an index, if it has one, against the rows that it affected; nil: it holds.
func CheckGuard(guards []*db.Range, statement int, rows int64) *db.Error {
	if statement >= len(guards) || guards[statement].Holds(rows) {
		return nil
	}
	r := guards[statement]
	refuse := func(format string, args ...any) *db.Error {
		return db.Errorf(db.ClassPermanent, contract.CodeExpectRows, format, args...).At(statement)
	}
	switch {
	case r.Min == r.Max:
		return refuse("%d rows, expected %d", rows, r.Min)
	case r.Max < 0:
		return refuse("%d rows, expected at least %d", rows, r.Min)
	}
	return refuse("%d rows, expected %d to %d", rows, r.Min, r.Max)
}
