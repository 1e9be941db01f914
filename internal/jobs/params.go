package jobs

import "dbrunner/internal/db"

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
func (r *reader) params(at int) (db.Params, bool) {
	switch r.nodes[at].kind {
	case objectToken:
		return db.Params{Named: r.namedParams(at)}, true
	case arrayToken:
		list := make([]db.Value, 0, r.elements(at))
		for i := at + 1; i < r.behind(at); i = r.behind(i) {
			list = append(list, r.param(i))
		}
		return db.Params{List: list}, true
	default:
		r.reject(at, CodeInvalidValue,
			"must be an object for :name parameters or a list for positional ones"+r.hintNull(at))
		return db.Params{}, false
	}
}

func (r *reader) namedParams(at int) map[string]db.Value {
	named := make(map[string]db.Value, r.elements(at)/2)
	for key := at + 1; key < r.behind(at); key = r.behind(key + 1) {
		name := r.str(key)
		if _, there := named[name]; there {
			r.reject(key, CodeDuplicateKey, "this parameter is there more than once: write it once")
		}
		named[name] = r.param(key + 1)
	}
	return named
}

// param reads one parameter; one with a fault stands in as null, so that the others can be checked.
func (r *reader) param(at int) db.Value {
	switch r.nodes[at].kind {
	case objectToken:
		return r.typedParam(at)
	case arrayToken:
		r.reject(at, CodeParameterNotTyped, "a list needs a type: "+typedHint)
		return db.Value{Kind: db.Null, Text: "null"}
	default:
		return r.value(at)
	}
}

func (r *reader) typedParam(at int) db.Value {
	var found [2]int
	before := r.faulty()
	r.members(at, paramKeys, found[:])
	if r.faulty() == before && (found[paramType] == 0 || found[paramValue] == 0) {
		r.reject(at, CodeParameterNotTyped, "an object needs a type and a value: "+typedHint)
	}
	name := ""
	if found[paramType] != 0 {
		name = r.typeName(found[paramType])
	}
	if r.faulty() > before {
		return db.Value{Kind: db.Null, Text: "null"}
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
		r.reject(at, CodeInvalidValue, "must be the name of a database type, at most 200 bytes, such as uuid")
	}
	return name
}

// value takes a value over as it was written.
func (r *reader) value(at int) db.Value {
	switch r.nodes[at].kind {
	case stringToken:
		return db.Value{Kind: db.String, Text: r.str(at)}
	case numberToken:
		return db.Value{Kind: db.Number, Text: r.raw(at)}
	case boolToken:
		return db.Value{Kind: db.Bool, Text: r.raw(at)}
	case arrayToken:
		return db.Value{Kind: db.Array, Text: r.raw(at)}
	case objectToken:
		return db.Value{Kind: db.Object, Text: r.raw(at)}
	default:
		return db.Value{Kind: db.Null, Text: r.raw(at)}
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
