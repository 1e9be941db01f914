package catalog_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"dbrunner/contract/schema/schematest"
	"dbrunner/internal/catalog"
	"dbrunner/internal/db/dialect"
)

var update = flag.Bool("update", false, "write the schema of catalog files")

const schemaFile = "../../contract/schema/catalog.json"

// node is a part of a JSON Schema. Its encoding has sorted keys.
type node map[string]any

// fileSchema is the schema of a file of a catalog, as JSON: what loading accepts without a look at the text of statements.
func fileSchema() node {
	text := func(about string) node { return node{"description": about, "type": "string", "pattern": `\S`} }
	count := func(about string, least int) node {
		return node{"description": about, "type": "integer", "minimum": least}
	}
	rows := node{"description": "The number of rows that the statement must affect or return; otherwise the call is rolled back.", "anyOf": []node{
		count("exactly", 0),
		{"type": "object", "additionalProperties": false, "minProperties": 1, "properties": node{"min": count("at least", 0), "max": count("at most", 0)}},
	}}
	statement := node{
		"type": "object", "additionalProperties": false, "required": []string{"sql"},
		"properties": node{"sql": text("The text of one SQL statement."), "expect_rows": rows},
	}
	param := node{"type": []string{"object", "null"}, "additionalProperties": false, "properties": node{
		"type": text("A type of the engine; without it, the database infers one."), "description": text("For people."),
		"schema":  node{"description": "JSON Schema 2020-12 of the value, without references to other documents.", "type": []string{"object", "boolean"}},
		"default": node{"description": "The value of a call that leaves the parameter out; without it, the parameter is required."},
	}}
	return node{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:dbrunner:1:catalog", "title": "A statement of a catalog",
		"description": "The file <name>.yaml of a catalog. The runner also checks the text of statements, that placeholders and parameters match, schemas and defaults, and that no key is there twice.",
		"type":        "object", "additionalProperties": false,
		"properties": node{
			"description":  text("For people."),
			"sql":          text("The text of a query, which is read_only."),
			"statements":   node{"description": "The statements of a transaction, which is exactly_once.", "type": "array", "minItems": 1, "items": statement},
			"params":       node{"description": "The parameters by name: each :name of the texts.", "type": "object", "propertyNames": node{"pattern": "^[A-Za-z_][A-Za-z0-9_]{0,63}$", "not": node{"const": "request_id"}}, "additionalProperties": param},
			"max_affected": count("The largest number of rows that the transaction may write.", 1),
			"max_rows":     count("The largest number of rows; a job may lower it.", 1),
			"timeout": node{"description": "The longest timeout, as a Go duration above zero: \"30s\", \"1m30s\"; a job may lower it.", "type": "string", "allOf": []node{
				{"pattern": `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`}, {"pattern": "[1-9]"},
			}},
			"isolation": node{"description": "Of a transaction; snapshot on SQL Server only.", "enum": []string{"read_committed", "repeatable_read", "serializable", "snapshot"}},
		},
		"oneOf": []node{
			{"required": []string{"sql"}, "properties": node{"max_affected": false, "isolation": false}}, {"required": []string{"statements"}},
		},
	}
}

// TestSchemasAreInStep holds the file to what loading knows; "make contract" writes it.
func TestSchemasAreInStep(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(fileSchema()))
	if *update {
		require.NoError(t, os.WriteFile(schemaFile, text.Bytes(), 0o644)) //nolint:gosec // it is public
	}
	have, err := os.ReadFile(schemaFile)
	require.NoError(t, err)
	require.Equal(t, text.String(), string(have), "run make contract")
}

