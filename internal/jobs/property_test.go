package jobs

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// writer writes JSON in one of the many ways to write the same.
type writer struct {
	t     *rapid.T
	b     strings.Builder
	plain bool // in the shortest way, keys in their order
}

func (w *writer) blanks() {
	if !w.plain {
		w.b.WriteString(rapid.SampledFrom([]string{"", "", "", " ", "\n\t", "\r\n  "}).Draw(w.t, "blanks"))
	}
}

func (w *writer) string(s string) {
	w.b.WriteByte('"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			w.b.WriteByte('\\')
			w.b.WriteRune(c)
		case c < ' ':
			fmt.Fprintf(&w.b, `\u%04x`, c)
		case c < 0x10000 && !w.plain && rapid.IntRange(0, 7).Draw(w.t, "escape") == 0:
			fmt.Fprintf(&w.b, `\u%04X`, c)
		default:
			w.b.WriteRune(c)
		}
	}
	w.b.WriteByte('"')
}

// raw is JSON text that is written as it is.
type raw string

// member is one member of an object.
type member struct {
	key   string
	value any
}

// value writes raw, string, []any, []member, or map[string]any.
func (w *writer) value(v any) {
	w.blanks()
	switch v := v.(type) {
	case raw:
		w.b.WriteString(string(v))
	case string:
		w.string(v)
	case []any:
		w.b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				w.b.WriteByte(',')
			}
			w.value(e)
		}
		w.b.WriteByte(']')
	case map[string]any:
		var members []member
		for _, key := range slices.Sorted(maps.Keys(v)) {
			members = append(members, member{key, v[key]})
		}
		if !w.plain {
			members = rapid.Permutation(members).Draw(w.t, "order")
		}
		w.value(members)
		return
	case []member:
		w.b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				w.b.WriteByte(',')
			}
			w.blanks()
			w.string(m.key)
			w.blanks()
			w.b.WriteByte(':')
			w.value(m.value)
		}
		w.b.WriteByte('}')
	}
	w.blanks()
}

func write(t *rapid.T, v any, plain bool) string {
	w := writer{t: t, plain: plain}
	w.value(v)
	return w.b.String()
}

// text draws text that a body may hold.
func text() *rapid.Generator[string] {
	runes := []rune("abzAZ09_-. :;'\"\\/\n\té漢😀$%{}[],")
	return rapid.StringOfN(rapid.SampledFrom(runes), 0, 12, -1)
}

func identifier() *rapid.Generator[string] { return rapid.StringMatching(`[a-z][a-z0-9_]{0,7}`) }

