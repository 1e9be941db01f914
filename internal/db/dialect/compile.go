package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/jsontext"
)

// Compile rewrites a statement's parameters to the engine's placeholders and checks everything that can be
// known without the database. All faults come in one answer, their paths relative to the statement ("sql",
// "params", "params.account", "params[2]"); with any fault there is no Compiled. Faults never hold a value.
//
// Parameters given by name are :name in the text, the same name twice being one argument; parameters given as
// a list are $1 … $n on every engine, also ? in its order and ?1 where the dialect has question marks. With a
// list, :name is not a parameter.
func Compile(d *Dialect, stmt Statement) (*Compiled, []contract.Fault) {
	s := d.shape(stmt.SQL)
	b := binder{d: d, shape: s, params: stmt.Params}
	b.faults = append(b.faults, s.faults...) // a copy: callers change paths, and the shape is shared
	out := b.bind()
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	return out, nil
}

// CompileText returns the text that Compile gives with parameters that are not known yet: those that the text names, or, if
// it names none, positional ones.
func CompileText(d *Dialect, sql string) (string, []contract.Fault) {
	s := d.shape(sql)
	faults := slices.Clone(s.faults)
	if s.mixed || len(s.names) > 0 && len(s.positions) > 0 {
		faults = append(faults, contract.Fault{Path: pathSQL, Code: contract.CodeParameter, Message: "parameters of more than one style: use one of them"})
	}
	if len(s.names) > 0 {
		return s.named, faults
	}
	return s.listed, faults
}

// CompileAutocommit is Compile for a statement that runs on its own, outside of any transaction: it may begin with words
// that no other statement of a job may.
func CompileAutocommit(d *Dialect, stmt Statement) (*Compiled, []contract.Fault) {
	out, faults := Compile(d, stmt)
	if out != nil || d.shape(stmt.SQL).startsWith(d.AutocommitVerbs) == "" {
		return out, faults
	}
	b := binder{d: d, shape: d.shape(stmt.SQL), params: stmt.Params, faults: CheckAutocommit(d, stmt.SQL)}
	out = b.bind()
	if len(b.faults) > 0 {
		return nil, b.faults
	}
	return out, nil
}

// CheckAutocommit is CheckText for a statement that runs outside of any transaction.
func CheckAutocommit(d *Dialect, sql string) []contract.Fault {
	faults := CheckText(d, sql)
	if d.shape(sql).startsWith(d.AutocommitVerbs) == "" {
		return faults
	}
	return slices.DeleteFunc(faults, func(f contract.Fault) bool { return f.Code == contract.CodeForbiddenStatement })
}

// HasWord reports whether a word, in upper case, stands unquoted anywhere in a text.
func HasWord(d *Dialect, sql, word string) bool {
	lexer := NewLexer(d, sql)
	for {
		t, ok := lexer.Next()
		if !ok {
			return false
		}
		if t.Kind == TokenWord && strings.EqualFold(sql[t.Start:t.End], word) {
			return true
		}
	}
}

// CheckText returns the faults of a text that has its placeholders already: what Compile finds wrong with a text
// whatever its parameters. It is for engines whose server takes several statements in one text.
func CheckText(d *Dialect, sql string) []contract.Fault { return slices.Clone(d.shape(sql).faults) }

// FirstWord returns the first word of a statement in upper case, behind comments, opening parentheses and
// empty statements; "" if it starts with anything else.
func FirstWord(d *Dialect, sql string) string {
	s := d.shape(sql)
	first, _, _ := strings.Cut(s.lead, " ")
	return first
}

// CheckReadOnly checks the first word of a statement against the words that a read-only query may begin with.
// It is an allow-list and no proof: a function or WITH … INSERT is for the READ ONLY transaction to stop.
func CheckReadOnly(d *Dialect, sql string) []contract.Fault {
	s := d.shape(sql)
	if s.writes != "" {
		return []contract.Fault{{Path: pathSQL, Code: contract.CodeReadOnly, Message: s.writes + ": a read-only query must not write"}}
	}
	if s.startsWith(d.ReadOnlyFirst) != "" {
		return nil
	}
	words := slices.Sorted(maps.Keys(d.ReadOnlyFirst))
	return []contract.Fault{{Path: pathSQL, Code: contract.CodeReadOnly, Message: "a read-only query starts with one of " +
		strings.Join(words, ", ")}}
}

