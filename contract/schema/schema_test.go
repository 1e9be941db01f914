package schema_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/contract/schema"
	"dbrunner/contract/schema/schematest"
)

var update = flag.Bool("update", false, "write the schemas of what runners publish")

// node is a part of a JSON Schema. Its encoding has sorted keys.
type node map[string]any

// published is what runners publish: the types that it is encoded from, and the keys that are always there.
func published() map[string]struct {
	of       reflect.Type
	required []string
} {
	type message = struct {
		of       reflect.Type
		required []string
	}
	return map[string]message{
		"result": {reflect.TypeFor[contract.Result](), resultKeys()},
		"heartbeat-runner": {reflect.TypeFor[contract.RunnerHeartbeat](), []string{
			"version", "instance", "process", "pid", "build", "state", "started_at", "at", "uptime_seconds", "interval_seconds", "nats_reconnects", "databases",
		}},
		"heartbeat-database": {reflect.TypeFor[contract.DatabaseHeartbeat](), []string{
			"version", "database", "engine", "instance", "process", "runner_state", "at", "interval_seconds", "state",
		}},
		"answer-cancel": {reflect.TypeFor[contract.CancelAnswer](), []string{"version", "database", "job_id", "outcome"}},
		"answer-health": {reflect.TypeFor[contract.HealthAnswer](), []string{"version", "runner", "database", "verdict", "reasons", "checks"}},
		"answer-running": {reflect.TypeFor[contract.RunningAnswer](), []string{
			"version", "runner", "process", "database", "at", "part", "parts", "in_flight", "jobs",
		}},
		"answer-calls":  {reflect.TypeFor[contract.CallsAnswer](), []string{"version", "runner", "database", "calls"}},
		"answer-result": {reflect.TypeFor[contract.Result](), resultKeys()},
		"resume":        {reflect.TypeFor[contract.QueueResume](), []string{"sequence", "queued_at"}},
		"pause":         {reflect.TypeFor[contract.Pause](), []string{}},
		"audit":         {reflect.TypeFor[contract.AuditEntry](), []string{"version", "at", "by", "tool", "action"}},
		"answer-error":  {reflect.TypeFor[contract.Refusal](), []string{"error"}},
		"schedule":      {reflect.TypeFor[contract.Schedule](), []string{"job"}},
		"schedule-state": {reflect.TypeFor[contract.ScheduleState](), []string{
			"record", "anchor", "status", "position", "fired", "missed", "skipped", "unconfirmed",
		}},
	}
}

// resultKeys are the keys that every result has.
func resultKeys() []string {
	return []string{
		"version", "job_id", "kind", "database", "status", "sequence", "deliveries", "attempts", "runner", "queued_at", "finished_at",
	}
}

// generator makes schemas of Go types. Their comments are the descriptions, so that there is one text for both.
type generator struct {
	comments map[string]string // by "Type" and "Type.Field"
	defs     node
}

// enums are the words of the types that have a fixed set.
func enums() map[reflect.Type][]any {
	return map[reflect.Type][]any{
		reflect.TypeFor[contract.Effect]():  {contract.ReadOnly, contract.ExactlyOnce, contract.AtLeastOnce, contract.AtMostOnce, contract.RolledBack},
		reflect.TypeFor[contract.Status]():  {contract.Succeeded, contract.Failed, contract.Rejected, contract.Canceled, contract.Expired, contract.Unknown},
		reflect.TypeFor[contract.Verdict](): {contract.Healthy, contract.Degraded, contract.Unhealthy},
		reflect.TypeFor[contract.Role]():    {contract.RolePrimary, contract.RoleStandby},
	}
}

