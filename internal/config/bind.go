package config

import (
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"dbrunner/internal/spell"
)

// binder puts what was written into the structs.
type binder struct {
	faults *collector
	files  bool // read the files of databases' secrets
}

// section sets the fields of v, a struct, from the keys below path.
func (b *binder) section(v reflect.Value, written map[string]any, path string) {
	known := keysOf(v.Type())
	for _, k := range known {
		value, ok := written[k.name]
		field := v.FieldByIndex(k.index)
		switch at := join(path, k.name); {
		case k.field.Type == secretType:
			b.secret(field.Addr().Interface().(*Secret), written, k.name, path)
		case !ok || at == databasesKey:
		case isSection(k.field.Type):
			if below, ok := b.below(value, at); ok {
				b.section(field, below, at)
			}
		case k.field.Tag.Get("each") != "":
			b.each(field, value, at)
		default:
			b.leaf(field, value, at)
		}
	}
	b.unknown(known, written, path)
}

// below returns the keys below a section; nothing written there is no fault: its keys may be commented out.
func (b *binder) below(value any, path string) (map[string]any, bool) {
	switch v := value.(type) {
	case map[string]any:
		return v, true
	case scalar:
		if v.Kind == tagNull {
			return nil, true
		}
	}
	b.faults.add(path, "expected nested keys with values")
	return nil, false
}

// each sets the elements of a map of structs; those that are there already keep what is not written again.
func (b *binder) each(field reflect.Value, value any, path string) {
	below, ok := b.below(value, path)
	if !ok {
		return
	}
	if field.IsNil() {
		field.Set(reflect.MakeMap(field.Type()))
	}
	for _, name := range slices.Sorted(maps.Keys(below)) {
		elem := field.MapIndex(reflect.ValueOf(name))
		if !elem.IsValid() {
			elem = reflect.New(field.Type().Elem().Elem())
			field.SetMapIndex(reflect.ValueOf(name), elem)
		}
		if keys, ok := b.below(below[name], join(path, name)); ok {
			b.section(elem.Elem(), keys, join(path, name))
		}
	}
}

func (b *binder) leaf(field reflect.Value, value any, path string) {
	var err error
	switch v := value.(type) {
	case scalar:
		if v.Kind == tagString && variable.MatchString(v.Text) {
			b.interpolation(path)
			return
		}
		err = setScalar(field, v)
	case []any:
		err = setSequence(field, v)
	case map[string]any:
		err = setMapping(field, v)
	}
	if err != nil {
		b.faults.add(path, err.Error())
	}
}

// variable is what people write who expect the environment to be put in.
var variable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

func (b *binder) interpolation(path string) {
	b.faults.add(path, "${…} is not expanded in this file; remove the key and set the environment variable "+envName(path))
}

func setSequence(field reflect.Value, items []any) error {
	list, ok := field.Addr().Interface().(*[]string)
	if !ok {
		return errOne(field)
	}
	*list = make([]string, 0, len(items))
	for _, item := range items {
		s, ok := item.(scalar)
		if !ok || s.Kind != tagString {
			return errQuotes
		}
		text, err := unquoted(s.Text)
		if err != nil {
			return fmt.Errorf("entry %d: %w", len(*list)+1, err)
		}
		*list = append(*list, text)
	}
	return nil
}

func setMapping(field reflect.Value, written map[string]any) error {
	pairs, ok := field.Addr().Interface().(*map[string]string)
	if !ok {
		return errOne(field)
	}
	*pairs = make(map[string]string, len(written))
	for name, value := range written {
		s, ok := value.(scalar)
		if !ok || s.Kind == tagNull {
			return errPairs
		}
		text, err := unquoted(s.Text)
		if err != nil {
			return err
		}
		(*pairs)[name] = text
	}
	return nil
}

// errOne returns what a field takes instead of several values.
func errOne(field reflect.Value) error {
	return setScalar(reflect.New(field.Type()).Elem(), scalar{Kind: "several"})
}

// unknown reports unknown keys, each with the known key that looks most like it.
func (b *binder) unknown(known []key, written map[string]any, path string) {
	names := make([]string, 0, len(known))
	for _, k := range known {
		names = append(names, k.name)
		if k.field.Type == secretType {
			names = append(names, k.name+fileSuffix)
		}
	}
	for name := range written {
		if !slices.Contains(names, name) {
			b.faults.add(join(path, name), unknownKey(name, names))
		}
	}
}

// nearestName returns the name that a wrong one was probably meant to be; empty if none is near.
func nearestName(name string, known []string) string {
	return spell.Nearest(name, known, min(len(name)/3, 3))
}

func unknownKey(name string, known []string) string {
	if near := nearestName(name, known); near != "" {
		return "unknown key; did you mean " + near + "?"
	}
	return "unknown key; valid keys: " + strings.Join(slices.Sorted(slices.Values(known)), ", ")
}