const (
	pathSQL    = "sql"
	pathParams = "params"

	// maxFaults bounds what one statement's faults take; a list of parameters may have a hundred thousand.
	maxFaults = 100
	// maxNameShown bounds a parameter's name in a path, bytes.
	maxNameShown = 100
)

// binder gives the parameters of one statement their places.
type binder struct {
	d      *Dialect
	shape  *shape
	params Params
	faults []contract.Fault
	hidden int // faults above maxFaults
}

func (b *binder) bind() *Compiled {
	b.checkValues()
	var out *Compiled
	switch {
	case b.mixed():
	case b.params.List != nil || len(b.shape.positions) > 0:
		out = &Compiled{SQL: b.shape.listed, Args: b.listArgs(), Origin: &b.shape.byList}
	default:
		out = &Compiled{SQL: b.shape.named, Args: b.namedArgs(), Origin: &b.shape.byName}
	}
	if b.hidden > 0 {
		b.faults = append(b.faults, contract.Fault{
			Path: pathParams, Code: contract.CodeParameter,
			Message: fmt.Sprintf("%d more faults", b.hidden),
		})
	}
	return out
}

func (b *binder) fault(path string, code contract.Code, format string, args ...any) {
	if len(b.faults) >= maxFaults {
		b.hidden++
		return
	}
	b.faults = append(b.faults, contract.Fault{Path: path, Code: code, Message: fmt.Sprintf(format, args...)})
}

// mixed reports (and records) that two styles of parameters meet.
func (b *binder) mixed() bool {
	s, p := b.shape, b.params
	before := len(b.faults)
	switch {
	case s.mixed:
		b.fault(pathSQL, contract.CodeParameter, "both ? and numbered parameters: use one of them")
	case p.List != nil && len(p.Named) > 0:
		b.fault(pathParams, contract.CodeParameter, "parameters are either an object for :name or a list, not both")
	case len(p.Named) > 0 && len(s.positions) > 0:
		b.fault(pathSQL, contract.CodeParameter,
			"parameters are given by name, but the text has positional ones: write them as :name")
	case p.List == nil && len(s.names) > 0 && len(s.positions) > 0:
		b.fault(pathSQL, contract.CodeParameter, "both :name and positional parameters: use one of them")
	case p.List != nil && len(s.names) > 0 && b.namesRefused():
		b.fault(pathSQL, contract.CodeParameter, "parameters are given as a list, but the text has :%s: write $1, $2, … "+
			"or give the parameters as an object", shorten(s.names[0]))
	}
	return len(b.faults) > before
}

// namesRefused: :name in the text cannot be left alone beside a list. It can where it may be the bound of a
// slice, a[1 :n], but not where nothing else could be meant.
func (b *binder) namesRefused() bool {
	return strings.IndexByte(b.d.Sigils, ':') >= 0 || len(b.shape.positions) == 0 && len(b.params.List) > 0
}

// listArgs are the arguments of positional parameters; the placeholders have their numbers.
func (b *binder) listArgs() []Value {
	used, list := b.shape.positions, b.params.List
	for i := range max(len(used), len(list)) {
		switch {
		case i >= len(list) && used[i]:
			b.fault(elementPath(i), contract.CodeParameter, "$%d is missing: params has %d values", i+1, len(list))
		case i >= len(used):
			b.fault(elementPath(i), contract.CodeParameter, "left over: the text has no $%d", i+1)
		case !used[i]:
			b.fault(elementPath(i), contract.CodeParameter, "a gap: the text has $%d but no $%d", len(used), i+1)
		}
	}
	b.checkCount(len(used))
	return list
}

