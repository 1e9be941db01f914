package config

import (
	"reflect"
	"slices"
	"strings"
	"time"
)

// key is one field of a configuration struct that has a name in the file.
type key struct {
	name  string
	index []int
	field reflect.StructField
	owner string // name of the struct type
}

// keysOf returns the keys of a struct type in their order; those of an inlined struct stand in its place.
func keysOf(t reflect.Type) []key {
	var out []key
	for f := range t.Fields() {
		name := f.Tag.Get("key")
		switch name {
		case "":
		case ",inline":
			for _, k := range keysOf(f.Type) {
				k.index = append(slices.Clone(f.Index), k.index...)
				out = append(out, k)
			}
		default:
			out = append(out, key{name: name, index: f.Index, field: f, owner: t.Name()})
		}
	}
	return out
}

// leaf is a key that has a value and no keys below it.
type leaf struct {
	path string
	key  key
	file bool // the companion of a secret that names a file with its text
}

// fileSuffix makes the name of a secret's companion.
const fileSuffix = "_file"

// leavesOf lists all leaves below a struct type. Below a map it lists them for each of the names that expand
// gives for the map's path and its tag "each".
func leavesOf(t reflect.Type, path string, expand func(path, each string) []string) []leaf {
	var out []leaf
	for _, k := range keysOf(t) {
		at := join(path, k.name)
		switch {
		case isSection(k.field.Type):
			out = append(out, leavesOf(k.field.Type, at, expand)...)
		case k.field.Tag.Get("each") != "":
			for _, name := range expand(at, k.field.Tag.Get("each")) {
				out = append(out, leavesOf(k.field.Type.Elem().Elem(), join(at, name), expand)...)
			}
		default:
			out = append(out, leaf{path: at, key: k})
			if k.field.Type == secretType {
				out = append(out, leaf{path: at + fileSuffix, key: k, file: true})
			}
		}
	}
	return out
}

var (
	secretType   = reflect.TypeFor[Secret]()
	durationType = reflect.TypeFor[time.Duration]()
	sizeType     = reflect.TypeFor[Size]()
)

func isSection(t reflect.Type) bool { return t.Kind() == reflect.Struct && t != secretType }

const (
	envPrefix      = "RUNNER"
	databasesKey   = "databases"
	databasesEnv   = envPrefix + "_DATABASES"
	defaultsKey    = "defaults"
	databasesStart = databasesKey + "."
)

// envName is the rule for names of environment variables: RUNNER_ and the path in upper case with _ for each dot;
// below a database the database's name takes the place of RUNNER.
func envName(path string) string {
	prefix, rest := envPrefix, path
	if below, ok := strings.CutPrefix(path, databasesStart); ok {
		name, key, _ := strings.Cut(below, ".")
		prefix, rest = envWord(name), key
	}
	return prefix + "_" + envWord(rest)
}

func envWord(text string) string {
	return strings.ToUpper(strings.NewReplacer(".", "_", "-", "_").Replace(text))
}