// TestSchemaAndLoadingJudgeAlike: what the schema refuses is refused, and nothing else but what no schema can express.
func TestSchemaAndLoadingJudgeAlike(t *testing.T) {
	t.Parallel()
	compiled := compileSchema(t, fileSchema())
	for text, alone := range map[string]bool{ // alone: loading alone refuses it
		"sql: SELECT 1 AS n": false, pay: false, "sql: SELECT :n AS n\nparams: {n: }": false, "sql: SELECT :n AS n\nparams: {n: {default: }}": false,
		"statements: [{sql: DELETE FROM t, expect_rows: {max: 1}}]": false, "{}": false, "[]": false, "sql: ' '": false, "sql: 1": false,
		"sql: SELECT 1 AS n\nstatements: [{sql: DELETE FROM t}]": false, "sql: SELECT 1 AS n\nmax_rows: 0": false, "sql: SELECT 1 AS n\nmax_rows: x": false,
		"sql: SELECT 1 AS n\ntimeout: 5": false, "sql: SELECT 1 AS n\ntimeout: 0s": false, "sql: SELECT 1 AS n\ntimeout: soon": false, "sql: SELECT 1 AS n\ntimeout: 1.5s": false,
		"sql: SELECT 1 AS n\nmax_affected: 1": false, "sql: SELECT 1 AS n\nisolation: serializable": false, "sql: SELECT 1 AS n\nsequel: x": false,
		"sql: SELECT 1 AS n\ndescription: ": false, "sql: SELECT 1 AS n\nparams: ": false, "sql: SELECT 1 AS n\nparams: []": false,
		"sql: SELECT :n AS n\nparams: {n: 1}": false, "sql: SELECT :n AS n\nparams: {n: {types: x}}": false, "sql: SELECT :n AS n\nparams: {n: {schema: x}}": false,
		"sql: SELECT :n AS n\nparams: {n: {schema: true}}": false, "sql: SELECT 1 AS n\nparams: {'9': {}}": false, "sql: SELECT :request_id AS n\nparams: {request_id: {}}": false, "statements: []": false, "statements: [{expect_rows: 1}]": false,
		"statements: [{sql: DELETE FROM t, expect_rows: -1}]": false, "statements: [{sql: DELETE FROM t, expect_rows: {}}]": false, "statements: [{sql: DELETE FROM t}]\nisolation: chaos": false,
		"sql: SELECT 1; SELECT 2": true, "sql: DELETE FROM t": true, "sql: SELECT :n AS n": true, "sql: SELECT 1 AS n\nparams: {n: {}}": true,
		"sql: SELECT :n AS n\nparams: {n: {schema: {type: x}}}": true, "sql: SELECT :n AS n\nparams: {n: {schema: {type: integer}, default: x}}": true,
		"sql: SELECT 1 AS n\nsql: SELECT 2 AS n": true, "statements: [{sql: DELETE FROM t, expect_rows: {min: 2, max: 1}}]": true,
		"statements: [{sql: DELETE FROM t}]\nisolation: snapshot": true, "sql: SELECT 1 AS n\n---\nsql: SELECT 2 AS n": true,
	} {
		_, loading := load(map[string]string{"x.yaml": text})
		var value any
		judged := loading
		if yaml.Unmarshal([]byte(text), &value) == nil {
			encoded, err := json.Marshal(value)
			require.NoError(t, err, text)
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
			require.NoError(t, err, text)
			judged = compiled.Validate(document)
		}
		if alone {
			require.Error(t, loading, text)
			continue
		}
		require.Equal(t, loading == nil, judged == nil, "%s: loading %v, schema %v", text, loading, judged)
	}
}

// TestParamsSchema: the schema that callers see judges parameters as a call does.
func TestParamsSchema(t *testing.T) {
	t.Parallel()
	c := loaded(t, map[string]string{
		"pay.yaml": pay, "none.yaml": "sql: SELECT 1 AS n\n", "any.yaml": "sql: SELECT :n AS n\nparams: {n: {schema: true, description: anything}}\n",
	})
	calls := c.Calls()
	require.Len(t, calls, 3)
	for i := range calls {
		s := c.Statement(calls[i].Name)
		require.Equal(t, s.Revision, calls[i].Revision)
		var document node
		require.NoError(t, json.Unmarshal(calls[i].Schema, &document))
		compiled := compileSchema(t, document)
		for _, params := range []string{
			`{}`, `{"n":1}`, `{"n":null}`, `{"from":1,"to":2}`, `{"from":1,"to":2,"amount":"1.00"}`, `{"from":1,"to":0}`, `{"from":"1","to":2}`,
			`{"from":1,"to":2,"amont":"1.00"}`, `{"from":1}`, `{"from":1,"to":2,"amount":1}`,
		} {
			value, err := jsonschema.UnmarshalJSON(bytes.NewReader([]byte(params)))
			require.NoError(t, err)
			var given map[string]json.RawMessage
			require.NoError(t, json.Unmarshal([]byte(params), &given))
			var arguments []catalog.Argument
			for name, text := range given {
				arguments = append(arguments, catalog.Argument{Name: name, JSON: text, Value: dialect.Value{Kind: dialect.Null, Text: "null"}})
			}
			_, faults := s.Bind(dialect.Postgres(), arguments)
			require.Equal(t, len(faults) == 0, compiled.Validate(value) == nil, "%s %s: %v", s.Name, params, faults)
		}
	}
	require.Contains(t, string(c.Statement("pay").Schema), `"description":"in euros"`)
}

func compileSchema(t *testing.T, of node) *jsonschema.Schema {
	t.Helper()
	encoded, err := json.Marshal(of)
	require.NoError(t, err)
	return schematest.Compile(t, encoded)
}
