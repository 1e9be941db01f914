package jobs

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/contract/schema/schematest"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/rowfile"
)

// node is a part of a JSON Schema. Its encoding has sorted keys.
type node map[string]any

const printablePattern = `^[^\x00-\x1f\x7f-\x9f]*$`

// jobSchema is the schema of the body of a job: what decoding accepts without a look at the text of statements, at the
// database's configuration, or at how JSON is written.
func jobSchema(k *kind) node {
	properties := node{}
	all := maps.Clone(commonSchema(k))
	maps.Copy(all, kindSchema(k))
	for _, key := range append(commonKeys(), k.keys...) {
		if part, ok := all[key]; ok {
			properties[key] = part
		}
	}
	subject := k.name
	switch {
	case schemaName(k) == "approve": // both forms have one body
		subject += " and " + subject + ".<name>"
	case k.named:
		subject += ".<name>"
	}
	if k.fixed {
		delete(properties, "effect")
	}
	root := node{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "urn:dbrunner:1:job-" + schemaName(k),
		"title":       "Body of a job of kind " + k.name,
		"description": "The body of a message on <namespace>.jobs.<database>." + subject + ". The runner also checks the text of statements, the database's configuration, and that no key is there twice.",
		"type":        "object", "properties": properties, "additionalProperties": false,
	}
	if slices.Contains(k.keys, "sql") || slices.Contains(k.keys, "statements") {
		value := node{"$ref": "#/$defs/value"}
		root["$defs"] = node{
			"value": parameterSchema(),
			"params": node{"description": "An object for :name parameters, or a list for positional ones.", "anyOf": []node{
				{"type": "object", "additionalProperties": value}, {"type": "array", "items": value},
			}},
			"sql": node{"description": "The text of one SQL statement.", "type": "string", "pattern": `\S`},
		}
	}
	if required := requiredKeys()[schemaName(k)]; required != nil {
		root["required"] = required
	}
	conditions := []node{{"not": node{"required": []string{"expires_at", "expires_in"}}}}
	if slices.Contains(k.effects, contract.ReadOnly) {
		conditions = append(conditions, node{"if": has("answer", node{"const": "reply"}), "then": node{"required": []string{"reply_to"}, "properties": node{"output": node{"not": node{"const": "object"}}}}})
	}
	if k.rows {
		conditions = append(conditions, node{"if": has("output", node{"const": "inline"}), "then": node{"properties": node{"format": false, "compression": false}}})
	}
	if k.name == "migration" {
		var needing []migration.Action
		for _, a := range migration.Actions() {
			if a.NeedsTarget() {
				needing = append(needing, a)
			}
		}
		conditions = append(conditions, node{"if": has("action", node{"enum": needing}), "then": node{"required": []string{"target"}}})
	}
	root["allOf"] = conditions
	return root
}

// schemaName names the schema of a kind's bodies: dry runs have two forms, which differ.
func schemaName(k *kind) string {
	if k.named && k.name == "dry_run" {
		return "dry_run_call"
	}
	return k.name
}

// has is a condition: the key is there with such a value.
func has(key string, value node) node {
	return node{"required": []string{key}, "properties": node{key: value}}
}

func requiredKeys() map[string][]string {
	return map[string][]string{
		"query": {"sql"}, "statement": {"sql"}, "transaction": {"statements"}, "migration": {"action"},
		"dry_run": {"statements"}, "approve": approvalKeys,
	}
}

