package db

import "dbrunner/internal/db/dialect"

// The words of package dialect, for the packages that do not import it yet.
type (
	// ValueKind is dialect.ValueKind.
	ValueKind = dialect.ValueKind
	// Value is dialect.Value.
	Value = dialect.Value
	// Params is dialect.Params.
	Params = dialect.Params
	// Statement is dialect.Statement.
	Statement = dialect.Statement
	// Fault is dialect.Fault.
	Fault = dialect.Fault
	// Dialect is dialect.Dialect.
	Dialect = dialect.Dialect
	// Compiled is dialect.Compiled.
	Compiled = dialect.Compiled
	// Batch is dialect.Batch.
	Batch = dialect.Batch
	// BatchRows is dialect.BatchRows.
	BatchRows = dialect.BatchRows
	// Cache is dialect.Cache.
	Cache = dialect.Cache
	// Origin is dialect.Origin.
	Origin = dialect.Origin
)

// The kinds of values.
const (
	Null   = dialect.Null
	Bool   = dialect.Bool
	Number = dialect.Number
	String = dialect.String
	Array  = dialect.Array
	Object = dialect.Object
)

// Compile is dialect.Compile.
func Compile(d *Dialect, stmt Statement) (*Compiled, []Fault) { return dialect.Compile(d, stmt) }

// CompileText is dialect.CompileText.
func CompileText(d *Dialect, sql string) (string, []Fault) { return dialect.CompileText(d, sql) }

// CompileAutocommit is dialect.CompileAutocommit.
func CompileAutocommit(d *Dialect, stmt Statement) (*Compiled, []Fault) {
	return dialect.CompileAutocommit(d, stmt)
}

// CheckReadOnly is dialect.CheckReadOnly.
func CheckReadOnly(d *Dialect, sql string) []Fault { return dialect.CheckReadOnly(d, sql) }

// NewCache is dialect.NewCache.
func NewCache(limit int) *Cache { return dialect.NewCache(limit) }

// OriginOf is dialect.OriginOf.
func OriginOf(d *Dialect, sql string) *Origin { return dialect.OriginOf(d, sql) }
