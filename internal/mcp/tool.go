package mcp

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"dbrunner/contract"
)

const (
	requestID      = "request_id" // the argument of every tool that is no parameter
	maxRequestID   = 200          // bytes
	maxDescription = 4000         // bytes, of a tool
)

// toolOf describes a statement as a tool.
func toolOf(database string, info *contract.CallInfo) (*sdk.Tool, error) {
	schema, err := inputSchema(info)
	if err != nil {
		return nil, err
	}
	reads := info.Effect == contract.ReadOnly
	changes, closed := !reads, false
	return &sdk.Tool{
		Name: info.Name, Description: describe(database, info), InputSchema: schema,
		Annotations: &sdk.ToolAnnotations{ReadOnlyHint: reads, IdempotentHint: reads, DestructiveHint: &changes, OpenWorldHint: &closed},
	}, nil
}

// describe is the text of a tool.
func describe(database string, info *contract.CallInfo) string {
	var b strings.Builder
	if info.Description != "" {
		b.WriteString(strings.TrimRight(clip(info.Description, maxDescription), ". \n") + ".\n")
	}
	if info.Effect == contract.ReadOnly {
		b.WriteString("Reads from the database " + database + "; changes nothing.")
	} else {
		b.WriteString("Changes the database " + database + ", completely or not at all.")
	}
	if info.MaxAffected > 0 {
		fmt.Fprintf(&b, " It changes at most %d rows; otherwise it fails and changes none.", info.MaxAffected)
	}
	fmt.Fprintf(&b, " An answer has at most %d rows; rows_omitted counts the others.", maxRows)
	return b.String()
}

// inputSchema is the schema of a statement's parameters with the argument request_id.
func inputSchema(info *contract.CallInfo) (json.RawMessage, error) {
	var schema struct {
		Type       string                     `json:"type"`
		Properties map[string]json.RawMessage `json:"properties"`
	}
	keys := map[string]json.RawMessage{}
	if err := errors.Join(json.Unmarshal(info.Schema, &schema), json.Unmarshal(info.Schema, &keys)); err != nil {
		return nil, fmt.Errorf("its schema cannot be read: %w", err)
	}
	switch {
	case schema.Type != "object":
		return nil, errors.New("its schema is not that of an object")
	case schema.Properties[requestID] != nil:
		return nil, errors.New("it has a parameter request_id; give that another name in the catalog")
	case bytes.Contains(info.Schema, []byte(`"x-mcp-header"`)):
		return nil, errors.New("its schema has x-mcp-header, which is not supported; remove it from the catalog")
	}
	about := "A text of your choice, a new UUID for example. The same call with the same request_id has one effect; its answer is then that of the first one."
	if info.Effect == contract.ReadOnly {
		about = "A text of your choice. The same call with the same request_id gets the answer of the first one, not the newest data: leave it out to read again."
	}
	if schema.Properties == nil {
		schema.Properties = map[string]json.RawMessage{}
	}
	own, err := json.Marshal(map[string]any{"type": "string", "minLength": 1, "maxLength": maxRequestID, "description": about})
	if err != nil {
		return nil, fmt.Errorf("describe request_id: %w", err)
	}
	schema.Properties[requestID] = own
	properties, err := json.Marshal(schema.Properties)
	if err != nil {
		return nil, fmt.Errorf("its schema cannot be written: %w", err)
	}
	keys["properties"] = properties
	encoded, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("its schema cannot be written: %w", err)
	}
	return visible(encoded), nil
}

// arguments are those of a call of a tool.
type arguments struct {
	params    map[string]any // texts of JSON
	requestID string         // empty: none
}

// readArguments reads what a client sent. Whether the parameters are valid is the runner's decision.
func readArguments(raw json.RawMessage) (*arguments, error) {
	given := map[string]json.RawMessage{}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &given); err != nil {
			return nil, errors.New("the arguments are not a JSON object; send one, such as {\"id\": 7}")
		}
		if name := repeated(raw); name != "" {
			return nil, fmt.Errorf("the argument %s is there twice; send it once", clip(name, maxRequestID))
		}
	}
	out := &arguments{params: make(map[string]any, len(given))}
	for name, value := range given {
		if name != requestID {
			out.params[name] = value
			continue
		}
		if err := json.Unmarshal(value, &out.requestID); err != nil || out.requestID == "" || len(out.requestID) > maxRequestID {
			return nil, fmt.Errorf("request_id is not a text of 1 to %d bytes; send one, a UUID for example, or leave it out", maxRequestID)
		}
	}
	return out, nil
}

// repeated returns the name of an argument that an object has twice; empty: none. Who approves a call might see another value than the one
// that counts.
func repeated(raw json.RawMessage) string {
	seen, d := map[string]bool{}, json.NewDecoder(bytes.NewReader(raw))
	for _, err := d.Token(); err == nil && d.More(); { // the object, which was read before
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); err == nil {
			err = d.Decode(&value)
		}
		text, _ := name.(string)
		if seen[text] {
			return text
		}
		seen[text] = true
	}
	return ""
}

// jobID is the id of the job for a request: the same for the same user, statement and request_id.
func jobID(user, call, request string) (string, error) {
	encoded, err := json.Marshal([]string{user, call, request})
	if err != nil {
		return "", fmt.Errorf("make the id of a job: %w", err)
	}
	sum := sha256.Sum256(encoded)
	return "mcp-" + hex.EncodeToString(sum[:16]), nil
}
