package toy

import (
	"dbrunner/contract"
	"dbrunner/internal/db"
)

func errSyntax() *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeSyntax, "write GET :key or PUT :key :value")
}
