package contract

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Body is a job's body with its keys in their order and its values as they were written: what a tool does not change arrives
// as the publisher wrote it.
type Body []member

type member struct {
	key   string
	value json.RawMessage
}

// ParseBody reads one JSON object. Whether it is a valid job is the runners' decision.
func ParseBody(raw []byte) (Body, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	var b Body
	for dec.More() {
		key, err := dec.Token()
		var m member
		if err == nil {
			err = dec.Decode(&m.value)
		}
		if err != nil {
			return nil, fmt.Errorf("the body is not a JSON object: %w", err)
		}
		m.key, _ = key.(string) // the decoder takes nothing else here
		b = append(b, m)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("the body is not a JSON object: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text follows the body's JSON object")
	}
	return b, nil
}

// Text returns a key's value if it is a string; empty otherwise.
func (b Body) Text(key string) string {
	for _, m := range b {
		if m.key != key {
			continue
		}
		var s string
		if json.Unmarshal(m.value, &s) == nil {
			return s
		}
	}
	return ""
}

// Has reports whether the body has a key.
func (b Body) Has(key string) bool {
	return slices.ContainsFunc(b, func(m member) bool { return m.key == key })
}

// With returns the body with a key first and set to the value, instead of wherever it was. It panics if the
// value cannot be encoded.
func (b Body) With(key string, value any) Body {
	return append(Body{{key: key, value: marshal(value)}}, b.Without(key)...)
}

// Without returns the body without some keys.
func (b Body) Without(keys ...string) Body {
	return slices.DeleteFunc(slices.Clone(b), func(m member) bool { return slices.Contains(keys, m.key) })
}

// Bytes encodes the body.
func (b Body) Bytes() []byte {
	out := []byte{'{'}
	for i, m := range b {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(append(out, marshal(m.key)...), ':'), m.value...)
	}
	return append(out, '}')
}

// marshal is json.Marshal without the escapes that are for HTML, for what always encodes: strings and maps of them.
func marshal(v any) json.RawMessage {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err)
	}
	return bytes.TrimRight(buf.Bytes(), "\n")
}