func commonSchema(k *kind) node {
	duration := func(does string) node {
		return node{"description": does + ", as a Go duration above zero: \"30s\", \"1m30s\".", "type": "string", "allOf": []node{
			{"pattern": `^\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))*$`}, {"pattern": "[1-9]"},
		}}
	}
	answers := []string{"stored"}
	if slices.Contains(k.effects, contract.ReadOnly) {
		answers = append(answers, "reply")
	}
	common := node{
		"version":    node{"description": "The version of the contract.", "const": contract.Version},
		"id":         node{"description": "The job's id, unique for its database: publishing it again is safe at any time. Ids in the form of derived ids (s, digits, _, letters) are reserved.", "type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$", "not": node{"pattern": "^s[0-9]+_[0-9a-z]+$"}},
		"reply_to":   node{"description": "A subject that gets the result as well: below _INBOX., <namespace>.replies.<database>. or a configured prefix.", "type": "string", "maxLength": contract.MaxReplySubject, "pattern": `^[!-#%-)+-\-/-=?-~]+(\.[!-#%-)+-\-/-=?-~]+)*$`},
		"timeout":    duration("How long the job may run"),
		"expires_at": node{"description": "A job that has not started by then finishes as expired.", "type": "string", "format": "date-time", "pattern": `^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]+)?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`},
		"expires_in": duration("expires_at as the time after the job was stored in its stream"),
		"effect":     node{"description": "What a redelivery may do to the database. The first one is the default.", "enum": k.effects},
		"row_format": node{"description": "The form of rows: objects with column names, or lists.", "enum": []string{"objects", "arrays"}},
		"max_rows":   node{"description": "The largest number of rows: more fail the job.", "type": "integer", "minimum": 1, "maximum": int64(1<<63 - 1)},
		"answer":     node{"description": "Whether the result is stored, or only sent to reply_to.", "enum": answers},
		"labels": node{
			"description": "Text that the result repeats.", "type": "object", "maxProperties": maxLabels,
			"propertyNames":        node{"minLength": 1, "maxLength": maxLabelName, "pattern": printablePattern},
			"additionalProperties": node{"type": "string", "maxLength": maxLabelValue, "pattern": printablePattern},
		},
	}
	if k.name == "dry_run" {
		common["id"] = node{"description": "The job's id, short enough for that of its approval: <id>_approved.", "type": "string", "pattern": "^[A-Za-z0-9_-]{1,90}$", "not": node{"pattern": "^s[0-9]+_[0-9a-z]+$"}}
	}
	if k.rows {
		common["output"] = node{"description": "Where rows go: auto (into the result, or the object store if they have no room), inline or object.", "enum": outputModes}
		common["format"] = node{"description": "The format of rows in the object store.", "enum": rowfile.Formats()}
		common["compression"] = node{"description": "The compression of rows in the object store.", "enum": rowfile.Compressions()}
	}
	return common
}

// kindSchema is the schema of a kind's own keys.
func kindSchema(k *kind) node {
	switch schemaName(k) {
	case "transaction", "dry_run":
		return node{
			"statements":   node{"description": "Statements that take effect together or not at all.", "type": "array", "minItems": 1, "maxItems": maxStatements, "items": statementSchema()},
			"isolation":    node{"description": "The isolation level; the database's default if the key is left out. snapshot: SQL Server only.", "enum": isolations},
			"max_affected": node{"description": "The largest number of rows that the transaction may write: more fail the job.", "type": "integer", "minimum": 1, "maximum": int64(1<<63 - 1)},
			"commit":       node{"description": "shared: the transaction may have one COMMIT together with others that say so; the database's configuration must have shared_commits.", "enum": commits},
		}
	case "migration":
		return node{
			"action":       node{"description": "What to do.", "enum": migration.Actions()},
			"target":       node{"description": "A version such as \"3\" or \"1.2\", or \"none\".", "anyOf": []node{{"type": "string", "minLength": 1, "maxLength": maxTarget, "pattern": printablePattern}, {"type": "number"}}},
			"out_of_order": node{"description": "Whether up may apply files below the current version.", "type": "boolean"},
		}
	case "health":
		return node{"checks": node{"description": "The checks to make; all if the key is left out.", "type": "array", "minItems": 1, "items": node{"enum": contract.HealthChecks()}}}
	case "approve":
		return node{
			approvalKeys[approvalDryRun]: node{"description": "The id of the dry run; the id of the approval is this one and _approved.", "type": "string", "pattern": "^[A-Za-z0-9_-]{1,120}$"},
			approvalKeys[approvalDigest]: node{"description": "The effect_digest of the dry run.", "type": "string", "pattern": "^sha256:[0-9a-f]{64}$"},
		}
	case "call", "dry_run_call":
		return node{"params": node{"description": "The parameters of the statement, by name.", "type": "object"}}
	default:
		return node{"sql": node{"$ref": "#/$defs/sql"}, "params": node{"$ref": "#/$defs/params"}}
	}
}

func parameterSchema() node {
	return node{
		"description": "A parameter; lists and objects need a type.",
		"anyOf": []node{
			{"type": []string{"string", "number", "boolean", "null"}},
			{
				"type": "object", "required": paramKeys, "additionalProperties": false,
				"properties": node{
					paramKeys[paramType]:  node{"description": "A type of the database.", "type": "string", "minLength": 1, "maxLength": maxTypeName, "pattern": printablePattern},
					paramKeys[paramValue]: true,
				},
			},
		},
	}
}