func (g *generator) of(t reflect.Type) node {
	if words, ok := enums()[t]; ok {
		return node{"enum": words}
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return node{"type": "string", "format": "date-time"}
	case reflect.TypeFor[contract.Hash]():
		return node{"type": "string", "pattern": "^[0-9a-f]{64}$"}
	case reflect.TypeFor[json.RawMessage](): // the rows
		return node{"type": "array", "items": node{"type": []string{"object", "array"}}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem())
	case reflect.String:
		return node{"type": "string"}
	case reflect.Bool:
		return node{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return node{"type": "integer"}
	case reflect.Uint64:
		return node{"type": "integer", "minimum": 0}
	case reflect.Float64:
		return node{"type": "number"}
	case reflect.Slice:
		return node{"type": "array", "items": g.of(t.Elem())}
	case reflect.Map:
		return node{"type": "object", "additionalProperties": g.of(t.Elem())}
	default:
	}
	if t.Name() == "" {
		return g.object(t)
	}
	if _, there := g.defs[t.Name()]; !there {
		g.defs[t.Name()] = nil // it may have itself inside
		g.defs[t.Name()] = g.object(t)
	}
	return node{"$ref": "#/$defs/" + t.Name()}
}

func (g *generator) object(t reflect.Type) node {
	properties := node{}
	g.members(t, properties)
	o := node{"type": "object", "properties": properties}
	if does := g.comments[t.Name()]; does != "" {
		o["description"] = does
	}
	return o
}

func (g *generator) members(t reflect.Type, into node) {
	for field := range t.Fields() {
		key, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if key == "" { // embedded: its members are the object's own
			of := field.Type
			if of.Kind() == reflect.Pointer {
				of = of.Elem()
			}
			g.members(of, into)
			continue
		}
		part := g.of(field.Type)
		if does := g.comments[t.Name()+"."+field.Name]; does != "" {
			part["description"] = does
		}
		if t == reflect.TypeFor[contract.CancelAnswer]() && field.Name == "Outcome" {
			part = node{"enum": []string{contract.CancelDone, contract.CancelTooLate, contract.CancelKept}}
		}
		if t == reflect.TypeFor[contract.Answer]() && field.Name == "Request" {
			part = node{"type": "object", "description": g.comments["Answer.Request"]}
		}
		if t == reflect.TypeFor[contract.CallInfo]() && field.Name == "Schema" {
			part = node{"type": "object", "description": g.comments["CallInfo.Schema"]}
		}
		if t == reflect.TypeFor[contract.RunningJob]() && field.Name == "State" {
			part = node{"enum": []string{contract.JobWaiting, contract.JobExecuting, contract.JobSettling, contract.JobAwaitingResume}}
		}
		into[key] = part
	}
}

// deadLetterHeaders is the schema of a dead letter's headers, as an object of each header's first value. The job's own headers are
// beside them.
func deadLetterHeaders(comments map[string]string) node {
	const count = "^[0-9]+$"
	text, properties := func() node { return node{"type": "string", "minLength": 1} }, node{}
	for constant, part := range map[string]node{
		"HeaderJobID": text(), "HeaderReason": {"type": "string", "pattern": "^[a-z_]+$"}, "HeaderCode": {"type": "string", "pattern": "^[a-z_]+$"},
		"HeaderMessage": text(), "HeaderFaults": {"type": "string", "contentMediaType": "application/json"}, "HeaderResultID": text(),
		"HeaderSequence": {"type": "string", "pattern": count}, "HeaderQueuedAt": {"type": "string", "format": "date-time"},
		"HeaderDeliveries": {"type": "string", "pattern": count}, "HeaderRunner": text(), "HeaderSubject": text(),
		"HeaderDropped": {"type": "string", "pattern": count},
	} {
		if does := comments[constant]; does != "" {
			part["description"] = does
		}
		properties[headerNames()[constant]] = part
	}
	return node{
		"type": "object", "properties": properties,
		"patternProperties":    node{"^" + contract.HeaderOriginal: node{"type": "string", "description": comments["HeaderOriginal"]}},
		"additionalProperties": node{"type": "string", "description": "a header of the job"},
		"description":          "The headers of a dead letter, each with its first value. The payload is the job's body, unchanged.",
	}
}

// headerNames are the runner's headers of dead letters, by the names of their constants.
func headerNames() map[string]string {
	return map[string]string{
		"HeaderJobID": contract.HeaderJobID, "HeaderReason": contract.HeaderReason, "HeaderCode": contract.HeaderCode, "HeaderMessage": contract.HeaderMessage,
		"HeaderFaults": contract.HeaderFaults, "HeaderResultID": contract.HeaderResultID, "HeaderSequence": contract.HeaderSequence,
		"HeaderQueuedAt": contract.HeaderQueuedAt, "HeaderDeliveries": contract.HeaderDeliveries, "HeaderRunner": contract.HeaderRunner,
		"HeaderSubject": contract.HeaderSubject, "HeaderDropped": contract.HeaderDropped,
	}
}

// readComments reads the comments of the package's constants, types and fields.
func readComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if ok && decl.Tok == token.CONST {
				for _, spec := range decl.Specs {
					value := spec.(*ast.ValueSpec)
					comments[value.Names[0].Name] = oneLine(value.Doc) + oneLine(value.Comment)
				}
			}
			if !ok || decl.Tok != token.TYPE {
				return true
			}
			spec := decl.Specs[0].(*ast.TypeSpec)
			comments[spec.Name.Name] = oneLine(decl.Doc)
			if fields, ok := spec.Type.(*ast.StructType); ok {
				for _, f := range fields.Fields.List {
					for _, name := range f.Names {
						comments[spec.Name.Name+"."+name.Name] = oneLine(f.Doc) + oneLine(f.Comment)
					}
				}
			}
			return false
		})
	}
	return comments
}

