package sqlserver

import (
	"context"
	"database/sql/driver"
	"strconv"
	"strings"

	mssql "github.com/microsoft/go-mssqldb"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

var _ db.Preparer = (*Database)(nil)

// prepareSQL makes a handle of a statement with parameters of these types, and drops it.
func prepareSQL(types string) string {
	return "DECLARE @dbr_handle int; EXEC sp_prepare @dbr_handle OUTPUT, " + types + ", @dbr_text; EXEC sp_unprepare @dbr_handle"
}

// Prepare has the server prepare the statement.
func (d *Database) Prepare(ctx context.Context, stmt *dialect.Compiled) error {
	if err := d.single(stmt, 0); err != nil {
		return err
	}
	declared := make([]string, len(stmt.Args))
	for i := range stmt.Args {
		arg, wrong := convert(stmt.Args[i])
		if wrong != "" {
			return db.Errorf(db.ClassPermanent, contract.CodeParameter, "parameter %d: %s", i+1, wrong)
		}
		declared[i] = "@p" + strconv.Itoa(i+1) + " " + arg.declared
	}
	s, err := d.acquire(ctx)
	if err != nil {
		return err
	}
	defer d.release(s)
	ctx, done := s.limit(ctx, ownTimeout+d.opts.Limits.LockTimeout)
	defer done()
	r := request{text: prepareSQL("NULL"), args: []driver.NamedValue{{Name: "dbr_text", Ordinal: 1, Value: mssql.NVarCharMax(stmt.SQL)}}}
	if len(declared) > 0 {
		r.text = prepareSQL("@dbr_types")
		r.args = append(r.args, driver.NamedValue{Name: "dbr_types", Ordinal: 2, Value: mssql.NVarCharMax(strings.Join(declared, ", "))})
	}
	if err := s.run(ctx, r, &table{}); err != nil {
		return d.failure(ctx, s, err, 0)
	}
	return nil
}
