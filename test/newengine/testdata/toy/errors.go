package toy

import "dbrunner/internal/db"

func errSyntax() *db.Error {
	return db.Errorf(db.ClassPermanent, db.CodeSyntax, "write GET :key or PUT :key :value")
}
