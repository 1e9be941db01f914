package db

// ValueKind is the JSON kind of a parameter's value.
type ValueKind uint8

// The kinds of values.
const (
	Null ValueKind = iota + 1
	Bool
	Number
	String
	Array  // only with a type
	Object // only with a type (json)
)

// Value is one parameter as the publisher wrote it, undecoded, so that nothing is lost on the way.
type Value struct {
	Kind ValueKind
	Type string // the type of {"type": …, "value": …}; empty = let the database infer it
	Text string // String: the decoded text; otherwise the JSON text of the value
}

// Params are a statement's parameters: by name, by position, or none. At most one of the two is set.
type Params struct {
	Named map[string]Value
	List  []Value
}

// Statement is one SQL statement as the publisher wrote it.
type Statement struct {
	SQL    string
	Params Params
}

// Fault is one thing wrong with a job's body, told to its publisher. Path is a JSON path such as
// "params.account" or "statements[2].sql"; relative to the statement where a statement is checked.
type Fault struct {
	Path    string
	Code    Code
	Message string
}

// Dialect says how an engine's SQL text is read and how its parameters are written. It is data: the lexer
// and the compiler in this package serve every engine. It must not change once it is in use.
//
// The keys of the tables of words are in upper case and may be up to four words with one space between:
// "SET TRANSACTION" meets a statement that begins with these two words, however they are spaced.
type Dialect struct {
	DollarQuotes    bool // $tag$ … $tag$ (PostgreSQL)
	EscapeStrings   bool // E'…\'…' (PostgreSQL)
	Brackets        bool // [quoted name] (SQL Server, SQLite)
	Backticks       bool // `quoted name` (SQLite)
	NestedComments  bool // /* /* */ */ (PostgreSQL, SQL Server)
	ReturnEndsLine  bool // a carriage return ends a -- comment, as a line feed does (PostgreSQL)
	MarkInNames     bool // a byte order mark is a letter, not white space (PostgreSQL)
	QuestionMarks   bool // ? is a positional parameter (SQLite, SQL Server)
	MaxParams       int
	Placeholder     func(dst []byte, n int) []byte // appends the placeholder of argument n, from 1; it shows n
	ReadOnlyFirst   map[string]bool                // first words that a read-only query may have
	TransactionVerb map[string]bool                // first words that control transactions: refused in every job
	ForbiddenFirst  map[string]bool                // other first words that jobs may not use
	AutocommitVerbs map[string]bool                // of these, what a statement outside of a transaction may begin with
	CheckValue      func(v Value) string           // what is wrong with a typed value ("" = nothing); nil = no check

	// The words of these two tables are keywords of the engine wherever they stand unquoted, not only at the
	// beginning, and can be no name: there a text may hold several statements without a semicolon between them.
	TransactionWord map[string]bool // controls transactions: refused in every job (SQL Server: COMMIT, TRANSACTION, …)
	WriteWord       map[string]bool // writes: refused in a read-only query (SQL Server: INSERT, INTO, EXEC, …)

	// Separator is the word that, alone on its line, separates batches for the tools of this database and that the
	// server does not know (SQL Server: "GO"); it is refused.
	Separator string

	// Foreign says what in a script is for a client program of this database, or would have the session wait for what
	// nobody sends: on which line, and what to write instead; "" if nothing. parts are those of the script. nil: not looked at.
	Foreign func(d *Dialect, script string, parts []Part) string

	// Batches says that CREATE and ALTER of a procedure, function or trigger reach to the end of the text, with all
	// of its semicolons (SQL Server).
	Batches bool

	// Transact says that numbers, white space and names are those of T-SQL, and that what is unclear in them is refused.
	Transact bool

	// Snapshot says that the engine has this isolation level.
	Snapshot bool

	// Sigils are the characters that begin a variable of the engine's own which nothing in a job could bind
	// (SQLite: "@#$:"). Such a character is refused wherever it is not a parameter; this matters for safety too,
	// as SQLite reads :a(…) as one variable, whatever quotes stand inside.
	Sigils string

	// Cache keeps what was learned from SQL texts, so that a repeated one costs no lexing; nil = no cache.
	Cache *Cache
}

// Compiled is a statement in the engine's own words, with its arguments in the order of its placeholders.
type Compiled struct {
	SQL    string
	Args   []Value
	Origin *Origin // what SQL was made of; nil: it is the publisher's own text

	// Batch runs the statement once for each of its rows, in order, in the one transaction; nil: once, with Args.
	// RowsAffected is the sum. Such a statement cannot return rows.
	Batch Batch
}

// RowOptions says how rows are encoded and how much of them one call may return.
type RowOptions struct {
	Format   RowFormat
	MaxRows  int64 // over all statements of the call; 0 = no limit
	MaxBytes int64 // of encoded rows over all statements of the call; 0 = no limit

	// Overflow takes the rows of statements that have no room in the call's answer; nil: nothing does.
	Overflow Overflow
	// InlineBytes of rows and columns have room there, over all statements of the call. Without Overflow it means nothing.
	InlineBytes int64
	// Sets is how many sets of rows the call has, as far as is known: the rows of one leave room for the columns of others.
	Sets int
	// AlwaysOverflow sends the rows of every statement to Overflow, however few they are.
	AlwaysOverflow bool
}

// maxOverflowRow bounds one row that has room outside of the answer only, bytes: it is encoded in memory.
const maxOverflowRow = 64 << 20

// LargestRow is what one row may take at most, in bytes; 0: no limit.
func (o *RowOptions) LargestRow() int64 {
	if o.Overflow == nil {
		return o.MaxBytes
	}
	if largest := max(o.InlineBytes, maxOverflowRow); o.MaxBytes == 0 || largest < o.MaxBytes {
		return largest
	}
	return o.MaxBytes
}

// Overflow gives the rows of one call a place outside of its answer.
type Overflow interface {
	// Open begins the rows of a set, counted from 0 in the call: of a statement, or of each set of rows that it gives.
	// A set that was opened before, or an earlier one, means that the call has begun anew: what was opened until then
	// is void.
	Open(set int, columns []Column) (RowFile, error)
}

// RowFile takes the rows of one statement.
type RowFile interface {
	// AsArrays says that rows are best given as arrays, whatever the call's row format.
	AsArrays() bool
	// Row adds a row, one JSON array or object. The text is only good during the call.
	Row(text []byte) error
	// Close says that all rows were given, and returns when the whole is durable.
	Close() (*RowsObject, error)
}

// RowsObject is where the rows of a statement are that had no room in the answer.
type RowsObject struct {
	Bucket, Name string
	Size         int64 // bytes of the object
	RowCount     int64
	Digest       string // as the object store writes it
	Format       string
	Compression  string
}

// RowFormat is how a row is written.
type RowFormat uint8

// The row formats.
const (
	Objects RowFormat = iota + 1 // {"name": value, …}
	Arrays                       // [value, …]
)

// Column is one column of a result: its name and the database's own name of its type.
type Column struct {
	Name string
	Type string
}
