package catalog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/spell"
)

// Param is a parameter of a statement.
type Param struct {
	Name        string
	Type        string // a type of the engine; empty: the database infers it
	Description string
	Schema      json.RawMessage // JSON Schema 2020-12 of its value, with sorted keys; empty: any value
	Default     json.RawMessage // of a call that leaves it out; empty: it is required

	schema *jsonschema.Schema // nil: any value
	line   int
}

// Argument is a parameter as a call gives it.
type Argument struct {
	Name  string
	Value dialect.Value // without a type
	JSON  []byte        // the value as JSON text
}

// reservedParam is the argument with which agents name a call.
const reservedParam = "request_id"

var (
	paramKeys = []string{"type", "schema", "default", "description"}
	paramName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
)

func (s *Statement) param(name string) *Param {
	i := slices.IndexFunc(s.Params, func(p Param) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &s.Params[i]
}

// params reads the declarations, in the order of their names.
func (f *file) params(n *yaml.Node) []Param {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		f.fault(n.Line, `params: write the names with their declarations, such as "amount: {type: numeric}"`)
		return nil
	}
	var out []Param
	for name, of := range f.keys(n, "params", nil) {
		p := Param{Name: name, line: of.Line}
		where := join("params", name)
		switch {
		case len(name) > maxName || !paramName.MatchString(name):
			f.fault(of.Line, where+": a parameter's name is a letter or _, then letters, digits and _, 64 at most")
		case name == reservedParam:
			f.fault(of.Line, where+": the name is that of an argument of every tool of runner mcp: take another name")
		case of.Kind == yaml.ScalarNode && of.Tag == "!!null":
		case of.Kind != yaml.MappingNode:
			f.fault(of.Line, where+": write its type, schema, default or description, such as {type: numeric}")
		default:
			f.declare(&p, where, f.keys(of, where, paramKeys))
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Param) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (f *file) declare(p *Param, where string, keys map[string]*yaml.Node) {
	if n := keys["type"]; n != nil {
		p.Type = f.text(n, where+".type")
	}
	if n := keys["description"]; n != nil {
		p.Description = f.text(n, where+".description")
	}
	if n := keys["schema"]; n != nil {
		f.schema(p, where+".schema", n)
	}
	if n := keys["default"]; n != nil {
		p.Default = f.json(where+".default", n)
		if p.Default != nil && p.schema != nil {
			for _, fault := range p.check(p.Default) {
				f.fault(n.Line, where+".default: "+fault.Message)
			}
		}
	}
}

// draft is the meta-schema of all schemas here.
const draft = "https://json-schema.org/draft/2020-12/schema"

// schemaURL names a parameter's schema while it is compiled.
const schemaURL = "urn:dbrunner:param"

// errRemote is returned for a $ref to another document.
var errRemote = errors.New("remote $ref")

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errRemote }

func (f *file) schema(p *Param, where string, n *yaml.Node) {
	if p.Schema = f.json(where, n); p.Schema == nil {
		return
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(p.Schema))
	if err != nil {
		f.fault(n.Line, where+": "+err.Error())
		return
	}
	if of, ok := document.(map[string]any); ok && of["$schema"] != nil && of["$schema"] != draft {
		f.fault(n.Line, where+": $schema: write "+draft+", or leave it out")
		return
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.AssertFormat()
	c.UseLoader(noLoader{})
	err = c.AddResource(schemaURL, document)
	if err == nil {
		p.schema, err = c.Compile(schemaURL)
	}
	if err == nil {
		return
	}
	message := "is not valid in JSON Schema 2020-12: " + oneLine(err.Error())
	if _, remote := errors.AsType[*jsonschema.LoadURLError](err); remote {
		message = "a $ref stays in its schema: write #/$defs/… and the definition there"
	}
	f.fault(n.Line, where+": "+message)
}

// oneLine returns the most special line of a report, which has the general ones first, or the one with the values that are possible.
func oneLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	line := lines[len(lines)-1]
	if i := slices.IndexFunc(lines, func(line string) bool { return strings.Contains(line, "must be one of") }); i >= 0 {
		line = lines[i]
	}
	return strings.TrimPrefix(strings.TrimSpace(line), "- ")
}

// Bind compiles the texts of the statement with a call's arguments. Faults name what is wrong and what to write, never a value.
func (s *Statement) Bind(d *dialect.Dialect, given []Argument) ([]*dialect.Compiled, []contract.Fault) {
	values, faults := s.check(given)
	if len(faults) > 0 {
		return nil, faults
	}
	return s.compile(d, values)
}

// Untyped compiles the texts without arguments: NULL stands for each.
func (s *Statement) Untyped(d *dialect.Dialect) ([]*dialect.Compiled, []contract.Fault) {
	values := make(map[string]dialect.Value, len(s.Params))
	for i := range s.Params {
		values[s.Params[i].Name] = dialect.Value{Kind: dialect.Null, Type: s.Params[i].Type, Text: "null"}
	}
	return s.compile(d, values)
}

func (s *Statement) compile(d *dialect.Dialect, values map[string]dialect.Value) ([]*dialect.Compiled, []contract.Fault) {
	var faults []contract.Fault
	out := make([]*dialect.Compiled, len(s.Texts))
	for i := range s.Texts {
		text := &s.Texts[i]
		named := make(map[string]dialect.Value, len(text.Params))
		for _, name := range text.Params {
			named[name] = values[name]
		}
		compiled, wrong := dialect.Compile(d, dialect.Statement{SQL: text.SQL, Params: dialect.Params{Named: named}})
		out[i] = compiled
		for _, fault := range wrong { // a parameter of two texts is wrong once
			if !slices.Contains(faults, fault) {
				faults = append(faults, fault)
			}
		}
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return out, nil
}

// check compares a call's arguments with the declared parameters and returns their values with the declared types, those that
// the call leaves out as their defaults.
func (s *Statement) check(given []Argument) (map[string]dialect.Value, []contract.Fault) {
	var faults []contract.Fault
	out := make(map[string]dialect.Value, len(s.Params))
	for i := range given {
		if s.param(given[i].Name) == nil {
			faults = append(faults, s.unknown(given[i].Name))
		}
	}
	for i := range s.Params {
		p := &s.Params[i]
		j := slices.IndexFunc(given, func(a Argument) bool { return a.Name == p.Name })
		var value dialect.Value
		switch {
		case j >= 0:
			faults = append(faults, p.check(given[j].JSON)...)
			value = given[j].Value
		case p.Default != nil:
			value = valueOf(p.Default)
		default:
			faults = append(faults, contract.Fault{Path: "params." + p.Name, Code: contract.CodeMissingKey, Message: p.required()})
		}
		value.Type = p.Type
		out[p.Name] = value
	}
	return out, faults
}

// valueOf reads a default, which is valid JSON.
func valueOf(text json.RawMessage) dialect.Value {
	var s string
	switch {
	case json.Unmarshal(text, &s) == nil && text[0] == '"':
		return dialect.Value{Kind: dialect.String, Text: s}
	case text[0] == '[':
		return dialect.Value{Kind: dialect.Array, Text: string(text)}
	case text[0] == '{':
		return dialect.Value{Kind: dialect.Object, Text: string(text)}
	case text[0] == 'n':
		return dialect.Value{Kind: dialect.Null, Text: "null"}
	case text[0] == 't' || text[0] == 'f':
		return dialect.Value{Kind: dialect.Bool, Text: string(text)}
	default:
		return dialect.Value{Kind: dialect.Number, Text: string(text)}
	}
}

func (p *Param) required() string {
	text := "is required"
	if p.Description != "" {
		text += ": " + p.Description
	}
	return text
}

func (s *Statement) unknown(name string) contract.Fault {
	known := make([]string, 0, len(s.Params))
	for i := range s.Params {
		known = append(known, s.Params[i].Name)
	}
	message := "unknown parameter: " + s.Name + " has "
	near := spell.Nearest(name, known, max(1, len(name)/3))
	switch {
	case near != "":
		message = "unknown parameter: did you mean " + strconv.Quote(near) + "?"
	case len(known) == 0:
		message += "none"
	default:
		message += strings.Join(known, ", ")
	}
	return contract.Fault{Path: "params." + name, Code: contract.CodeUnknownKey, Message: message}
}

// check compares a value with the parameter's schema.
func (p *Param) check(value []byte) []contract.Fault {
	if p.schema == nil {
		return nil
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(value))
	if err == nil {
		err = p.schema.Validate(document)
	}
	if err == nil {
		return nil
	}
	invalid, ok := errors.AsType[*jsonschema.ValidationError](err)
	if !ok {
		return []contract.Fault{{Path: "params." + p.Name, Code: contract.CodeInvalidValue, Message: "is not a JSON value"}}
	}
	return p.faultsOf(invalid)
}

// faultsOf lists the innermost causes of an error. The library's own texts repeat values; these name the keyword that is
// violated, with what the schema says there.
func (p *Param) faultsOf(e *jsonschema.ValidationError) []contract.Fault {
	if len(e.Causes) > 0 {
		var out []contract.Fault
		for _, cause := range e.Causes {
			out = append(out, p.faultsOf(cause)...)
		}
		return out
	}
	where := "params." + p.Name
	for _, step := range e.InstanceLocation {
		if _, err := strconv.Atoi(step); err == nil {
			where += "[" + step + "]"
			continue
		}
		where += "." + step
	}
	_, pointer, _ := strings.Cut(e.SchemaURL, "#")
	keyword := e.ErrorKind.KeywordPath()
	message := "does not match its schema"
	if len(keyword) > 0 {
		message = fmt.Sprintf("does not match its schema: %q", keyword[0])
		if said := p.said(pointer, keyword[0]); said != "" {
			message += " is " + said
		}
	}
	return []contract.Fault{{Path: where, Code: contract.CodeInvalidValue, Message: message}}
}

// said is what the schema has under a keyword, as JSON.
func (p *Param) said(pointer, keyword string) string {
	var at any
	if json.Unmarshal(p.Schema, &at) != nil {
		return ""
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for step := range strings.SplitSeq(strings.TrimPrefix(pointer+"/"+keyword, "/"), "/") {
		switch container := at.(type) {
		case map[string]any:
			at = container[unescape.Replace(step)]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(container) {
				return ""
			}
			at = container[i]
		default:
			return ""
		}
	}
	if at == nil {
		return ""
	}
	encoded, err := json.Marshal(at)
	if err != nil {
		return ""
	}
	return string(encoded)
}
