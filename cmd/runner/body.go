package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// body is a job's body with its keys in their order and its values as they were written: what this command does
// not change arrives as the publisher wrote it.
type body []member

type member struct {
	key   string
	value json.RawMessage
}

// parseBody reads one JSON object. Whether it is a valid job is for the runners to say.
func parseBody(raw []byte) (body, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("the body is not a JSON object")
	}
	var b body
	for dec.More() {
		m, err := parseMember(dec)
		if err != nil {
			return nil, fmt.Errorf("the body is not a JSON object: %w", err)
		}
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

func parseMember(dec *json.Decoder) (member, error) {
	t, err := dec.Token()
	if err != nil {
		return member{}, err
	}
	key, _ := t.(string) // the decoder takes nothing else here
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return member{}, err
	}
	return member{key: key, value: value}, nil
}

// text returns a key's value if it is a string; empty otherwise.
func (b body) text(key string) string {
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

func (b body) has(key string) bool {
	return slices.ContainsFunc(b, func(m member) bool { return m.key == key })
}

// with returns the body with a key first and set to the value, instead of wherever it was.
func (b body) with(key string, value any) (body, error) {
	raw, err := marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", key, err)
	}
	return append(body{{key: key, value: raw}}, b.without(key)...), nil
}

// without returns the body without some keys.
func (b body) without(keys ...string) body {
	return slices.DeleteFunc(slices.Clone(b), func(m member) bool { return slices.Contains(keys, m.key) })
}

// bytes encodes the body.
func (b body) bytes() []byte {
	out := []byte{'{'}
	for i, m := range b {
		if i > 0 {
			out = append(out, ',')
		}
		key, err := marshal(m.key)
		if err != nil {
			panic(err) // a string always encodes
		}
		out = append(append(append(out, key...), ':'), m.value...)
	}
	return append(out, '}')
}

// marshal is json.Marshal without the escapes that are for HTML.
func marshal(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(buf.Bytes(), "\n"), nil
}
