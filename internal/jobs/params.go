package jobs

import (
	"dbrunner/contract"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// maxTypeName bounds the type of a typed parameter, bytes: two quoted names of 63 and brackets fit.
const maxTypeName = 200

// Where the two keys of a typed parameter are in its list of keys.
const (
	paramType = iota
	paramValue
)

var paramKeys = []string{paramType: "type", paramValue: "value"}

const typedHint = `write {"type": "…", "value": …}`

// params reads the parameters of a statement; false if they are no parameters at all.
func (r *reader) params(at int) (dialect.Params, bool) {
	switch r.Kind(at) {
	case jsontext.Object:
		named := make(map[string]dialect.Value, r.Len(at)/2)
		for key := at + 1; key < r.After(at); key = r.After(key + 1) {
			name := r.Str(key)
			if _, there := named[name]; there {
				r.reject(key, contract.CodeDuplicateKey, "duplicate parameter: write it once")
			}
			named[name] = r.param(key + 1)
		}
		return dialect.Params{Named: named}, true
	case jsontext.Array:
		list := make([]dialect.Value, 0, r.Len(at))
		for i := at + 1; i < r.After(at); i = r.After(i) {
			list = append(list, r.param(i))
		}
		return dialect.Params{List: list}, true
	default:
		r.reject(at, contract.CodeInvalidValue,
			"must be an object for :name parameters or a list for positional ones"+r.hintNull(at))
		return dialect.Params{}, false
	}
}

// param reads one parameter; one with a fault stands in as null, so that the others can be checked.
func (r *reader) param(at int) dialect.Value {
	switch r.Kind(at) {
	case jsontext.Object:
		return r.typedParam(at)
	case jsontext.Array:
		r.reject(at, contract.CodeParameterNotTyped, "a list needs a type: "+typedHint)
		return dialect.Value{Kind: dialect.Null, Text: "null"}
	default:
		return r.value(at)
	}
}

func (r *reader) typedParam(at int) dialect.Value {
	var found [2]int
	before := r.faulty()
	r.members(at, paramKeys, found[:])
	if r.faulty() == before && (found[paramType] == 0 || found[paramValue] == 0) {
		r.reject(at, contract.CodeParameterNotTyped, "an object needs a type and a value: "+typedHint)
	}
	name := ""
	if found[paramType] != 0 {
		name = r.typeName(found[paramType])
	}
	if r.faulty() > before {
		return dialect.Value{Kind: dialect.Null, Text: "null"}
	}
	v := r.value(found[paramValue])
	v.Type = name
	return v
}

func (r *reader) typeName(at int) string {
	name, ok := r.isString(at, "the name of a database type")
	if !ok {
		return ""
	}
	if name == "" || len(name) > maxTypeName || !printable(name) {
		r.reject(at, contract.CodeInvalidValue, "must be the name of a database type, at most 200 bytes, such as uuid")
	}
	return name
}

// value takes a value over as it was written.
func (r *reader) value(at int) dialect.Value {
	switch r.Kind(at) {
	case jsontext.String:
		return dialect.Value{Kind: dialect.String, Text: r.Str(at)}
	case jsontext.Number:
		return dialect.Value{Kind: dialect.Number, Text: r.Raw(at)}
	case jsontext.Bool:
		return dialect.Value{Kind: dialect.Bool, Text: r.Raw(at)}
	case jsontext.Array:
		return dialect.Value{Kind: dialect.Array, Text: r.Raw(at)}
	case jsontext.Object:
		return dialect.Value{Kind: dialect.Object, Text: r.Raw(at)}
	default:
		return dialect.Value{Kind: dialect.Null, Text: r.Raw(at)}
	}
}

// printable reports whether a text has no control characters.
func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return false
		}
	}
	return true
}
