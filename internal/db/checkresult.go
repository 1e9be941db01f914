package db

import (
	"time"

	"dbrunner/contract"
)

// CheckResult is how Check found a database.
type CheckResult struct {
	Connect time.Duration // until a connection stood, login included; 0: it never did
	Query   time.Duration // of one trivial query over it; 0: it was not answered
	Version string        // of the server, in its own words

	Role     contract.Role
	ReadOnly string // why the database accepts no writes here; empty: it takes them
}
