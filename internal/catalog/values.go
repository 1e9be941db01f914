package catalog

import (
	"encoding/json"
	"errors"
	"strings"

	"go.yaml.in/yaml/v3"
)

// json is a YAML value as JSON; nil after a fault.
func (f *file) json(where string, n *yaml.Node) json.RawMessage {
	value, err := plainValue(n)
	var encoded []byte
	if err == nil {
		encoded, err = json.Marshal(value)
	}
	if err != nil {
		f.fault(n.Line, where+": "+err.Error())
		return nil
	}
	return encoded
}

// plainValue is a YAML value as it is written: YAML itself would make a time of a date, 83 of 0123, and round a number.
func plainValue(n *yaml.Node) (any, error) {
	if n.Kind == yaml.MappingNode {
		return plainObject(n)
	}
	if n.Kind == yaml.SequenceNode {
		out := make([]any, len(n.Content))
		for i, element := range n.Content {
			var err error
			if out[i], err = plainValue(element); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	switch n.ShortTag() {
	case "!!null":
		return nil, nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true"), nil
	case "!!int", "!!float":
		if !json.Valid([]byte(n.Value)) {
			return nil, errors.New("has a number that JSON does not have: write it in decimal digits, or in quotes if it is a text")
		}
		return json.Number(n.Value), nil
	default: // texts, and dates
		return n.Value, nil
	}
}

func plainObject(n *yaml.Node) (map[string]any, error) {
	out := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if _, twice := out[key.Value]; twice || key.Kind != yaml.ScalarNode || key.ShortTag() != "!!str" {
			return nil, errors.New("cannot be written as JSON: use texts as keys, each once")
		}
		value, err := plainValue(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		out[key.Value] = value
	}
	return out, nil
}
