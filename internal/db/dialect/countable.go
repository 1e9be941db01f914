package dialect

import "strings"

// NotCountable names what of a statement has rows that cannot be counted as it writes them; "" if all can.
func NotCountable(d *Dialect, sql string) string {
	s := d.shape(sql)
	if s.startsWith(d.Countable) == "" {
		return s.verb()
	}
	if d.Uncountable == nil {
		return ""
	}
	lexer, opened := NewLexer(d, sql), false
	for {
		t, ok := lexer.Next()
		if !ok {
			return ""
		}
		text := sql[t.Start:t.End]
		switch t.Kind {
		case TokenSpace, TokenComment:
			continue
		case TokenWord:
			word := strings.ToUpper(text)
			variable := t.Start > 0 && sql[t.Start-1] == '@'
			if d.Uncountable[word] && !variable {
				return word
			}
			if d.NestedWrites && opened && nestedWrite(word) && HasWord(d, sql, "OUTPUT") {
				return word + " inside another statement"
			}
		default: // no keyword
		}
		opened = text == "("
	}
}

func nestedWrite(word string) bool {
	return word == "INSERT" || word == "UPDATE" || word == "DELETE" || word == "MERGE"
}

// verb names a statement by its first word, and by the next one where the first is not enough.
func (s *shape) verb() string {
	first, rest, _ := strings.Cut(s.lead, " ")
	switch first {
	case "":
		return "this statement"
	case "CREATE", "ALTER", "DROP", "TRUNCATE":
		if next, _, _ := strings.Cut(rest, " "); next != "" {
			return first + " " + next
		}
	}
	return first
}
