package dialect

// Kind is what the values of a column are, whatever an engine calls its type.
type Kind uint8

// The kinds of columns; zero is a kind of none of these.
const (
	KindJSON Kind = iota + 1
	KindInteger
	KindFloat
	KindBoolean
	KindDate
	KindTimestamp // without a time zone
	KindInstant   // a timestamp with a time zone
	KindTime
	KindUUID
	KindBinary
)

// ColumnType is what an engine's word for a type means.
type ColumnType struct {
	Kind    Kind
	Layouts []string // of KindTimestamp and KindInstant, as package time writes them
	// Dynamic reports that a column may hold anything: a value is of the kind only if it was stored as one.
	Dynamic bool
}

// TypeOf returns what a word for a type means to an engine, by the engine's public name. Without a name it is what the first
// of the engines means that knows the word.
func TypeOf(engine string) func(of string) ColumnType {
	switch engine {
	case "postgres":
		return postgresType
	case "sqlserver":
		return sqlserverType
	case "sqlite":
		return sqliteType
	case "":
		return anyType
	}
	return nil
}

func anyType(of string) ColumnType {
	for _, known := range []func(string) ColumnType{postgresType, sqlserverType, sqliteType} {
		if t := known(of); t.Kind != 0 {
			return t
		}
	}
	return ColumnType{}
}