func statementSchema() node {
	number := node{"type": "integer", "minimum": 0, "maximum": int64(1<<63 - 1)}
	ways := []node{}
	for _, pair := range [][]string{{"params", "batch"}, {"params", "params_from"}, {"batch", "params_from"}} {
		ways = append(ways, node{"not": node{"required": pair}})
	}
	return node{
		"type": "object", "required": []string{"sql"}, "additionalProperties": false, "allOf": ways,
		"properties": node{
			statementKeys[statementSQL]:    node{"$ref": "#/$defs/sql"},
			statementKeys[statementParams]: node{"$ref": "#/$defs/params"},
			statementKeys[statementExpect]: node{"description": "The number of rows that the statement must affect or return, or its bounds; others fail the job.", "anyOf": []node{
				number, {"type": "object", "minProperties": 1, "additionalProperties": false, "properties": node{expectKeys[expectMin]: number, expectKeys[expectMax]: number}},
			}},
			statementKeys[statementBatch]: node{"description": "The statement runs once for each element: all are lists, or all are objects.", "type": "array", "minItems": 1, "items": node{"$ref": "#/$defs/params"}},
			statementKeys[statementFrom]: node{
				"description": "The statement runs once for each line of an object in the object store.", "type": "object",
				"required": inputKeys[:inputKeyCompression], "additionalProperties": false,
				"properties": node{
					inputKeys[inputKeyName]:        node{"type": "string", "pattern": inputName.String(), "maxLength": maxInputName, "not": node{"pattern": `\.\.`}},
					inputKeys[inputKeyDigest]:      node{"description": "SHA-256= and 44 characters of base64, or 64 hexadecimal digits.", "type": "string", "minLength": 51},
					inputKeys[inputKeyCompression]: node{"enum": rowfile.Compressions()},
				},
			},
		},
	}
}

const schemaFolder = "../../contract/schema"

// TestSchemasAreInStep holds the files to the table of kinds; "make contract" writes them.
func TestSchemasAreInStep(t *testing.T) {
	t.Parallel()
	for _, k := range table() {
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		require.NoError(t, encoder.Encode(jobSchema(&k)))
		file := filepath.Join(schemaFolder, "job-"+schemaName(&k)+".json")
		if *update {
			require.NoError(t, os.WriteFile(file, text.Bytes(), 0o644)) //nolint:gosec // it is public
		}
		have, err := os.ReadFile(file) //nolint:gosec // its name is the test's
		require.NoError(t, err)
		require.Equal(t, text.String(), string(have), "run make contract")
	}
}

// TestGoldenBodiesFitTheirSchema validates the golden messages.
func TestGoldenBodiesFitTheirSchema(t *testing.T) {
	t.Parallel()
	for name, kind := range goldenJobs() {
		if kind == "approve.pay" {
			kind = "approve"
		}
		if kind == "dry_run.pay" {
			kind = "dry_run_call"
		}
		body, err := os.ReadFile(filepath.Join("testdata", "golden", name+".job.json"))
		require.NoError(t, err)
		require.NoError(t, schematest.Validate(t, schematest.Named(t, "job-"+kind), body), name)
	}
}

// beyondSchema are the faults that a schema cannot express, or that depend on the database's configuration.
func beyondSchema(f contract.Fault, body []byte) bool {
	switch f.Code {
	case contract.CodeInvalidID:
		return strings.Contains(f.Message, "the id of an approval is") // the schema does not compare two values
	case contract.CodeUnknownKey, contract.CodeMissingKey, contract.CodeEffectNotAllowed:
		return false
	case contract.CodeVersion:
		return otherInteger.Match(body)
	case contract.CodeReplyTo:
		return strings.Contains(f.Message, "must begin with")
	case contract.CodeParameterNotTyped:
		return strings.Contains(f.Message, "all elements of a batch")
	case contract.CodeInvalidValue:
		for _, beyond := range []string{
			"is longer than this database allows", "min is larger than max", "may have at most 16 KiB",
			"must be the object's SHA-256 digest", // its base64 or hexadecimal digits
		} {
			if strings.Contains(f.Message, beyond) {
				return true
			}
		}
		// 1.0 and 1e3 are integers for a schema, not for a runner
		return strings.Contains(f.Message, "whole number") && otherInteger.Match(body) || strings.Contains(f.Message, "must be a version") && longNumber.Match(body)
	default: // the text of a statement, its parameters, a key that is there twice
		return true
	}
}

var (
	otherInteger = regexp.MustCompile(`"(version|max_rows|max_affected|expect_rows|min|max)":([0-9]+[.eE]|-0)`)
	longNumber   = regexp.MustCompile(`"target":[0-9.eE+-]{65}`)
)

var bodies = flag.Int("bodies", 4000, "how many bodies of each kind the schemas are compared with the decoder over")

