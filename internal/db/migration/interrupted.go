package migration

import (
	"fmt"
	"strings"
)

// interruption is what a migration that did not come to its end has left.
type interruption struct {
	record *record // nil: another tool has left it
	mends  bool    // what there is, is known: the next migration goes on from it
	words  string  // what is known, and what to do
}

// interrupted finds out what an unfinished migration has left; nil if there is none. No session may have the lock of
// migrations, else it is still at work.
func (s *survey) interrupted() *interruption {
	last := s.state.last()
	switch {
	case !s.state.dirty && (last == nil || last.state != running):
		return nil
	case last == nil || last.dir == adopt || last.dir == forget || s.state.dirty && !s.matches(s.after(last)):
		return s.foreign()
	case last.state == done:
		return &interruption{record: last, mends: true, words: fmt.Sprintf("%s finished, but the version is still "+
			"marked dirty: the next migration clears it", last.file)}
	case last.mode == modeWhole || last.statement == 0:
		return &interruption{record: last, mends: true, words: fmt.Sprintf("%s was interrupted; nothing of it is applied: the next "+
			"migration starts it again", last.file)}
	default:
		return &interruption{record: last, words: s.doubt(last)}
	}
}

func (s *survey) foreign() *interruption {
	return &interruption{words: fmt.Sprintf("version %s is marked dirty by another tool: the effects of its migration are unknown. "+
		"Check the database, complete or undo that migration by hand, then run repair with the resulting version",
		s.storedVersion().Label)}
}

// doubt returns what is known of a file that takes effect statement by statement.
func (s *survey) doubt(r *record) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s was interrupted. It cannot run in a transaction, so its effects remain: ", r.file)
	if r.statement > 1 {
		fmt.Fprintf(&b, "of its %d statements, %s applied, ", r.statements, spanOf(r.statement-1))
	}
	where := fmt.Sprintf("statement %d", r.statement)
	f := s.script(r)
	if f != nil && r.statement <= len(f.Parts) {
		where += fmt.Sprintf(" (line %d: %s)", f.Parts[r.statement-1].Line, kindOf(f.Parts[r.statement-1].Words))
	}
	if r.state == failed {
		fmt.Fprintf(&b, "%s failed", where)
	} else {
		fmt.Fprintf(&b, "%s may have taken effect", where)
	}
	if f != nil && r.statement <= len(f.Parts) {
		if rest := f.Parts[r.statement-1].PartialEffects(s.engine.Dialect()); rest != "" {
			fmt.Fprintf(&b, "; it may have left %s", rest)
		}
	}
	if r.statements > r.statement {
		fmt.Fprintf(&b, ", the others were not started")
	}
	whole, none := s.after(r).Label, s.current().Label
	fmt.Fprintf(&b, ". Check the database; complete it by hand and run repair with target %s, or undo its effects "+
		"and run repair with target %s", whole, none)
	return b.String()
}

// script is the file that a record is about, if it still has the text of then.
func (s *survey) script(r *record) *File {
	f := s.file(r.version.Label)
	if f != nil && r.dir == down {
		f = f.down
	}
	if f == nil || f.SHA256 != r.sha256 {
		return nil
	}
	return f
}

func spanOf(n int) string {
	if n == 1 {
		return "statement 1 is"
	}
	return fmt.Sprintf("statements 1 to %d are", n)
}

// kindOf names what a statement does by its first words: keywords, never a name or a value.
func kindOf(words []string) string {
	n := min(len(words), 2)
	if n > 1 && !keyword2[words[1]] {
		n = 1
	}
	return strings.Join(words[:n], " ")
}

// keyword2 are the second words of statements that name what they change.
var keyword2 = map[string]bool{
	"TABLE": true, "INDEX": true, "UNIQUE": true, "VIEW": true, "MATERIALIZED": true, "FUNCTION": true, "PROCEDURE": true,
	"TRIGGER": true, "TYPE": true, "SCHEMA": true, "SEQUENCE": true, "DATABASE": true, "EXTENSION": true, "DOMAIN": true,
	"OR": true, "INTO": true, "FROM": true, "SYSTEM": true, "ROLE": true, "USER": true, "POLICY": true, "RULE": true,
}
