package dialect

// Dialect reports how an engine's SQL text is read and how its parameters are written. It is data: the lexer
// and the compiler in this package serve every engine. It must not change once it is in use.
//
// The keys of the tables of words are in upper case and may be up to four words with one space between:
// "SET TRANSACTION" meets a statement that starts with these two words, however they are spaced.
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
	Kind            func(of string) ColumnType     // what the engine's word for a type of a column means; nil: nothing known
	CheckValue      func(v Value) string           // what is wrong with a typed value ("" = nothing); nil = no check

	// The words of these two tables are keywords of the engine wherever they stand unquoted, not only at the
	// beginning, and can be no name: there a text may hold several statements without a semicolon between them.
	TransactionWord map[string]bool // controls transactions: refused in every job (SQL Server: COMMIT, TRANSACTION, …)
	WriteWord       map[string]bool // writes: refused in a read-only query (SQL Server: INSERT, INTO, EXEC, …)

	// WritePhrase are words that write where they follow each other unquoted, which are no keywords alone: refused in a read-only query
	// (SQL Server: NEXT VALUE FOR, whose numbers no rollback takes back).
	WritePhrase []string

	// Countable are the first words of statements whose written rows the engine can count. All others are refused in a
	// transaction with a limit on rows.
	Countable map[string]bool
	// Uncountable are keywords that are refused there wherever they stand unquoted (SQL Server: EXEC, NOCOUNT, …); with
	// NestedWrites, so is a write in parentheses, whose rows are not counted (SQL Server: INSERT … FROM (DELETE … OUTPUT …)).
	Uncountable  map[string]bool
	NestedWrites bool

	// Separator is the word that, alone on its line, separates batches for the tools of this database and that the
	// server does not know (SQL Server: "GO"); it is refused.
	Separator string

	// Foreign reports what in a script is for a client program of this database, or would have the session wait for data
	// that is never sent: on which line, and what to write instead; "" if nothing. parts are those of the script. nil: not looked at.
	Foreign func(d *Dialect, script string, parts []Part) string

	// NonTransactional names the kind of a statement that cannot run in a transaction, by its first words in upper case; "" if
	// it can. nil: every statement can.
	NonTransactional func(words []string) string

	// PartialEffects reports what a statement that failed outside of a transaction may have left all the same, by its first
	// words; "" if nothing. nil: never anything.
	PartialEffects func(words []string) string

	// Batches reports that CREATE and ALTER of a procedure, function or trigger reach to the end of the text, with all
	// of its semicolons (SQL Server).
	Batches bool

	// Transact reports that numbers, white space and names are those of T-SQL, and that what is unclear in them is refused.
	Transact bool

	// Snapshot reports that the engine has this isolation level.
	Snapshot bool

	// Sigils are the characters that begin a variable of the engine's own which nothing in a job could bind
	// (SQLite: "@#$:"). Such a character is refused wherever it is not a parameter; this matters for safety too,
	// as SQLite reads :a(…) as one variable, whatever quotes stand inside.
	Sigils string

	// Cache keeps what was learned from SQL texts, so that a repeated one costs no lexing; nil = no cache.
	Cache *Cache
}

// shapes is how much memory a dialect keeps for SQL texts that it has read, bytes.
const shapes = 4 << 20

// words is a table of words.
func words(list ...string) map[string]bool {
	table := make(map[string]bool, len(list))
	for _, w := range list {
		table[w] = true
	}
	return table
}
