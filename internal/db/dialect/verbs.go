package dialect

import (
	"strings"

	"dbrunner/contract"
)

// starts returns the entry of a table of words that the statement starts with, the longest one; "" if none.
func (s *shape) startsWith(table map[string]bool) string {
	for words := s.lead; words != ""; {
		if table[words] {
			return words
		}
		cut := strings.LastIndexByte(words, ' ')
		if cut < 0 {
			break
		}
		words = words[:cut]
	}
	return ""
}

// faults are the faults of the text alone.
func (s *shaper) faults() []contract.Fault {
	var out []contract.Fault
	add := func(bad bool, code contract.Code, message string) {
		if bad {
			out = append(out, contract.Fault{Path: pathSQL, Code: code, Message: message})
		}
	}
	add(s.count == 0, contract.CodeSyntax, "the text has no statement")
	add(s.count > 1, contract.CodeMultipleStatements, "one statement is expected, but more follow a semicolon")
	verb := s.shape.startsWith(s.d.TransactionVerb)
	if verb == "" {
		verb = s.controls
	}
	add(verb != "", contract.CodeTransactionControl, verb+": a job must not control transactions")
	add(s.flaws.separator, contract.CodeMultipleStatements, s.d.Separator+" separates batches for tools; the server does not know it: "+
		"send each batch as a statement of its own")
	if verb := s.shape.startsWith(s.d.ForbiddenFirst); verb != "" {
		add(true, contract.CodeForbiddenStatement, verb+" is not allowed in a job")
	}
	add(s.flaws.nul, contract.CodeSyntax, "a NUL character")
	add(s.flaws.carriage, contract.CodeSyntax, "a carriage return inside a -- comment: lines end with a line feed")
	add(s.flaws.unclear != "", contract.CodeSyntax, s.flaws.unclear)
	add(s.flaws.sigil, contract.CodeParameter, "a variable of the database's own: parameters are :name, or $1 with a list")
	add(s.flaws.position, contract.CodeParameter, "positional parameters are numbered from $1 to the number that the "+
		"database takes at most")
	return out
}

// Verb is the first word of a statement if it is one that statements begin with, and empty otherwise: whatever else a
// text starts with may be anything.
func Verb(word string) string {
	word = strings.ToUpper(word)
	if knownVerb(word) {
		return word
	}
	return ""
}

func knownVerb(word string) bool {
	switch word {
	case "SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN", "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "CREATE", "ALTER", "DROP",
		"GRANT", "REVOKE", "VACUUM", "ANALYZE", "REINDEX", "CLUSTER", "REFRESH", "COPY", "CALL", "DO", "EXEC", "EXECUTE", "FETCH", "DECLARE",
		"BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", "PREPARE", "DEALLOCATE", "DISCARD", "SET", "RESET", "LOCK",
		"LISTEN", "NOTIFY", "CHECKPOINT", "COMMENT", "BACKUP", "RESTORE", "DBCC", "WAITFOR", "BULK":
		return true
	}
	return false
}
