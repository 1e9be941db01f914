package catalog

import (
	"bytes"
	"encoding/json"
	"strconv"

	"dbrunner/contract"
)

// Calls describes all statements for their callers, in the order of their names.
func (c *Catalog) Calls() []contract.CallInfo {
	var out []contract.CallInfo
	for _, name := range c.Names() {
		s := c.statements[name]
		info := contract.CallInfo{
			Name: name, Description: s.Description, Revision: s.Revision, Effect: s.Effect(), Schema: s.Schema,
			MaxRows: s.MaxRows, MaxAffected: s.MaxAffected,
		}
		if s.Timeout > 0 {
			info.Timeout = s.Timeout.String()
		}
		out = append(out, info)
	}
	return out
}

// Effect is that of the statement's calls.
func (s *Statement) Effect() contract.Effect {
	if s.Query {
		return contract.ReadOnly
	}
	return contract.ExactlyOnce
}

// paramsSchema is the schema of the object with a call's parameters.
func (s *Statement) paramsSchema() json.RawMessage {
	type object struct {
		Schema     string                     `json:"$schema"`
		Type       string                     `json:"type"`
		Properties map[string]json.RawMessage `json:"properties"`
		Required   []string                   `json:"required,omitempty"`
		Additional bool                       `json:"additionalProperties"`
	}
	out := object{Schema: draft, Type: "object", Properties: make(map[string]json.RawMessage, len(s.Params))}
	for i := range s.Params {
		p := &s.Params[i]
		out.Properties[p.Name] = p.property(s.Name)
		if p.Default == nil {
			out.Required = append(out.Required, p.Name)
		}
	}
	encoded, err := json.Marshal(out)
	if err != nil {
		panic(err) // valid JSON alone
	}
	return encoded
}

// property is a parameter's schema with its description and default. One with references gets an id, so that they stay inside.
func (p *Param) property(of string) json.RawMessage {
	keys := map[string]json.RawMessage{}
	if p.Schema != nil && json.Unmarshal(p.Schema, &keys) != nil {
		keys = map[string]json.RawMessage{"allOf": json.RawMessage("[" + string(p.Schema) + "]")} // true or false
	}
	delete(keys, "$schema")
	if p.Description != "" {
		keys["description"] = json.RawMessage(quoted(p.Description))
	}
	if p.Default != nil {
		keys["default"] = p.Default
	}
	if keys["$id"] == nil && (bytes.Contains(p.Schema, []byte(`"$ref"`)) || bytes.Contains(p.Schema, []byte(`"$dynamicRef"`))) {
		keys["$id"] = json.RawMessage(quoted("urn:dbrunner:call:" + of + ":" + p.Name))
	}
	encoded, err := json.Marshal(keys)
	if err != nil {
		panic(err) // valid JSON alone
	}
	return encoded
}

func quoted(text string) []byte {
	encoded, err := json.Marshal(text)
	if err != nil {
		return []byte(strconv.Quote(text)) // never: a text can be encoded
	}
	return encoded
}
