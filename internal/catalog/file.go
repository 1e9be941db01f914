package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/spell"
)

// revisionDigits are those of a revision and of a catalog's hash.
const revisionDigits = 12

// file is one file while it is read. It collects what is wrong with it.
type file struct {
	name    string
	dialect *dialect.Dialect
	faults  *Error
	found   int // faults of this file
}

func (f *file) fault(line int, message string) {
	f.found++
	f.faults.Faults = append(f.faults.Faults, Fault{File: f.name, Line: line, Message: message})
}

// The keys of a file, of one of its statements, of a parameter and of a guard.
var (
	fileKeys      = []string{"description", "sql", "statements", "params", "max_affected", "max_rows", "timeout", "isolation"}
	statementKeys = []string{"sql", "expect_rows"}
	expectKeys    = []string{"min", "max"}
)

// statement reads a definition; nil after a fault.
func (f *file) statement(name string, text []byte) *Statement {
	defer func() { // the keys of a file are not read in the order of its lines
		slices.SortStableFunc(f.faults.Faults[len(f.faults.Faults)-f.found:], func(a, b Fault) int { return a.Line - b.Line })
	}()
	root := f.document(text)
	if root == nil {
		return nil
	}
	s := &Statement{Name: name}
	keys := f.keys(root, "", fileKeys)
	if n := keys["description"]; n != nil {
		s.Description = f.text(n, "description")
	}
	if n := keys["max_rows"]; n != nil {
		s.MaxRows = f.integer(n, "max_rows", 1)
	}
	if n := keys["max_affected"]; n != nil {
		s.MaxAffected = f.integer(n, "max_affected", 1)
		if keys["sql"] != nil {
			f.fault(n.Line, "max_affected: belongs to transactions: remove it")
		}
	}
	if n := keys["timeout"]; n != nil {
		s.Timeout = f.duration(n, "timeout")
	}
	s.Params = f.params(keys["params"])
	lines := f.texts(s, root, keys)
	if n := keys["isolation"]; n != nil {
		s.Isolation = f.isolation(n, s)
	}
	if f.found == 0 {
		f.match(s, lines)
	}
	if f.found > 0 {
		return nil
	}
	s.Revision, s.Schema = s.revision(), s.paramsSchema()
	return s
}

// document parses the text: one document, a mapping, without anchors, aliases and tags.
func (f *file) document(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF):
		f.fault(0, `is empty: write at least "sql: SELECT …"`)
		return nil
	case err != nil:
		line, message := 0, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(message); m != nil {
			line, _ = strconv.Atoi(m[1])
			message = strings.TrimPrefix(message, m[0])
		}
		f.fault(line, "invalid YAML: "+message)
		return nil
	}
	if err := decoder.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		f.fault(root.Line, "more than one YAML document: remove the line --- and what follows")
		return nil
	}
	n := root.Content[0]
	if n.Kind != yaml.MappingNode {
		f.fault(n.Line, `write keys with values, such as "sql: SELECT …"`)
		return nil
	}
	if !f.plain(n) {
		return nil
	}
	return n
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// plain refuses what YAML has besides mappings, lists and scalars.
func (f *file) plain(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		f.fault(n.Line, "anchors and aliases are not supported: write the value itself")
		return false
	case n.Style&yaml.TaggedStyle != 0:
		f.fault(n.Line, "tags such as "+n.Tag+" are not supported: write the plain value")
		return false
	}
	ok := true
	for _, child := range n.Content {
		ok = f.plain(child) && ok
	}
	return ok
}