func number() *rapid.Generator[string] {
	return rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,4})?([eE][+-]?[0-9]{1,3})?`)
}

// jsonValue draws any JSON value of a small depth, as value of a typed parameter.
func jsonValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		most := 6
		if depth == 0 {
			most = 4
		}
		switch rapid.IntRange(0, most).Draw(t, "kind") {
		case 0:
			return raw("null")
		case 1:
			return raw(strconv.FormatBool(rapid.Bool().Draw(t, "bool")))
		case 2:
			return raw(number().Draw(t, "number"))
		case 3, 4:
			return text().Draw(t, "text")
		case 5:
			return anySlice(rapid.SliceOfN(jsonValue(depth-1), 0, 3).Draw(t, "list"))
		default:
			return rapid.MapOfN(text(), jsonValue(depth-1), 0, 3).Draw(t, "object")
		}
	})
}

func anySlice(list []any) []any {
	if list == nil {
		return []any{}
	}
	return list
}

// parameter draws a parameter in its JSON form.
func parameter() *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		if rapid.Bool().Draw(t, "typed") {
			return map[string]any{
				"type":  rapid.SampledFrom([]string{"uuid", "jsonb", "int8[]", "double precision"}).Draw(t, "type"),
				"value": jsonValue(2).Draw(t, "value"),
			}
		}
		return jsonValue(0).Draw(t, "value")
	})
}

// drawStatement draws a valid statement's members.
func drawStatement(t *rapid.T, verb string) map[string]any {
	s := map[string]any{}
	sql := verb + " " + strconv.Itoa(rapid.IntRange(0, 9).Draw(t, "n"))
	switch rapid.IntRange(0, 2).Draw(t, "params") {
	case 0:
		params := rapid.MapOfN(identifier(), parameter(), 0, 4).Draw(t, "named")
		for _, name := range slices.Sorted(maps.Keys(params)) {
			sql += ", :" + name
		}
		s["params"] = params
	case 1:
		list := rapid.SliceOfN(parameter(), 1, 4).Draw(t, "list")
		for i := range list {
			sql += ", $" + strconv.Itoa(i+1)
		}
		s["params"] = anySlice(list)
	}
	s["sql"] = sql
	return s
}

// drawOwn draws the own keys of a kind.
func drawOwn(t *rapid.T, kind string) map[string]any {
	switch kind {
	case "query":
		return drawStatement(t, "SELECT")
	case "statement":
		return drawStatement(t, "CALL")
	case "migration":
		return drawMigration(t)
	case "health":
		return drawChecks(t)
	case "approve":
		of := rapid.StringMatching(`[A-Za-z0-9_-]{1,20}`).Draw(t, "dry run")
		return map[string]any{"id": contract.ApprovalID(of), "approves": of, "expect_digest": rapid.StringMatching(`sha256:[0-9a-f]{64}`).Draw(t, "digest")}
	}
	var list []any
	for range rapid.IntRange(1, 3).Draw(t, "statements") {
		s := drawStatement(t, "DELETE")
		switch rapid.IntRange(0, 2).Draw(t, "expect") {
		case 0:
			s["expect_rows"] = raw(strconv.Itoa(rapid.IntRange(0, 5).Draw(t, "rows")))
		case 1:
			least := rapid.IntRange(0, 5).Draw(t, "min")
			s["expect_rows"] = map[string]any{"min": raw(strconv.Itoa(least)), "max": raw(strconv.Itoa(least + 1))}
		}
		list = append(list, s)
	}
	own := map[string]any{"statements": list}
	if rapid.Bool().Draw(t, "isolated") {
		own["isolation"] = rapid.SampledFrom(isolations).Draw(t, "isolation")
	}
	if rapid.Bool().Draw(t, "limited") {
		own["max_affected"] = raw(strconv.Itoa(rapid.IntRange(1, 1000).Draw(t, "max_affected")))
	}
	if rapid.Bool().Draw(t, "shared") {
		own["commit"] = "shared"
	}
	return own
}

func drawMigration(t *rapid.T) map[string]any {
	own := map[string]any{"action": rapid.SampledFrom([]string{"goto", "down", "repair"}).Draw(t, "action")}
	own["target"] = rapid.StringMatching(`[0-9]{1,3}([.][0-9]{1,2})?|none`).Draw(t, "target")
	if rapid.Bool().Draw(t, "disordered") {
		own["out_of_order"] = raw("true")
	}
	return own
}

// drawChecks draws some of the checks, in their order, or none.
func drawChecks(t *rapid.T) map[string]any {
	var list []any
	for _, check := range contract.HealthChecks() {
		if rapid.Bool().Draw(t, check) {
			list = append(list, check)
		}
	}
	if list == nil {
		return map[string]any{}
	}
	return map[string]any{"checks": list}
}

// drawCommon draws keys that every kind has.
func drawCommon(t *rapid.T) map[string]any {
	all := map[string]any{
		"version": raw("1"),
		"id":      rapid.StringMatching(`[A-Za-z0-9-]{1,20}`).Draw(t, "id"),
		"reply_to": rapid.SampledFrom([]string{"_INBOX.a.b", "dbrunner.replies.shop.x", "flows.answers.1"}).
			Draw(t, "reply"),
		"timeout":    rapid.SampledFrom([]string{"1s", "60s", "1.5s", "0h1m"}).Draw(t, "timeout"),
		"expires_in": rapid.SampledFrom([]string{"1s", "24h"}).Draw(t, "expires"),
		"row_format": rapid.SampledFrom([]string{"objects", "arrays"}).Draw(t, "format"),
		"max_rows":   raw(strconv.Itoa(rapid.IntRange(1, 2000).Draw(t, "rows"))),
		"answer":     "stored",
		"labels":     labelsOf(t),
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if rapid.Bool().Draw(t, "has "+key) {
			delete(all, key)
		}
	}
	return all
}

func labelsOf(t *rapid.T) map[string]any {
	labels := map[string]any{}
	for name, value := range rapid.MapOfN(identifier(), rapid.StringMatching(`[a-z "\\é]{0,9}`), 0, 3).Draw(t, "labels") {
		labels[name] = value
	}
	return labels
}

