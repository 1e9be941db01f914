// Package schematest compiles the contract's schemas for tests, which hold messages against them.
package schematest

import (
	"bytes"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"dbrunner/contract/schema"
)

// Named compiles the schema of a name, as schema.Read knows it. Formats, such as that of times, are checked.
func Named(t testing.TB, name string) *jsonschema.Schema {
	t.Helper()
	text, err := schema.Read(name)
	require.NoError(t, err)
	return Compile(t, text)
}

// Compile compiles the text of a schema.
func Compile(t testing.TB, text []byte) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	require.NoError(t, c.AddResource("urn:schema", document))
	compiled, err := c.Compile("urn:schema")
	require.NoError(t, err)
	return compiled
}

// Validate holds a message against a schema. A message that is no JSON fails the test.
func Validate(t testing.TB, s *jsonschema.Schema, message []byte) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(message))
	require.NoError(t, err, "%s", message)
	return s.Validate(value)
}
