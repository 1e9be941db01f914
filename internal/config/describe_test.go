package config

import (
	_ "embed"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
)

// The comments of the settings' types are their documentation, so that there is one text for both.
var (
	//go:embed config.go
	configSource string
	//go:embed database.go
	databaseSource string
)

// Key describes one setting.
type Key struct {
	Path    string // "databases.<name>.pool.max"
	Env     string // "<NAME>_POOL_MAX"
	Type    string // what is written: "number", "duration", "one of manage, verify", …
	Default string // as it would be written; empty: none
	Limits  string // "1 to 100", "at least 1s"; empty: none
	Doc     string
}

// Describe lists all settings in the order of their types.
func Describe() []Key {
	docs := comments()
	expand := func(_, each string) []string { return []string{"<" + each + ">"} }
	var keys []Key
	for _, l := range leavesOf(reflect.TypeFor[Config](), "", expand) {
		keys = append(keys, l.describe(docs))
	}
	return keys
}

// DescribeSection returns what a section does, by the path above its keys; empty if there is no such section.
func DescribeSection(path string) string {
	t := reflect.TypeFor[Config]()
	for word := range strings.SplitSeq(path, ".") {
		if strings.HasPrefix(word, "<") {
			continue // the name of an element of the map before it
		}
		if t = below(t, word); t == nil {
			return ""
		}
	}
	_, does, _ := strings.Cut(comments()[t.Name()], " ") // a comment starts with its type's name
	return strings.ToUpper(does[:1]) + does[1:]
}

// below returns the struct type of the section with this name; nil if there is none.
func below(t reflect.Type, name string) reflect.Type {
	for _, k := range keysOf(t) {
		if k.name == name {
			// A section, or a map's elements; a leaf has none.
			switch {
			case isSection(k.field.Type):
				return k.field.Type
			case k.field.Type.Kind() == reflect.Map && k.field.Type.Elem().Kind() == reflect.Pointer:
				return k.field.Type.Elem().Elem()
			default:
				return nil
			}
		}
	}
	return nil
}

func (l *leaf) describe(docs map[string]string) Key {
	f := l.key.field
	k := Key{
		Path: l.path, Env: envName(l.path), Type: typeWords(f), Limits: limitWords(f),
		Default: defaultWords(f), Doc: docs[l.key.owner+"."+f.Name],
	}
	if l.file {
		k.Type, k.Doc = "file", "file that contains only "+l.key.name+", as an alternative to it"
	}
	return k
}

func typeWords(f reflect.StructField) string {
	if words := f.Tag.Get("oneof"); words != "" {
		return "one of " + strings.ReplaceAll(words, "|", ", ")
	}
	switch f.Type {
	case secretType:
		return "secret text"
	case durationType:
		return "duration"
	case sizeType:
		return "size"
	}
	switch f.Type.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "number"
	case reflect.Slice:
		return "list"
	case reflect.Map:
		return "names with values"
	default:
		format := f.Tag.Get("format")
		switch format {
		case "file", "name", "subject", "engine", "address":
			return format
		default:
			return "text"
		}
	}
}

func limitWords(f reflect.StructField) string {
	least, most := f.Tag.Get("min"), f.Tag.Get("max")
	switch {
	case least != "" && most != "":
		return least + " to " + most
	case least != "":
		return "at least " + least
	case most != "":
		return "at most " + most
	default:
		return ""
	}
}

func defaultWords(f reflect.StructField) string {
	if text := f.Tag.Get("auto"); text != "" {
		return text
	}
	text := f.Tag.Get("default")
	if text != "" && f.Type.Kind() == reflect.Slice {
		return "[" + text + "]"
	}
	return text
}

// comments returns the comments of types ("Pool") and of their fields ("Pool.Max"), each as one line.
func comments() map[string]string {
	docs := map[string]string{}
	for _, source := range []string{configSource, databaseSource} {
		file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.ParseComments)
		if err != nil {
			panic("config: its own source does not parse: " + err.Error())
		}
		for _, decl := range file.Decls {
			if types, ok := decl.(*ast.GenDecl); ok && types.Tok == token.TYPE {
				commentsOf(types, docs)
			}
		}
	}
	return docs
}

func commentsOf(types *ast.GenDecl, docs map[string]string) {
	for _, spec := range types.Specs {
		t, ok := spec.(*ast.TypeSpec)
		if !ok {
			continue
		}
		docs[t.Name.Name] = oneLine(types.Doc)
		fields, ok := t.Type.(*ast.StructType)
		if !ok {
			continue
		}
		for _, f := range fields.Fields.List {
			for _, name := range f.Names {
				docs[t.Name.Name+"."+name.Name] = oneLine(f.Doc)
			}
		}
	}
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }
