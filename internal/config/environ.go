package config

import (
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"dbrunner/internal/spell"
)

// environment is the layer above the file.
type environment struct {
	vars      map[string]string // those that are not empty
	words     Words
	file      map[string]any // the layer below
	faults    *collector
	databases []string        // names from the file and from RUNNER_DATABASES, sorted
	known     map[string]bool // names of all variables that may be set
}

func parseEnviron(environ []string) map[string]string {
	vars := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok && value != "" {
			vars[name] = value
		}
	}
	return vars
}

// findDatabases collects the names of the databases, which determine the variables that are read.
func (e *environment) findDatabases() {
	names := map[string]bool{}
	if below, ok := e.file[databasesKey].(map[string]any); ok {
		for name := range below {
			names[name] = true
		}
	}
	for i, name := range strings.Split(e.vars[databasesEnv], ",") {
		name = strings.TrimSpace(name)
		switch {
		case isName(name):
			names[name] = true
		case name != "":
			e.faults.list = append(e.faults.list, Fault{
				Env: databasesEnv, Message: "name " + strconv.Itoa(i+1) + " in the list is not a valid database name: " + nameRule,
			})
		}
	}
	e.databases = slices.Sorted(maps.Keys(names))
}

// expand gives the names that stand for the elements of the map at a path.
func (e *environment) expand(path, each string) []string {
	switch each {
	case "name":
		return e.databases
	case "queue":
		return e.queuesOf(path)
	}
	return e.words.Kinds
}

// overlay puts the environment's values into the file's keys, and records each value's variable.
func (e *environment) overlay(written map[string]any) {
	e.known = map[string]bool{databasesEnv: true}
	e.findQueues(written)
	for _, l := range leavesOf(reflect.TypeFor[Config](), "", e.expand) {
		name := envName(l.path)
		e.known[name] = true
		if text, ok := e.vars[name]; ok && e.room(l.path) {
			put(written, strings.Split(l.path, "."), scalar{Text: text, Kind: envText})
			e.faults.origins[l.path] = origin{env: name}
		}
	}
}

// room reports whether the file has keys, or nothing, in all the places above a path. Where it has something
// else, that is a fault to be reported and not to be covered.
func (e *environment) room(path string) bool {
	at := e.file
	parts := strings.Split(path, ".")
	for _, part := range parts[:len(parts)-1] {
		switch v := at[part].(type) {
		case map[string]any:
			at = v
		case nil:
			return true
		case scalar:
			return v.Kind == tagNull
		default:
			return false
		}
	}
	return true
}

func put(m map[string]any, path []string, value any) {
	for _, part := range path[:len(path)-1] {
		below, ok := m[part].(map[string]any)
		if !ok {
			below = map[string]any{}
			m[part] = below
		}
		m = below
	}
	m[path[len(path)-1]] = value
}

// serviceLink is what Kubernetes sets for every service of a namespace: not meant for anybody's settings.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`)

// findUnread reports variables that look as if they were meant for this program and are not read by it: any that
// starts like a section's, and any that differs by a slip from one that is known.
func (e *environment) findUnread() {
	known := slices.Sorted(maps.Keys(e.known))
	for _, name := range slices.Sorted(maps.Keys(e.vars)) {
		if e.known[name] || serviceLink.MatchString(name) {
			continue
		}
		misspelled := e.hasOurPrefix(name) && spell.Nearest(name, known, slip(name)) != ""
		if !misspelled && !e.inSection(name) {
			continue
		}
		message := "unknown setting"
		if near := nearestName(name, known); near != "" {
			message += "; did you mean " + near + "?"
		}
		e.faults.list = append(e.faults.list, Fault{Env: name, Message: message})
	}
}

// inSection reports whether a name starts like those of a section: RUNNER_NATS_, RUNNER_WORKER_, …
func (e *environment) inSection(name string) bool {
	for _, k := range keysOf(reflect.TypeFor[Config]()) {
		if isSection(k.field.Type) && strings.HasPrefix(name, envName(k.name)+"_") {
			return true
		}
	}
	return false
}

// hasOurPrefix reports whether a name starts with RUNNER_ or with a database's prefix.
func (e *environment) hasOurPrefix(name string) bool {
	return strings.HasPrefix(name, envPrefix+"_") || slices.ContainsFunc(e.databases, func(database string) bool {
		return strings.HasPrefix(name, envWord(database)+"_")
	})
}

// slip is how many characters a name may differ from a known one and still be taken for it. Names that share a
// prefix are alike to begin with, so only the part behind the first word counts.
func slip(name string) int {
	if _, rest, ok := strings.Cut(name, "_"); ok && len(rest) > 5 {
		return 2
	}
	return 1
}
