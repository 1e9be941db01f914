package toy

import (
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// check refuses what a map cannot have.
func check(opts *db.Options) error {
	if err := engine.CheckConnectionString(opts.ConnectionString, "toy:"); err != nil {
		return &db.ConnectionStringError{Err: err}
	}
	return engine.ParseSwitches(opts.Settings, nil)
}