// keys returns the values of a mapping by key. Unknown and repeated keys are faults.
func (f *file) keys(n *yaml.Node, where string, known []string) map[string]*yaml.Node {
	found := make(map[string]*yaml.Node, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case known != nil && !slices.Contains(known, key.Value):
			message := "unknown key " + strconv.Quote(join(where, key.Value))
			if near := spell.Nearest(key.Value, known, max(1, len(key.Value)/3)); near != "" {
				message += ": did you mean " + strconv.Quote(near) + "?"
			} else {
				message += ": write one of " + strings.Join(known, ", ")
			}
			f.fault(key.Line, message)
		case found[key.Value] != nil:
			f.fault(key.Line, strconv.Quote(join(where, key.Value))+" is duplicate: remove one of them")
		case value.Tag == "!!null" && where != "params" && key.Value != "default":
			f.fault(key.Line, strconv.Quote(join(where, key.Value))+" has no value: write one, or leave the key out")
		default:
			found[key.Value] = value
		}
	}
	return found
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func (f *file) text(n *yaml.Node, key string) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || strings.TrimSpace(n.Value) == "" {
		f.fault(n.Line, key+": write a text")
		return ""
	}
	return n.Value
}

func (f *file) integer(n *yaml.Node, key string, least int64) int64 {
	v, err := strconv.ParseInt(n.Value, 10, 64)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!int" || err != nil || v < least {
		f.fault(n.Line, fmt.Sprintf("%s: write a whole number of at least %d", key, least))
	}
	return v
}

func (f *file) duration(n *yaml.Node, key string) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || err != nil || d <= 0 {
		f.fault(n.Line, key+`: write a duration above zero, such as 30s or 1m30s`)
	}
	return d
}

// texts reads sql or statements, and returns the line of each text.
func (f *file) texts(s *Statement, root *yaml.Node, keys map[string]*yaml.Node) (lines []int) {
	query, list := keys["sql"], keys["statements"]
	switch {
	case query != nil && list != nil:
		f.fault(list.Line, `both "sql" and "statements" are there: write sql for a query, statements for a transaction`)
	case query != nil:
		s.Query = true
		s.Texts = []Text{{SQL: f.sql(query, "sql", true)}}
		lines = []int{query.Line}
	case list == nil:
		if f.found == 0 {
			f.fault(root.Line, `"sql" (a query) or "statements" (a transaction) is required`)
		}
	case list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		f.fault(list.Line, `statements: write a list of statements, each with "sql"`)
	default:
		for i, n := range list.Content {
			where := fmt.Sprintf("statements[%d]", i)
			if n.Kind != yaml.MappingNode {
				f.fault(n.Line, where+`: write "sql: …"`)
				continue
			}
			of := f.keys(n, where, statementKeys)
			if of["sql"] == nil {
				f.fault(n.Line, where+".sql is required: the text of one statement")
				continue
			}
			text := Text{SQL: f.sql(of["sql"], where+".sql", false)}
			if expect := of["expect_rows"]; expect != nil {
				text.Expect = f.expect(expect, where+".expect_rows")
			}
			s.Texts, lines = append(s.Texts, text), append(lines, of["sql"].Line)
		}
	}
	return lines
}

// sql reads one SQL text and checks what can be checked without a server.
func (f *file) sql(n *yaml.Node, key string, query bool) string {
	text := f.text(n, key)
	if text == "" {
		return ""
	}
	faults := dialect.CheckText(f.dialect, text)
	if query && len(faults) == 0 {
		faults = dialect.CheckReadOnly(f.dialect, text)
	}
	for _, fault := range faults {
		f.fault(n.Line, key+": "+fault.Message+remedy(fault.Code, query))
	}
	return text
}

// remedy is what to write in the place of a text; empty: the message of its fault has that already.
func remedy(code contract.Code, query bool) string {
	switch {
	case code == contract.CodeMultipleStatements && query:
		return ": keep one, or write statements with one sql each, in the place of sql"
	case code == contract.CodeMultipleStatements:
		return ": write one sql for each"
	case code == contract.CodeTransactionControl:
		return ": remove it, the runner commits the statements together"
	case code == contract.CodeReadOnly:
		return ": write statements in the place of sql for what changes data"
	case code == contract.CodeForbiddenStatement:
		return ": remove it"
	default:
		return ""
	}
}

