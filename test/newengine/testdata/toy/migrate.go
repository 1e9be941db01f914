package toy

import (
	"context"
	"database/sql"
	"database/sql/driver"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

// migrations reads files; it never runs one, as a map has no schema.
type migrations struct{ migration.Engine }

// Migrations returns the engine for folders without files.
func Migrations(db.Options) (migration.Engine, error) { return migrations{}, nil }

// Dialect is how files are read.
func (migrations) Dialect() *dialect.Dialect { return Dialect() }

// Open returns sessions that cannot be had.
func (migrations) Open(bool) (*sql.DB, error) { return sql.OpenDB(nowhere{}), nil }

// Explain makes an error one that can be shown.
func (migrations) Explain(err error, _ *dialect.Part) *db.Error {
	return db.Errorf(db.ClassPermanent, contract.CodeNotSupported, "a map has no schema").Because(err)
}

type nowhere struct{}

// Connect fails.
func (nowhere) Connect(context.Context) (driver.Conn, error) { return nil, driver.ErrBadConn }

// Driver returns none.
func (nowhere) Driver() driver.Driver { return nil }