// drawKind draws a kind whose body says everything about its job.
func drawKind(t *rapid.T) string {
	return rapid.SampledFrom(slices.DeleteFunc(Kinds(), func(kind string) bool { return kind == "call" || kind == "approve" })).Draw(t, "kind")
}

// merge puts objects without common keys together.
func merge(objects ...map[string]any) map[string]any {
	out := map[string]any{}
	for _, o := range objects {
		maps.Copy(out, o)
	}
	return out
}

// TestDecodeTakesOverEverything: every valid job decodes to what was written, however it was written.
func TestDecodeTakesOverEverything(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	rapid.Check(t, func(t *rapid.T) {
		kind := drawKind(t)
		body := merge(drawCommon(t), drawOwn(t, kind))
		job, rejection := d.Decode(message(kind, write(t, body, false)))
		if rejection != nil {
			t.Fatalf("rejected: %+v", rejection.Faults)
		}
		require.Equal(t, body, rewritten(job, body))
	})
}

// rewritten writes a job as the body that it came from; original lists which keys that one had, and how numbers and
// expiries were put.
func rewritten(job *Job, original map[string]any) map[string]any {
	out := map[string]any{}
	take := func(key string, value any) {
		if _, there := original[key]; there {
			out[key] = value
		}
	}
	take("version", raw("1"))
	take("id", job.ID)
	take("reply_to", job.ReplyTo)
	take("answer", map[bool]string{false: "stored", true: "reply"}[job.ReplyOnly])
	take("row_format", map[db.RowFormat]string{db.Objects: "objects", db.Arrays: "arrays"}[job.RowFormat])
	if text, ok := original["timeout"].(string); ok {
		if d, _ := time.ParseDuration(text); d == job.Timeout {
			out["timeout"] = text
		}
	}
	if text, ok := original["expires_in"].(string); ok {
		if d, _ := time.ParseDuration(text); testTime.Add(d).Equal(job.ExpiresAt) {
			out["expires_in"] = text
		}
	}
	if text, ok := original["max_rows"].(raw); ok {
		if n, _ := strconv.ParseInt(string(text), 10, 64); n == job.MaxRows {
			out["max_rows"] = text
		}
	}
	labels := map[string]any{}
	for name, value := range job.Labels {
		labels[name] = value
	}
	take("labels", labels)
	return merge(out, rewrittenWork(job, original))
}

func rewrittenWork(job *Job, original map[string]any) map[string]any {
	switch w := job.work.(type) {
	case *query:
		return rewrittenStatement(&w.statement, original)
	case *autocommit:
		return rewrittenStatement(&w.statement, original)
	case *migrate:
		out := map[string]any{"action": string(w.action), "target": w.target}
		if w.outOfOrder {
			out["out_of_order"] = raw("true")
		}
		return out
	}
	out := map[string]any{}
	if h, ok := job.work.(*healthCheck); ok {
		var list []any
		for _, check := range h.checks {
			list = append(list, check)
		}
		if list != nil {
			out["checks"] = list
		}
		return out
	}
	t := transactionOf(job)
	if t.tx.Isolation != 0 {
		out["isolation"] = isolations[t.tx.Isolation-db.ReadCommitted]
	}
	if t.maxAffected > 0 {
		out["max_affected"] = raw(strconv.FormatInt(t.maxAffected, 10))
	}
	if t.shared {
		out["commit"] = "shared"
	}
	var list []any
	for i := range t.statements {
		before := original["statements"].([]any)[i].(map[string]any)
		s := rewrittenStatement(&t.statements[i], before)
		if guard := t.tx.Expect[i]; guard != nil {
			if _, single := before["expect_rows"].(raw); single && guard.Min == guard.Max {
				s["expect_rows"] = raw(strconv.FormatInt(guard.Min, 10))
			} else {
				s["expect_rows"] = map[string]any{
					"min": raw(strconv.FormatInt(guard.Min, 10)), "max": raw(strconv.FormatInt(guard.Max, 10)),
				}
			}
		}
		list = append(list, s)
	}
	out["statements"] = list
	return out
}

