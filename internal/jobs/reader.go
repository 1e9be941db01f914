package jobs

import (
	"slices"
	"strconv"
	"strings"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/catalog"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
	"dbrunner/internal/spell"
)

// Bounds on the texts of a rejection, so that an answer always fits its stream.
const (
	maxFaults       = 50
	maxFaultPath    = 160 // bytes
	maxFaultMessage = 480 // bytes
)

// reader interprets one body: it finds what it is asked for and collects what is wrong.
type reader struct {
	jsontext.Tape
	kinds   []kind
	dialect *dialect.Dialect
	inputs  bulk.Inputs

	sharedCommits bool // the database's policy

	faults  []contract.Fault
	more    int          // faults beyond maxFaults
	top     [maxKeys]int // where the values of the body's own keys are; 0 = absent
	twice   uint32       // a bit for each of the body's own keys that is there more than once
	scratch []byte

	called     *catalog.Statement // that a call names; nil: there is none
	calledName string
	calls      []string // the names of all statements of the catalog
	understood bool     // the kind's own keys can be hashed although there is a fault in them
	maxRequest int      // largest request of a dry run, bytes; 0: no limit
}

// reset forgets the last body and keeps the memory.
func (r *reader) reset() {
	clear(r.top[:])
	r.faults, r.more, r.twice = nil, 0, 0
	r.called, r.calledName, r.understood = nil, "", false
}

// faulty counts the faults so far.
func (r *reader) faulty() int { return len(r.faults) + r.more }

// reject notes a fault of the node at a place.
func (r *reader) reject(at int, code contract.Code, message string) {
	r.rejectBelow(at, "", code, message)
}

// rejectBelow notes a fault of something that is, or should be, at a path below a node.
func (r *reader) rejectBelow(at int, below string, code contract.Code, message string) {
	if len(r.faults) == maxFaults {
		r.more++
		return
	}
	path := r.Path(at)
	if path != "" && below != "" && below[0] != '[' {
		path += "."
	}
	r.faults = append(r.faults, contract.Fault{
		Path: jsontext.Clip(path+below, maxFaultPath), Code: code, Message: jsontext.Clip(message, maxFaultMessage),
	})
}

// takeFaults returns the faults found, the last one saying how many more there are.
func (r *reader) takeFaults() []contract.Fault {
	if r.more > 0 {
		r.faults = append(r.faults, contract.Fault{
			Code: contract.CodeInvalidBody, Message: "and " + strconv.Itoa(r.more) + " more faults that are not listed",
		})
	}
	return r.faults
}

// members finds the values of the known keys of an object: found[i] is the value of keys[i], 0 if absent. Unknown,
// wrongly cased and repeated keys are faults; the result has a bit for each key that is repeated.
func (r *reader) members(object int, keys []string, found []int) (twice uint32) {
	for key := object + 1; key < r.After(object); key = r.After(key + 1) {
		i := indexOf(keys, r.Str(key))
		switch {
		case i < 0 && len(r.faults) == maxFaults:
			r.more++ // without a suggestion that is listed nowhere
		case i < 0:
			r.reject(key, contract.CodeUnknownKey, r.unknownKey(r.Str(key), keys))
		case found[i] != 0:
			twice |= 1 << i
			r.reject(key, contract.CodeDuplicateKey, "duplicate key: write it once")
		default:
			found[i] = key + 1
		}
	}
	return twice
}

func indexOf(keys []string, key string) int {
	for i := range keys {
		if keys[i] == key {
			return i
		}
	}
	return -1
}

// unknownKey suggests what a publisher may have meant.
func (r *reader) unknownKey(key string, known []string) string {
	for _, k := range known {
		if strings.EqualFold(k, key) {
			return "keys are written in lower case: write " + strconv.Quote(k)
		}
	}
	if indexOf(known, "version") >= 0 { // the body itself
		var kinds []string
		for i := range r.kinds {
			if indexOf(r.kinds[i].keys, key) >= 0 {
				kinds = append(kinds, r.kinds[i].name)
			}
		}
		kinds = slices.Compact(kinds)
		switch {
		case indexOf(known, "statements") >= 0 && indexOf(statementKeys, key) >= 0:
			return `this key belongs into an element of "statements": write "statements": [{"sql": "…"}]`
		case len(kinds) > 0:
			return "this key belongs to jobs of kind " + strings.Join(kinds, " or ") + "; the kind is the last word of the subject"
		}
	}
	if near := spell.Nearest(key, known, max(1, len(key)/3)); near != "" {
		return "unknown key: did you mean " + strconv.Quote(near) + "?"
	}
	return "unknown key; known here: " + strings.Join(known, ", ")
}

// isString reads a string; another kind of value is a fault.
func (r *reader) isString(at int, what string) (string, bool) {
	if r.Kind(at) != jsontext.String {
		r.reject(at, contract.CodeInvalidValue, "must be a string: "+what+r.hintNull(at))
		return "", false
	}
	return r.Str(at), true
}

// isInteger reads a whole number of at least least; anything else is a fault.
func (r *reader) isInteger(at int, least int64, what string) (int64, bool) {
	if r.Kind(at) == jsontext.Number {
		if n, err := strconv.ParseInt(r.Raw(at), 10, 64); err == nil && n >= least {
			return n, true
		}
	}
	r.reject(at, contract.CodeInvalidValue, "must be a whole number: "+what+r.hintNull(at))
	return 0, false
}

// isTrue reads true or false; anything else is a fault.
func (r *reader) isTrue(at int) bool {
	if r.Kind(at) == jsontext.Bool {
		return r.Raw(at) == "true"
	}
	r.reject(at, contract.CodeInvalidValue, "must be true or false"+r.hintNull(at))
	return false
}

// isObject checks for an object; another kind of value is a fault.
func (r *reader) isObject(at int, what string) bool {
	if r.Kind(at) != jsontext.Object {
		r.reject(at, contract.CodeInvalidValue, "must be an object: "+what+r.hintNull(at))
		return false
	}
	return true
}

// isOneOf reads a string that must be one of a few words and returns its position among them.
func (r *reader) isOneOf(at int, words ...string) (int, bool) {
	if r.Kind(at) == jsontext.String {
		if i := indexOf(words, r.Str(at)); i >= 0 {
			return i, true
		}
	}
	r.reject(at, contract.CodeInvalidValue, "must be one of "+joinWords(words)+r.hintNull(at))
	return 0, false
}

func joinWords(words []string) string { return strings.Join(words, ", ") }

func (r *reader) hintNull(at int) string {
	if r.Kind(at) == jsontext.Null {
		return "; null is no value here, leave the key out"
	}
	return ""
}