func (f *file) expect(n *yaml.Node, key string) *Expect {
	if n.Kind != yaml.MappingNode {
		exactly := f.integer(n, key, 0)
		return &Expect{Min: exactly, Max: exactly}
	}
	of, e := f.keys(n, key, expectKeys), &Expect{Max: -1}
	if of["min"] != nil {
		e.Min = f.integer(of["min"], key+".min", 0)
	}
	if of["max"] != nil {
		e.Max = f.integer(of["max"], key+".max", 0)
	}
	switch {
	case len(of) == 0:
		f.fault(n.Line, key+": write a number of rows, or min and max")
	case e.Max >= 0 && e.Min > e.Max:
		f.fault(n.Line, key+": min is larger than max")
	}
	return e
}

func (f *file) isolation(n *yaml.Node, s *Statement) string {
	known := []string{"read_committed", "repeatable_read", "serializable"}
	if f.dialect.Snapshot {
		known = append(known, "snapshot")
	}
	switch {
	case s.Query:
		f.fault(n.Line, "isolation: belongs to transactions: remove it")
	case !slices.Contains(known, n.Value):
		f.fault(n.Line, "isolation: write one of "+strings.Join(known, ", "))
	}
	return n.Value
}

// match compares placeholders with params. lines are those of the texts.
func (f *file) match(s *Statement, lines []int) {
	declared := make([]string, 0, len(s.Params))
	used := make(map[string]bool)
	for i := range s.Params {
		declared = append(declared, s.Params[i].Name)
	}
	for i := range s.Texts {
		names, positional := dialect.ParamNames(f.dialect, s.Texts[i].SQL)
		s.Texts[i].Params = names
		if positional {
			f.fault(lines[i], "a statement's parameters have names: write :name in the place of ? and $1")
		}
		for _, name := range names {
			used[name] = true
			if slices.Contains(declared, name) {
				continue
			}
			message := fmt.Sprintf("the text names :%s, which params does not declare: add it there", name)
			if near := spell.Nearest(name, declared, max(1, len(name)/3)); near != "" {
				message = fmt.Sprintf("the text names :%s, which params does not declare: did you mean :%s?", name, near)
			}
			f.fault(lines[i], message)
		}
	}
	for i := range s.Params {
		if p := &s.Params[i]; !used[p.Name] {
			f.fault(p.line, fmt.Sprintf("no text names :%s: use the parameter, or remove it from params", p.Name))
		}
	}
	if f.found == 0 {
		f.compile(s, lines)
	}
}

// compile compiles each text with parameters of the declared types. What is wrong with a parameter is reported once, where it is declared.
func (f *file) compile(s *Statement, lines []int) {
	reported := map[string]bool{}
	for i := range s.Texts {
		one := Statement{Texts: s.Texts[i : i+1], Params: s.Params}
		_, faults := one.Untyped(f.dialect)
		for _, fault := range faults {
			line, message := lines[i], fault.Path+": "+fault.Message
			if at := slices.IndexFunc(s.Params, func(p Param) bool { return fault.Path == "params."+p.Name }); at >= 0 {
				line = s.Params[at].line
			}
			if !reported[message] || line == lines[i] {
				f.fault(line, message)
			}
			reported[message] = true
		}
	}
}

// revision is made of what a reader of the file would call the definition, however it is written.
func (s *Statement) revision() string {
	type param struct {
		Type, Description, Schema, Default string
	}
	canonical := struct {
		Name, Description, Isolation string
		Query                        bool
		Texts                        []Text
		Params                       map[string]param
		MaxAffected, MaxRows         int64
		Timeout                      time.Duration
	}{s.Name, s.Description, s.Isolation, s.Query, s.Texts, make(map[string]param), s.MaxAffected, s.MaxRows, s.Timeout}
	for i := range s.Params {
		p := &s.Params[i]
		canonical.Params[p.Name] = param{p.Type, p.Description, string(p.Schema), string(p.Default)}
	}
	encoded, err := json.Marshal(canonical) // sorts the names of parameters
	if err != nil {
		panic(err) // texts and numbers only
	}
	sum := sha256.Sum256(append([]byte("dbrunner definition 1 "), encoded...))
	return hex.EncodeToString(sum[:])[:revisionDigits]
}
