package engine

import (
	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// CheckCountable refuses the first statement of a transaction whose rows cannot be counted, where the transaction has a
// limit on them; nil: all can, or there is no limit.
func CheckCountable(d *dialect.Dialect, tx *db.Transaction) *db.Error {
	if tx.MaxAffected == 0 {
		return nil
	}
	for i, stmt := range tx.Statements {
		if what := dialect.NotCountable(d, stmt.SQL); what != "" {
			return NotCountable(what + " cannot be used with max_affected: the rows that it writes are not counted").At(i)
		}
	}
	return nil
}

// NotCountable is the error of a transaction with a limit on rows that may have written some which are not counted.
func NotCountable(message string) *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeNotCountable, "%s", message)
}

// CheckAffected checks the number of rows that a transaction has written against its limit; nil: it holds.
func CheckAffected(tx *db.Transaction, rows int64) *db.Error {
	if tx.MaxAffected == 0 || rows <= tx.MaxAffected {
		return nil
	}
	return db.Errorf(db.ClassPermanent, contract.CodeMaxAffected,
		"the transaction wrote %d rows, and max_affected is %d"+db.RolledBack, rows, tx.MaxAffected)
}