func oneLine(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// TestSchemasAreInStep holds the files to the types that are encoded; "make contract" writes them.
func TestSchemasAreInStep(t *testing.T) {
	t.Parallel()
	comments := readComments(t)
	for name, m := range published() {
		g := generator{comments, node{}}
		root := g.object(m.of)
		root["title"], root["required"] = m.of.Name(), m.required
		if len(g.defs) > 0 {
			root["$defs"] = g.defs
		}
		if name == "pause" { // operators write it: its keys and their lengths are checked
			root["additionalProperties"] = false
			limit(root, "reason", contract.MaxPauseReason)
			limit(root, "by", contract.MaxPauseBy)
		}
		if name == "schedule" {
			limitSchedule(root)
		}
		inStep(t, name, root)
	}
	root := deadLetterHeaders(comments)
	root["title"], root["required"] = "DeadLetterHeaders", []string{
		contract.HeaderReason, contract.HeaderSequence, contract.HeaderQueuedAt, contract.HeaderDeliveries, contract.HeaderRunner, contract.HeaderSubject,
	}
	inStep(t, "dead-letter-headers", root)
}

// inStep compares a schema with its file, which it writes if asked.
func inStep(t *testing.T, name string, root node) {
	t.Helper()
	root["$schema"], root["$id"] = "https://json-schema.org/draft/2020-12/schema", "urn:dbrunner:1:"+name
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	require.NoError(t, encoder.Encode(root))
	file := name + ".json"
	if *update {
		require.NoError(t, os.WriteFile(file, text.Bytes(), 0o644)) //nolint:gosec // it is public
	}
	have, err := os.ReadFile(file) //nolint:gosec // its name is the test's
	require.NoError(t, err)
	require.Equal(t, text.String(), string(have), "run make contract")
}

// limitSchedule adds to the schema of a schedule what is checked of its keys. It cannot express what an expression means, whether a
// time zone exists, the least durations, or the length of a job's id of the reserved form.
func limitSchedule(root node) {
	root["additionalProperties"] = false
	root["oneOf"] = []node{{"required": []string{"cron"}}, {"required": []string{"every"}}, {"required": []string{"at"}}}
	keys := root["properties"].(node)
	for _, key := range []string{"cron", "time_zone", "description"} {
		limit(root, key, contract.MaxScheduleText)
	}
	limit(root, "source", contract.MaxScheduleSource)
	for _, key := range []string{"every", "catch_up"} {
		keys[key].(node)["pattern"] = `^[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+$|^0$`
	}
	keys["overlap"] = node{"enum": []string{contract.OverlapSkip, contract.OverlapAllow}, "description": keys["overlap"].(node)["description"]}
	keys["job"] = node{
		"type": "object", "description": keys["job"].(node)["description"],
		"properties": node{
			"id":         node{"type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$", "description": "only with at"},
			"expires_in": node{"type": "string", "description": "a duration, from the tick"},
			"expires_at": false, "reply_to": false, "answer": node{"not": node{"const": "reply"}},
		},
	}
	root["if"] = node{"required": []string{"job"}, "properties": node{"job": node{"required": []string{"id"}}}}
	root["then"] = node{"required": []string{"at"}}
}

func limit(root node, key string, length int) {
	root["properties"].(node)[key].(node)["maxLength"] = length
}

// TestPausesAreReadAlike: the schema of a pause refuses what runners cannot read, and nothing else.
func TestPausesAreReadAlike(t *testing.T) {
	t.Parallel()
	s := schematest.Named(t, "pause")
	long := strings.Repeat("é", contract.MaxPauseBy)
	for _, body := range []string{
		`{}`, `{"reason":"x"}`, `{"reason":"","by":"ada"}`, `{"by":"` + long + `"}`, `{"by":"` + long + `é"}`, `{"reason":1}`, `{"reason":null}`, `[]`, `"x"`,
		`{"until":"x"}`, `{"Reason":"x"}`, `{"reason":"` + strings.Repeat("x", contract.MaxPauseReason+1) + `"}`, `{"reason":"a\tb"}`,
	} {
		_, err := contract.ReadPause([]byte(body))
		require.Equal(t, schematest.Validate(t, s, []byte(body)) == nil, err == nil, "%s: %v", body, err)
	}
}

// TestSchedulesAreReadAlike: the schema of a schedule refuses what runners cannot read, and nothing else.
func TestSchedulesAreReadAlike(t *testing.T) {
	t.Parallel()
	s := schematest.Named(t, "schedule")
	const job = `"job":{"sql":"SELECT 1"}`
	for _, body := range []string{
		`{"cron":"@daily",` + job + `}`, `{"every":"90s",` + job + `,"overlap":"allow","catch_up":"0s"}`, `{"at":"2030-01-01T00:00:00Z",` + job + `}`,
		`{` + job + `}`, `{"cron":"@daily"}`, `{"cron":"@daily","every":"1s",` + job + `}`, `{"cron":1,` + job + `}`, `{"every":"soon",` + job + `}`,
		`{"at":"tomorrow",` + job + `}`, `{"cron":"@daily","job":[]}`, `{"cron":"@daily","until":"x",` + job + `}`, `{"cron":"@daily","overlap":"queue",` + job + `}`,
		`{"cron":"@daily","job":{"id":"a"}}`, `{"at":"2030-01-01T00:00:00Z","job":{"id":"a"}}`, `{"at":"2030-01-01T00:00:00Z","job":{"id":"a b"}}`,
		`{"cron":"@daily","job":{"expires_at":"2030-01-01T00:00:00Z"}}`, `{"cron":"@daily","job":{"expires_in":"1h"}}`, `{"cron":"@daily","job":{"reply_to":"a"}}`,
		`{"cron":"@daily","job":{"answer":"reply"}}`, `{"cron":"@daily","job":{"answer":"stored"}}`, `{"cron":"@daily",` + job + `,"source":"` + strings.Repeat("x", 257) + `"}`,
		`{"cron":"@daily",` + job + `,"description":"` + strings.Repeat("x", 1001) + `"}`, `[]`, `"x"`,
	} {
		_, _, err := contract.ReadSchedule([]byte(body))
		require.Equal(t, schematest.Validate(t, s, []byte(body)) == nil, err == nil, "%s: %v", body, err)
	}
}

// TestGoldenResultsFit validates the golden results.
func TestGoldenResultsFit(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../../internal/jobs/testdata/golden/*.result.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	s := schematest.Named(t, "result")
	for _, file := range files {
		body, err := os.ReadFile(file) //nolint:gosec // a file of the test
		require.NoError(t, err)
		require.NoError(t, schematest.Validate(t, s, body), file)
	}
}

// TestSchemasRefuse holds that the schemas are no empty ones.
func TestSchemasRefuse(t *testing.T) {
	t.Parallel()
	for name, bodies := range map[string][]string{
		"result":        {`{}`, `[]`, `{"version":1,"job_id":"a","kind":"query","database":"d","status":"done","sequence":1,"deliveries":1,"attempts":1,"runner":"r","queued_at":"x","finished_at":"x"}`},
		"answer-cancel": {`{"version":1,"database":"d","job_id":1,"outcome":"cancelled"}`},
		"answer-health": {`{"version":1,"runner":"r","database":"d","verdict":"fine","reasons":[],"checks":{}}`},
		"answer-running": {
			`{"version":1,"runner":"r","process":"p","database":"d","at":"2026-03-01T12:00:00Z","part":1,"parts":1,"in_flight":1,"jobs":[{"job_id":"a","state":"idle"}]}`,
		},
		"answer-calls": {`{"version":1,"runner":"r","database":"d","calls":[{"name":"pay","schema":[]}]}`},
		"catalog":      {`{}`, `{"sql":"SELECT 1","statements":[]}`, `{"statements":[{"sql":"DELETE","expect_rows":-1}]}`, `{"sql":"SELECT 1","sequel":1}`},
		"pause":        {`{"until":"tomorrow"}`},
		"audit":        {`{}`, `{"version":1,"at":"2026-03-01T12:00:00Z","by":"ada","tool":"runner pause","action":"pause","before":{"revision":1}}`},
		"answer-error": {`{"error":"no"}`},
		"job-query":    {`{"sql":1}`, `{}`, `{"sql":"SELECT 1","parms":[]}`},
		"schedule":     {`{}`},
		"dead-letter-headers": {`{}`, `{"Dbrunner-Reason":"failed","Dbrunner-Sequence":"seven","Dbrunner-Queued-At":"2026-03-01T12:00:00Z",
			"Dbrunner-Deliveries":"1","Dbrunner-Runner":"r","Dbrunner-Subject":"dbrunner.jobs.shop.query"}`},
		"schedule-state": {`{}`, `{"record":{"created":1,"revision":1,"stored":"x"}}`},
	} {
		for _, body := range bodies {
			require.Error(t, schematest.Validate(t, schematest.Named(t, name), []byte(body)), "%s: %s", name, body)
		}
	}
}

func TestRead(t *testing.T) {
	t.Parallel()
	require.Contains(t, schema.Names(), "result")
	require.Len(t, schema.Names(), 25)
	for _, name := range schema.Names() {
		text, err := schema.Read(name)
		require.NoError(t, err)
		require.Contains(t, string(text), `"$id": "urn:dbrunner:1:`+name+`"`)
	}
	_, err := schema.Read("../schema")
	require.ErrorContains(t, err, `no schema is named "../schema"; write one of answer-calls, `)
}
