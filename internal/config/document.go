package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// scalar is one written value before anybody knows what it should be.
type scalar struct {
	Text string
	Kind string // as YAML reads it: "!!str", "!!int", …; envText for a value from the environment
}

const (
	envText = "env"

	tagString = "!!str"
	tagInt    = "!!int"
	tagFloat  = "!!float"
	tagBool   = "!!bool"
	tagNull   = "!!null"
)

var (
	yamlLine     = regexp.MustCompile(`line (\d+)`)
	plainName    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	errFaultyDoc = errors.New("the file cannot be parsed")
)

// isName reports whether text can be a key or the name of a database.
func isName(text string) bool { return len(text) <= 64 && plainName.MatchString(text) }

// document turns the text of a YAML file into nested maps with a scalar at every leaf. It is strict: no key twice, no
// anchors, one document; and it records the line of every value.
type document struct{ faults *collector }

// read parses the text. Faults go to the collector; an error means that nothing could be read.
func (d *document) read(text []byte) (map[string]any, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var root yaml.Node
	switch err := dec.Decode(&root); {
	case errors.Is(err, io.EOF):
		return map[string]any{}, nil
	case err != nil:
		d.broken(err)
		return nil, errFaultyDoc
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		d.add(&root, "", "more than one YAML document; remove the line --- and what follows")
		return nil, errFaultyDoc
	}
	n := root.Content[0]
	if n.Kind == yaml.ScalarNode && n.ShortTag() == tagNull {
		return map[string]any{}, nil // nothing but comments
	}
	if n.Kind != yaml.MappingNode {
		d.add(n, "", `write keys with values, such as "namespace: dbrunner"`)
		return nil, errFaultyDoc
	}
	return d.mapping(n, ""), nil
}

// broken reports a syntax error. The parser's texts are fixed but for the one that repeats an anchor's name.
func (d *document) broken(err error) {
	f := Fault{Message: "invalid YAML"}
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		text = strings.TrimPrefix(text, m[0]+": ")
	}
	if strings.Contains(text, "anchor") {
		text = "alias without an anchor"
	}
	f.Message += ": " + text
	d.faults.list = append(d.faults.list, f)
}

func (d *document) add(n *yaml.Node, path, message string) {
	if path != "" {
		d.faults.origins[path] = origin{line: n.Line}
		d.faults.add(path, message)
		return
	}
	d.faults.list = append(d.faults.list, Fault{Line: n.Line, Message: message})
}

// value returns nil for what has an error: it is not read again.
func (d *document) value(n *yaml.Node, path string) any {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		d.add(n, path, "anchors and aliases are not supported; write what databases share once, under defaults")
	case n.Kind == yaml.MappingNode:
		return d.mapping(n, path)
	case n.Kind == yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			v := d.value(item, path+"["+strconv.Itoa(i)+"]")
			if v == nil {
				d.faults.faulty[path] = true
				return nil
			}
			out = append(out, v)
		}
		return out
	default:
		switch tag := n.ShortTag(); tag {
		case tagString, tagInt, tagFloat, tagBool, tagNull, "!!timestamp", "!!merge":
			return scalar{Text: n.Value, Kind: tag}
		default:
			d.add(n, path, "tags such as !name are not supported; write the plain value")
			return nil
		}
	}
	return nil
}

func (d *document) mapping(n *yaml.Node, path string) map[string]any {
	out := make(map[string]any, len(n.Content)/2)
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode || !isName(key.Value) {
			d.add(key, path, "invalid key; a name has 1 to 64 characters of A-Z a-z 0-9 _ -")
			continue
		}
		at := join(path, key.Value)
		if line, twice := seen[key.Value]; twice {
			d.add(key, at, "duplicate key, first used on line "+strconv.Itoa(line)+"; remove one of them")
			continue
		}
		seen[key.Value] = key.Line
		d.faults.origins[at] = origin{line: key.Line}
		if v := d.value(value, at); v != nil {
			out[key.Value] = v
		}
	}
	return out
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}