func rewrittenStatement(s *statement, original map[string]any) map[string]any {
	out := map[string]any{"sql": s.source.SQL}
	switch before := original["params"].(type) {
	case map[string]any:
		params := map[string]any{}
		for name, v := range s.source.Params.Named {
			params[name] = rewrittenValue(v, before[name])
		}
		out["params"] = params
	case []any:
		var params []any
		for i, v := range s.source.Params.List {
			params = append(params, rewrittenValue(v, before[i]))
		}
		out["params"] = params
	}
	return out
}

func rewrittenValue(v dialect.Value, original any) any {
	var value any = raw(v.Text)
	inner := original
	typed, isTyped := original.(map[string]any)
	if isTyped {
		inner = typed["value"]
	}
	switch v.Kind {
	case dialect.String:
		value = v.Text
	case dialect.Array, dialect.Object:
		if sameJSON(v.Text, inner) {
			value = inner
		}
	default: // by its text
	}
	if v.Type != "" {
		return map[string]any{"type": v.Type, "value": value}
	}
	return value
}

// sameJSON compares a JSON text with a drawn value by way of the standard library, numbers by their text.
func sameJSON(text string, drawn any) bool {
	w := writer{plain: true}
	w.value(drawn)
	return canonicalStandard(text) == canonicalStandard(w.b.String())
}