// TestSchemaAndDecoderJudgeAlike compares both over bodies that are valid, and over bodies of which something is changed.
func TestSchemaAndDecoderJudgeAlike(t *testing.T) {
	t.Parallel()
	for _, kind := range Kinds() {
		if kind == "call" {
			continue // its definition judges the parameters, and whether it reads only
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s, d := schematest.Named(t, "job-"+kind), testDecoder()
			drawn := rapid.Custom(func(t *rapid.T) map[string]any { return merge(drawCommon(t), drawOwn(t, kind)) })
			golden := goldenTrees(t, kind)
			accepted, refused, beyond := 0, 0, 0
			for seed := range *bodies {
				random := rand.New(rand.NewPCG(uint64(seed), 1))
				tree := any(drawn.Example(seed))
				if random.IntN(4) == 0 {
					tree = golden[random.IntN(len(golden))]
				}
				for range random.IntN(3) {
					tree = mutate(random, tree)
				}
				body := []byte(plainText(tree))
				_, rejection := d.Decode(message(kind, string(body)))
				refusal := schematest.Validate(t, s, body)
				switch {
				case rejection == nil:
					require.NoError(t, refusal, "the decoder accepts %s", body)
					accepted++
				case slices.ContainsFunc(rejection.Faults, func(f contract.Fault) bool { return !beyondSchema(f, body) }):
					require.Error(t, refusal, "the decoder rejects %s: %+v", body, rejection.Faults)
					refused++
				default:
					beyond++
				}
			}
			t.Logf("%d accepted, %d refused, %d refused for what no schema says", accepted, refused, beyond)
			require.Greater(t, accepted, *bodies/10)
			require.Greater(t, refused, *bodies/10)
		})
	}
}

// goldenTrees are the golden bodies of a kind.
func goldenTrees(t *testing.T, kind string) (trees []any) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(goldenJobs())) {
		if goldenJobs()[name] != kind {
			continue
		}
		file, err := os.Open(filepath.Join("testdata", "golden", name+".job.json"))
		require.NoError(t, err)
		decoder := json.NewDecoder(file)
		decoder.UseNumber()
		var body any
		require.NoError(t, errors.Join(decoder.Decode(&body), file.Close()))
		trees = append(trees, treeOf(body))
	}
	return trees
}

// treeOf turns decoded JSON into a value of the property tests.
func treeOf(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for key := range v {
			out[key] = treeOf(v[key])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = treeOf(v[i])
		}
		return out
	case string:
		return v
	case nil:
		return raw("null")
	default:
		return raw(fmt.Sprint(v))
	}
}

// mutate changes one thing somewhere in a body.
func mutate(random *rand.Rand, v any) any {
	strange := []any{
		raw("null"), raw("true"), raw("0"), raw("-1"), raw("1.5"), raw("1.0"), raw("9223372036854775808"), raw("[]"), raw("{}"), raw(`[[1]]`), raw(`{"type":"uuid"}`),
		"", " ", "a.b", "reply", "inline", "object", "parquet", "0s", "-1s", "1h", "2030-01-31T12:00:00Z", "2030-13-31T12:00:00Z", "s1_a", "at_least_once", "_INBOX.>", strings.Repeat("x", 600),
	}
	switch v := v.(type) {
	case map[string]any:
		out := maps.Clone(v)
		keys := slices.Sorted(maps.Keys(v))
		if len(keys) == 0 || random.IntN(6) == 0 {
			known := append(commonKeys(), "sql", "params", "statements", "isolation", "max_affected", "commit", "action", "target", "checks", "approves", "expect_digest", "batch", "params_from", "expect_rows", "type", "value", "min", "max")
			out[known[random.IntN(len(known))]] = strange[random.IntN(len(strange))]
			return out
		}
		key := keys[random.IntN(len(keys))]
		switch random.IntN(8) {
		case 0:
			delete(out, key)
		case 1:
			out[key+"s"] = out[key]
			delete(out, key)
		case 2, 3:
			out[key] = strange[random.IntN(len(strange))]
		default:
			out[key] = mutate(random, out[key])
		}
		return out
	case []any:
		if len(v) > 0 && random.IntN(4) > 0 {
			out := slices.Clone(v)
			i := random.IntN(len(v))
			out[i] = mutate(random, out[i])
			return out
		}
		return append(slices.Clone(v), strange[random.IntN(len(strange))])
	default:
		return strange[random.IntN(len(strange))]
	}
}

// plainText writes a value of the property tests without a choice.
func plainText(v any) string {
	switch v := v.(type) {
	case raw:
		return string(v)
	case string:
		w := writer{plain: true}
		w.string(v)
		return w.b.String()
	case []any:
		parts := make([]string, len(v))
		for i := range v {
			parts[i] = plainText(v[i])
		}
		return "[" + strings.Join(parts, ",") + "]"
	case map[string]any:
		var parts []string
		for _, key := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, plainText(key)+":"+plainText(v[key]))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	panic(fmt.Sprintf("%T", v))
}