func (b *binder) namedArgs() []Value {
	names, given := b.shape.names, b.params.Named
	var args []Value
	if len(names) > 0 {
		args = make([]Value, 0, len(names))
	}
	for _, name := range names {
		v, ok := given[name]
		if !ok {
			b.fault(namePath(name), contract.CodeParameter, "missing: the text has :%s%s", shorten(name), b.sliceHint())
		}
		args = append(args, v)
	}
	if len(given) > len(names) || len(b.faults) > 0 {
		b.leftOver()
	}
	b.checkCount(len(names))
	return args
}

// sliceHint is for a text whose job has no parameters at all: what is taken for one may be the bound of a slice.
func (b *binder) sliceHint() string {
	if b.d.Brackets || len(b.params.Named) > 0 || strings.IndexByte(b.shape.named, '[') < 0 {
		return ""
	}
	return "; the bound of a slice has a blank behind its colon: a[1: n]"
}

// leftOver reports parameters that the text does not have, in the order of their names.
func (b *binder) leftOver() {
	there := make(map[string]bool, len(b.shape.names))
	for _, name := range b.shape.names {
		there[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(b.params.Named)) {
		if !there[name] {
			b.fault(namePath(name), contract.CodeParameter, "left over: the text has no parameter of this name")
		}
	}
}

func (b *binder) checkCount(n int) {
	if limit := b.d.maxParams(); n > limit {
		b.fault(pathParams, contract.CodeParameter, "%d parameters, this database takes at most %d", n, limit)
	}
}

func (b *binder) checkValues() {
	for i := range b.params.List {
		if message := b.d.checkValue(b.params.List[i]); message != "" {
			b.fault(elementPath(i), contract.CodeParameter, "%s", message)
		}
	}
	bad := 0
	for _, v := range b.params.Named {
		if b.d.checkValue(v) != "" {
			bad++
		}
	}
	if bad == 0 {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(b.params.Named)) {
		if message := b.d.checkValue(b.params.Named[name]); message != "" {
			b.fault(namePath(name), contract.CodeParameter, "%s", message)
		}
	}
}

// checkValue reports what is wrong with a value, "" if nothing. It never shows the value.
func (d *Dialect) checkValue(v Value) string {
	switch {
	case v.Kind == String && strings.IndexByte(v.Text, 0) >= 0:
		return "a text with a NUL character cannot be a parameter"
	case v.Kind == Array && v.Type == "":
		return `a list needs a type: {"type": "int4[]", "value": [1, 2]}, or "jsonb" for JSON`
	case v.Kind == Object && v.Type == "":
		return `an object needs a type: {"type": "jsonb", "value": {…}}`
	case d.CheckValue == nil:
		return ""
	}
	return d.CheckValue(v)
}

// mostParams is the limit of a dialect that names none: no engine takes more.
const mostParams = 65535

func (d *Dialect) maxParams() int {
	if d.MaxParams > 0 {
		return d.MaxParams
	}
	return mostParams
}

func elementPath(i int) string { return pathParams + "[" + strconv.Itoa(i) + "]" }

// namePath is the path of a named parameter; a name that is no identifier stands quoted in brackets.
func namePath(name string) string {
	plain := name != "" && isNameStart(name[0])
	for i := 0; plain && i < len(name); i++ {
		plain = isNamePart(name[i])
	}
	if plain {
		return pathParams + "." + shorten(name)
	}
	return pathParams + "[" + string(jsontext.AppendString(nil, shorten(name))) + "]"
}

func shorten(name string) string {
	if len(name) <= maxNameShown {
		return name
	}
	return strings.ToValidUTF8(name[:maxNameShown], "") + "…"
}

// ParamNames returns the names of a statement's :name parameters in the order of their numbers; positional reports whether it
// has others.
func ParamNames(d *Dialect, sql string) (names []string, positional bool) {
	s := d.shape(sql)
	return slices.Clone(s.names), len(s.positions) > 0
}