func canonicalStandard(text string) string {
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var v any
	if decoder.Decode(&v) != nil {
		return "not JSON: " + text
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// TestHashKnowsTheRequest: the request hash is the same for every way to write a request and whatever the keys around
// it, and another one for every other request.
func TestHashKnowsTheRequest(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	hash := func(t *rapid.T, kind string, body map[string]any) string {
		job, rejection := d.Decode(message(kind, write(t, body, false)))
		if rejection != nil {
			t.Fatalf("rejected: %+v", rejection.Faults)
		}
		require.Len(t, job.Hash, 32)
		return string(job.Hash)
	}
	rapid.Check(t, func(t *rapid.T) {
		kind := drawKind(t)
		own := drawOwn(t, kind)
		first := hash(t, kind, merge(drawCommon(t), own))
		require.Equal(t, first, hash(t, kind, merge(drawCommon(t), own)))

		other := drawOwn(t, kind)
		same := write(t, standardForm(own), true) == write(t, standardForm(other), true)
		require.Equal(t, same, first == hash(t, kind, other))
	})
}

// standardForm drops the differences in writing that mean nothing: no parameters, and the two ways to expect n rows.
func standardForm(own map[string]any) map[string]any {
	out := maps.Clone(own)
	if params, ok := out["params"].(map[string]any); ok && len(params) == 0 {
		delete(out, "params")
	}
	if list, ok := out["statements"].([]any); ok {
		var forms []any
		for _, s := range list {
			forms = append(forms, standardForm(s.(map[string]any)))
		}
		out["statements"] = forms
	}
	return out
}

func TestHashDistinguishesRequests(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	seen := map[string]string{}
	for _, c := range [][2]string{
		{"query", `{"sql":"SELECT 1"}`},
		{"query", `{"sql":"SELECT 1 "}`},
		{"query", `{"sql":"SELECT $1","params":[1]}`},
		{"query", `{"sql":"SELECT $1","params":["1"]}`},
		{"query", `{"sql":"SELECT $1","params":[1.0]}`},
		{"query", `{"sql":"SELECT $1","params":[null]}`},
		{"query", `{"sql":"SELECT $1","params":["null"]}`},
		{"query", `{"sql":"SELECT $1","params":[true]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"a","value":"bc"}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"ab","value":"c"}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":[1,2]}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":[[1,2]]}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":[[1],2]}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":"[1,2]"}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":{"a":"b"}}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":{"a":1,"b":2}}]}`},
		{"query", `{"sql":"SELECT $1","params":[{"type":"json","value":{"a":2,"b":1}}]}`},
		{"query", `{"sql":"SELECT :a, :b","params":{"a":1,"b":2}}`},
		{"query", `{"sql":"SELECT :a, :b","params":{"a":2,"b":1}}`},
		{"statement", `{"sql":"SELECT 1"}`},
		{"statement", `{"sql":"SELECT 1","effect":"at_least_once"}`},
		{"migration", `{"action":"up"}`},
		{"migration", `{"action":"up","target":"1"}`},
		{"migration", `{"action":"up","out_of_order":true}`},
		{"migration", `{"action":"goto","target":"1"}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"effect":"at_least_once","statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"isolation":"read_committed","statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"isolation":"serializable","statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"max_affected":1,"statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"max_affected":2,"statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"commit":"shared","statements":[{"sql":"SELECT 1"}]}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1"},{"sql":"SELECT 1"}]}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1","expect_rows":0}]}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1","expect_rows":1}]}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1","expect_rows":{"min":1}}]}`},
		{"transaction", `{"statements":[{"sql":"SELECT 1","expect_rows":{"max":1}}]}`},
		{"health", `{}`},
		{"health", `{"checks":["pool"]}`},
		{"health", `{"checks":["pool","query"]}`},
	} {
		hash := string(mustDecode(t, d, message(c[0], c[1])).Hash)
		require.Empty(t, seen[hash], c[1])
		seen[hash] = c[1]
	}
	elsewhere := message("query", `{"sql":"SELECT 1"}`)
	elsewhere.Database = "other"
	require.Empty(t, seen[string(mustDecode(t, d, elsewhere).Hash)])

	for a, b := range map[string]string{
		`{"statements":[{"sql":"SELECT 1"}]}`:                                                          `{"effect":"exactly_once","statements":[{"sql":"SELECT 1","params":{}}]}`,
		`{"statements":[{"sql":"SELECT 1","expect_rows":2}]}`:                                          `{"statements":[{"sql":"SELECT 1","expect_rows":{"max":2,"min":2}}]}`,
		`{"statements":[{"sql":"SELECT $1","params":[{"type":"j","value":{"a":1,"\u0062":[1, 2]}}]}]}`: `{"statements":[{"sql":"SELECT $1","params":[{"type":"j","value":{"b":[1,2], "a":1}}]}]}`,
	} {
		require.Equal(t, mustDecode(t, d, message("transaction", a)).Hash, mustDecode(t, d, message("transaction", b)).Hash, a)
	}
}

// damaged draws a body that is nearly a job: members repeated, dropped, renamed, of a wrong type, and the text cut,
// changed or grown somewhere.
func damaged(t *rapid.T, kind string) string {
	var members []member
	body := merge(drawCommon(t), drawOwn(t, kind))
	for _, key := range slices.Sorted(maps.Keys(body)) {
		members = append(members, member{key, body[key]})
	}
	odd := rapid.Custom(func(t *rapid.T) member {
		return member{
			rapid.SampledFrom([]string{"id", "Id", "effect", "reply_to", "EFFECT", "sql", "x", ""}).Draw(t, "key"),
			rapid.SampledFrom([]any{
				"a1", "a 1", "s1_1", "read_only", "exactly_once", "at_least_once", "at_most_once", "_INBOX.a", "_INBOX.>", raw("null"),
				raw("1"),
				[]any{},
				map[string]any{"id": "x"},
			}).Draw(t, "value"),
		}
	})
	members = append(members, rapid.SliceOfN(odd, 0, 3).Draw(t, "odd")...)
	text := write(t, rapid.Permutation(members).Draw(t, "order"), false)
	at := rapid.IntRange(0, len(text)).Draw(t, "at")
	switch rapid.IntRange(0, 5).Draw(t, "damage") {
	case 0:
		return text[:at]
	case 1:
		return text[:at] + rapid.SampledFrom([]string{`"`, `{`, `}`, `,`, "\x00", "\xff", `\`, ` `, `x`}).Draw(t, "more") + text[at:]
	case 2:
		return text[:at] + text[min(len(text), at+1):]
	}
	return text
}

// TestScanAgreesWithDecode: for any body, also a damaged one, both have the same id, effect and reply subject.
func TestScanAgreesWithDecode(t *testing.T) {
	t.Parallel()
	d := testDecoder(func(o *DecoderOptions) { o.MaxBody = 2000 })
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom(append(Kinds(), "vacuum")).Draw(t, "kind")
		in := message(kind, damaged(t, kind))
		if rapid.Bool().Draw(t, "header") {
			in.Headers = map[string][]string{"Nats-Msg-Id": {rapid.SampledFrom([]string{"h1", "h 1", "s1_1", ""}).Draw(t, "header")}}
		}
		require.Equal(t, d.Scan(in), identityOf(d.Decode(in)), "%s", in.Body)
	})
}

// transactionOf is the transaction that a job runs, or would.
func transactionOf(job *Job) *transaction {
	if d, ok := job.work.(*dryRun); ok {
		return d.transaction
	}
	return job.work.(*transaction)
}
