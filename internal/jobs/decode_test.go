package jobs

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/jsontext"
)

// found is a fault without its text.
type found struct {
	path string
	code contract.Code
}

func places(faults []contract.Fault) []found {
	out := make([]found, len(faults))
	for i, f := range faults {
		out[i] = found{f.Path, f.Code}
	}
	return out
}

// TestFaults holds each fault of a body to its path and code, and to a word of its fix.
func TestFaults(t *testing.T) {
	t.Parallel()
	const q, tx = "query", "transaction"
	stmts := func(list string) string { return `{"statements":[` + list + `]}` }
	param := func(json string) string { return `{"sql":"SELECT :a","params":{"a":` + json + `}}` }
	for _, c := range []struct {
		name, kind, body string
		want             []found
		says             string
	}{
		{"empty", q, ``, []found{{"", contract.CodeInvalidJSON}}, "empty"},
		{"blank", q, " \n", []found{{"", contract.CodeInvalidJSON}}, "empty"},
		{"no object", q, `[1]`, []found{{"", contract.CodeInvalidJSON}}, "one JSON object"},
		{"cut", q, `{"sql":"SELECT 1"`, []found{{"", contract.CodeInvalidJSON}}, "is incomplete (line 1, byte 18)"},
		{"cut in a key", tx, `{"statements":[{},{"sql":tru`, []found{{"statements[1].sql", contract.CodeInvalidJSON}}, "line 1"},
		{"trailing data", q, `{"sql":"SELECT 1"} {}`, []found{{"", contract.CodeInvalidJSON}}, "nothing after it"},
		{"trailing brace", q, `{"sql":"SELECT 1"}}`, []found{{"", contract.CodeInvalidJSON}}, "nothing after it"},
		{"byte order mark", q, "\xEF\xBB\xBF{}", []found{{"", contract.CodeInvalidJSON}}, "byte order mark"},
		{"single quotes", q, `{'sql':1}`, []found{{"", contract.CodeInvalidJSON}}, "double quotes"},
		{"last comma", q, "{\n\"sql\":\"SELECT 1\",}", []found{{"", contract.CodeInvalidJSON}}, "line 2, byte 18"},
		{"no comma", q, `{"sql":"SELECT 1" "id":"a"}`, []found{{"", contract.CodeInvalidJSON}}, "a comma or }"},
		{"no comma in a list", q, `{"params":[1 2]}`, []found{{"params", contract.CodeInvalidJSON}}, "a comma or ]"},
		{"wrong bracket", q, `{"params":[1}`, []found{{"params", contract.CodeInvalidJSON}}, "a comma or ]"},
		{"no colon", q, `{"sql" 1}`, []found{{"", contract.CodeInvalidJSON}}, "colon"},
		{"no UTF-8", q, "{\"sql\":\"\xFF\"}", []found{{"sql", contract.CodeInvalidJSON}}, "UTF-8"},
		{"no UTF-8 in a key", q, "{\"\xFF\":1}", []found{{"", contract.CodeInvalidJSON}}, "UTF-8"},
		{"raw line break", q, "{\"sql\":\"a\nb\"}", []found{{"sql", contract.CodeInvalidJSON}}, "control character"},
		{"NUL", q, `{"sql":"a\u0000"}`, []found{{"sql", contract.CodeInvalidJSON}}, "u0000"},
		{"half a pair", q, `{"sql":"\ud800"}`, []found{{"sql", contract.CodeInvalidJSON}}, "surrogate"},
		{"half a pair and more", q, `{"sql":"\ud800\u0041"}`, []found{{"sql", contract.CodeInvalidJSON}}, "surrogate"},
		{"second half", q, `{"sql":"\udc00"}`, []found{{"sql", contract.CodeInvalidJSON}}, "surrogate"},
		{"bad escape", q, `{"sql":"\x"}`, []found{{"sql", contract.CodeInvalidJSON}}, "escape"},
		{"escape at the end", q, `{"sql":"\`, []found{{"sql", contract.CodeInvalidJSON}}, "no end"},
		{"short escape", q, `{"sql":"\u12`, []found{{"sql", contract.CodeInvalidJSON}}, "escape"},
		{"NaN", q, `{"max_rows":NaN}`, []found{{"max_rows", contract.CodeInvalidJSON}}, "a JSON value"},
		{"leading zero", q, `{"max_rows":01}`, []found{{"max_rows", contract.CodeInvalidJSON}}, "leading zero"},
		{"incomplete number", q, `{"max_rows":1.}`, []found{{"max_rows", contract.CodeInvalidJSON}}, "incomplete"},
		{"minus", q, `{"max_rows":-}`, []found{{"max_rows", contract.CodeInvalidJSON}}, "incomplete"},
		{"plus", q, `{"max_rows":+1}`, []found{{"max_rows", contract.CodeInvalidJSON}}, "a JSON value"},
		{"too deep", q, `{"params":` + strings.Repeat("[", 64), []found{{jsontext.Clip("params"+strings.Repeat("[0]", 62), maxFaultPath), contract.CodeTooDeep}}, "deep"},
		{"too many values", q, `{"params":[` + strings.Repeat("1,", 200_000) + `1]}`, []found{{"params", contract.CodeTooLarge}}, "values"},
		{"too large", q, `{"sql":"` + strings.Repeat("x", 1<<20) + `"}`, []found{{"", contract.CodeTooLarge}}, "1048576"},

		{"nothing in it", q, `{}`, []found{{"sql", contract.CodeMissingKey}}, "required"},
		{"wrongly cased", q, `{"SQL":"SELECT 1","sql":"SELECT 1"}`, []found{{"SQL", contract.CodeUnknownKey}}, `write "sql"`},
		{"mistyped", q, `{"sql":"SELECT 1","time_out":"1s"}`, []found{{"time_out", contract.CodeUnknownKey}}, `did you mean "timeout"?`},
		{"swapped characters", q, `{"sql":"SELECT 1","lables":{}}`, []found{{"lables", contract.CodeUnknownKey}}, `did you mean "labels"?`},
		{"unknown", q, `{"sql":"SELECT 1","database":"shop"}`, []found{{"database", contract.CodeUnknownKey}}, "known here: version"},
		{"odd key", q, `{"sql":"SELECT 1","a.\"b\u00e9":1}`, []found{{`["a.\"b\u00e9"]`, contract.CodeUnknownKey}}, "unknown"},
		{"empty key", q, `{"sql":"SELECT 1","":1}`, []found{{`[""]`, contract.CodeUnknownKey}}, "unknown"},
		{"another kind's", q, `{"sql":"SELECT 1","statements":[]}`, []found{{"statements", contract.CodeUnknownKey}}, "kind transaction"},
		{"twice", q, `{"sql":"SELECT 1","sql":"SELECT 1"}`, []found{{"sql", contract.CodeDuplicateKey}}, "once"},
		{"twice by an escape", q, `{"sql":"SELECT 1","\u0073ql":"SELECT 1"}`, []found{{"sql", contract.CodeDuplicateKey}}, "once"},

		{"version", q, `{"version":2,"sql":"SELECT 1"}`, []found{{"version", contract.CodeVersion}}, "write 1"},
		{"version as text", q, `{"version":"1","sql":"SELECT 1"}`, []found{{"version", contract.CodeVersion}}, "write 1"},
		{"id with a dot", q, `{"id":"a.b","sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidID}}, "1 to 100"},
		{"empty id", q, `{"id":"","sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidID}}, "1 to 100"},
		{"long id", q, `{"id":"` + strings.Repeat("a", 101) + `","sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidID}}, "1 to 100"},
		{"derived id", q, `{"id":"s1_a2","sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidID}}, "kept for jobs without an id"},
		{"id as number", q, `{"id":7,"sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidValue}}, "string"},
		{"null", q, `{"id":null,"sql":"SELECT 1"}`, []found{{"id", contract.CodeInvalidValue}}, "leave the key out"},
		{"reply into jobs", q, `{"reply_to":"dbrunner.jobs.shop.query","sql":"SELECT 1"}`, []found{{"reply_to", contract.CodeReplyTo}}, "must begin with _INBOX."},
		{"reply with wildcard", q, `{"reply_to":"_INBOX.>","sql":"SELECT 1"}`, []found{{"reply_to", contract.CodeReplyTo}}, "wildcard"},
		{"reply of another database", q, `{"reply_to":"dbrunner.replies.other.a","sql":"SELECT 1"}`, []found{{"reply_to", contract.CodeReplyTo}}, "dbrunner.replies.shop."},
		{"timeout above the ceiling", q, `{"timeout":"61s","sql":"SELECT 1"}`, []found{{"timeout", contract.CodeInvalidValue}}, "at most 1m0s"},
		{"timeout zero", q, `{"timeout":"0s","sql":"SELECT 1"}`, []found{{"timeout", contract.CodeInvalidValue}}, `"30s"`},
		{"timeout as number", q, `{"timeout":30,"sql":"SELECT 1"}`, []found{{"timeout", contract.CodeInvalidValue}}, `"30s"`},
		{"expiry without zone", q, `{"expires_at":"2026-03-01T12:00:00","sql":"SELECT 1"}`, []found{{"expires_at", contract.CodeInvalidValue}}, "zone"},
		{"negative expiry", q, `{"expires_in":"-1s","sql":"SELECT 1"}`, []found{{"expires_in", contract.CodeInvalidValue}}, "above zero"},
		{"two expiries", q, `{"expires_in":"1s","expires_at":"2026-03-01T12:00:00Z","sql":"SELECT 1"}`, []found{{"expires_in", contract.CodeInvalidValue}}, "one of the two"},
		{"row format", q, `{"row_format":"csv","sql":"SELECT 1"}`, []found{{"row_format", contract.CodeInvalidValue}}, "objects, arrays"},
		{"batch and params", tx, stmts(`{"sql":"SELECT $1","params":[1],"batch":[[1]]}`), []found{{"statements[0].batch", contract.CodeInvalidValue}}, "one of params, batch and params_from"},
		{"empty batch", tx, stmts(`{"sql":"SELECT $1","batch":[]}`), []found{{"statements[0].batch", contract.CodeInvalidValue}}, "at least one"},
		{"batch of numbers", tx, stmts(`{"sql":"SELECT $1","batch":[1]}`), []found{{"statements[0].batch[0]", contract.CodeInvalidValue}}, "an object for :name"},
		{"gap in a batch", tx, stmts(`{"sql":"SELECT $1, $2","batch":[[1,2],[3]]}`), []found{{"statements[0].batch[1][1]", contract.CodeParameter}}, "$2 is missing"},
		{"name in a batch", tx, stmts(`{"sql":"SELECT :a","batch":[{"a":1},{"b":1}]}`), []found{{"statements[0].batch[1].a", contract.CodeParameter}, {"statements[0].batch[1].b", contract.CodeParameter}}, "missing"},
		{"params_from without a digest", tx, stmts(`{"sql":"SELECT $1","params_from":{"name":"a"}}`), []found{{"statements[0].params_from.digest", contract.CodeMissingKey}}, "SHA-256="},
		{"params_from outside", tx, stmts(`{"sql":"SELECT $1","params_from":{"name":"../a","digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}}`), []found{{"statements[0].params_from.name", contract.CodeInvalidValue}}, "without .."},
		{"output of a statement", "statement", `{"sql":"VACUUM","output":"object"}`, []found{{"output", contract.CodeInvalidValue}}, "leave the key out"},
		{"unknown format", q, `{"sql":"SELECT 1","format":"xml"}`, []found{{"format", contract.CodeInvalidValue}}, "ndjson, json, csv, parquet"},
		{"format inline", q, `{"sql":"SELECT 1","output":"inline","format":"csv"}`, []found{{"format", contract.CodeInvalidValue}}, "always JSON"},
		{"object by reply", q, `{"sql":"SELECT 1","output":"object","answer":"reply","reply_to":"_INBOX.x"}`, []found{{"output", contract.CodeInvalidValue}}, "need a stored result"},
		{"no rows", q, `{"max_rows":0,"sql":"SELECT 1"}`, []found{{"max_rows", contract.CodeInvalidValue}}, "1 or more"},
		{"half a row", q, `{"max_rows":1.5,"sql":"SELECT 1"}`, []found{{"max_rows", contract.CodeInvalidValue}}, "whole number"},
		{"too many rows", q, `{"max_rows":9223372036854775808,"sql":"SELECT 1"}`, []found{{"max_rows", contract.CodeInvalidValue}}, "whole number"},
		{"answer", q, `{"answer":"none","sql":"SELECT 1"}`, []found{{"answer", contract.CodeInvalidValue}}, "stored, reply"},
		{"reply only without a subject", q, `{"answer":"reply","sql":"SELECT 1"}`, []found{{"answer", contract.CodeInvalidValue}}, "reply_to"},
		{
			"reply only with an effect", tx, `{"answer":"reply","reply_to":"_INBOX.a","statements":[{"sql":"DELETE FROM a"}]}`,
			[]found{{"answer", contract.CodeInvalidValue}},
			"read_only",
		},
		{"labels", q, `{"labels":["a"],"sql":"SELECT 1"}`, []found{{"labels", contract.CodeInvalidValue}}, "object"},
		{"label as number", q, `{"labels":{"a":1},"sql":"SELECT 1"}`, []found{{"labels.a", contract.CodeInvalidValue}}, "text"},
		{"label twice", q, `{"labels":{"a":"1","a":"2"},"sql":"SELECT 1"}`, []found{{"labels.a", contract.CodeDuplicateKey}}, "once"},
		{"label without a name", q, `{"labels":{"":"1"},"sql":"SELECT 1"}`, []found{{`labels[""]`, contract.CodeInvalidValue}}, "name"},
		{"label too long", q, `{"labels":{"a":"` + strings.Repeat("x", 513) + `"},"sql":"SELECT 1"}`, []found{{"labels.a", contract.CodeInvalidValue}}, "512"},
		{"label with a line break", q, `{"labels":{"a":"x\ny"},"sql":"SELECT 1"}`, []found{{"labels.a", contract.CodeInvalidValue}}, "control"},
		{"labels too long together", q, `{"labels":{` + many(32, strings.Repeat("x", 512)) + `},"sql":"SELECT 1"}`, []found{{"labels", contract.CodeInvalidValue}}, "16 KiB"},
		{"too many labels", q, `{"labels":{` + many(33, "") + `},"sql":"SELECT 1"}`, []found{{"labels", contract.CodeInvalidValue}}, "32"},

		{"effect of another kind", q, `{"effect":"exactly_once","sql":"SELECT 1"}`, []found{{"effect", contract.CodeEffectNotAllowed}}, "accept one of: read_only"},
		{"unknown effect", tx, `{"effect":"twice","statements":[{"sql":"DELETE FROM a"}]}`, []found{{"effect", contract.CodeEffectNotAllowed}}, "exactly_once or at_least_once"},
		{"effect twice", tx, `{"effect":"at_least_once","effect":"exactly_once","statements":[{"sql":"DELETE FROM a"}]}`, []found{{"effect", contract.CodeDuplicateKey}}, "once"},

		{"sql as number", q, `{"sql":1}`, []found{{"sql", contract.CodeInvalidValue}}, "string"},
		{"blank sql", q, `{"sql":" \n"}`, []found{{"sql", contract.CodeInvalidValue}}, "empty"},
		{"two statements", q, `{"sql":"SELECT 1; SELECT 2"}`, []found{{"sql", contract.CodeMultipleStatements}}, ""},
		{"transaction control", q, `{"sql":"COMMIT"}`, []found{{"sql", contract.CodeTransactionControl}}, ""},
		{"write in a query", q, `{"sql":"DELETE FROM a WHERE b = :b"}`, []found{{"params.b", contract.CodeParameter}, {"sql", contract.CodeReadOnly}}, ""},
		{"missing parameter", q, `{"sql":"SELECT :a, :b","params":{"a":1}}`, []found{{"params.b", contract.CodeParameter}}, ""},
		{"extra parameter", q, `{"sql":"SELECT :a","params":{"a":1,"b":2}}`, []found{{"params.b", contract.CodeParameter}}, ""},
		{"parameter twice", q, `{"sql":"SELECT :a","params":{"a":1,"a":2}}`, []found{{"params.a", contract.CodeDuplicateKey}}, "once"},
		{"params as text", q, `{"sql":"SELECT 1","params":"a"}`, []found{{"params", contract.CodeInvalidValue}}, "list"},
		{"params null", q, `{"sql":"SELECT 1","params":null}`, []found{{"params", contract.CodeInvalidValue}}, "leave the key out"},
		{"bare list", q, param(`[1]`), []found{{"params.a", contract.CodeParameterNotTyped}}, typedHint},
		{"bare object", q, param(`{}`), []found{{"params.a", contract.CodeParameterNotTyped}}, typedHint},
		{"type without value", q, param(`{"type":"uuid"}`), []found{{"params.a", contract.CodeParameterNotTyped}}, typedHint},
		{"value without type", q, param(`{"value":1}`), []found{{"params.a", contract.CodeParameterNotTyped}}, typedHint},
		{"wrongly cased type", q, param(`{"Type":"uuid","value":"x"}`), []found{{"params.a.Type", contract.CodeUnknownKey}}, `write "type"`},
		{"type with more", q, param(`{"type":"uuid","value":"x","scale":1}`), []found{{"params.a.scale", contract.CodeUnknownKey}}, "known here: type, value"},
		{"value twice", q, param(`{"type":"uuid","value":"x","value":"y"}`), []found{{"params.a.value", contract.CodeDuplicateKey}}, "once"},
		{"type as number", q, param(`{"type":1,"value":"x"}`), []found{{"params.a.type", contract.CodeInvalidValue}}, "database type"},
		{"empty type", q, param(`{"type":"","value":"x"}`), []found{{"params.a.type", contract.CodeInvalidValue}}, "uuid"},
		{"list of parameters", q, `{"sql":"SELECT $1, $2","params":[[1],{}]}`, []found{{"params[0]", contract.CodeParameterNotTyped}, {"params[1]", contract.CodeParameterNotTyped}}, ""},

		{"no statements", tx, `{}`, []found{{"statements", contract.CodeMissingKey}}, "required"},
		{"statements as object", tx, `{"statements":{}}`, []found{{"statements", contract.CodeInvalidValue}}, "list"},
		{"empty list", tx, stmts(``), []found{{"statements", contract.CodeInvalidValue}}, "at least one"},
		{"a thousand and one", tx, stmts(strings.Repeat(`{},`, 1000) + `{}`), []found{{"statements", contract.CodeInvalidValue}}, "1000"},
		{"statement as text", tx, stmts(`"SELECT 1"`), []found{{"statements[0]", contract.CodeInvalidValue}}, `{"sql"`},
		{"isolation", tx, `{"isolation":"SERIALIZABLE","statements":[{"sql":"DELETE FROM a"}]}`, []found{{"isolation", contract.CodeInvalidValue}}, "read_committed, repeatable_read, serializable"},
		{"limit of no rows", tx, `{"max_affected":0,"statements":[{"sql":"DELETE FROM a"}]}`, []found{{"max_affected", contract.CodeInvalidValue}}, "1 or more"},
		{"another commit", tx, `{"commit":"together","statements":[{"sql":"DELETE FROM a"}]}`, []found{{"commit", contract.CodeInvalidValue}}, "shared"},
		{"commit of a query", q, `{"commit":"shared","sql":"SELECT 1"}`, []found{{"commit", contract.CodeUnknownKey}}, "transaction"},
		{"limit as text", tx, `{"max_affected":"10","statements":[{"sql":"DELETE FROM a"}]}`, []found{{"max_affected", contract.CodeInvalidValue}}, "whole number"},
		{"limit of a statement", tx, stmts(`{"sql":"DELETE FROM a","max_affected":10}`), []found{{"statements[0].max_affected", contract.CodeUnknownKey}}, ""},
		{"limit of a query", q, `{"sql":"SELECT 1","max_affected":10}`, []found{{"max_affected", contract.CodeUnknownKey}}, "transaction"},
		{"expect text", tx, stmts(`{"sql":"DELETE FROM a","expect_rows":"1"}`), []found{{"statements[0].expect_rows", contract.CodeInvalidValue}}, "number of rows"},
		{"expect less than nothing", tx, stmts(`{"sql":"DELETE FROM a","expect_rows":-1}`), []found{{"statements[0].expect_rows", contract.CodeInvalidValue}}, "number of rows"},
		{"expect nothing", tx, stmts(`{"sql":"DELETE FROM a","expect_rows":{}}`), []found{{"statements[0].expect_rows", contract.CodeInvalidValue}}, "at least one of the two"},
		{"expect upside down", tx, stmts(`{"sql":"DELETE FROM a","expect_rows":{"min":2,"max":1}}`), []found{{"statements[0].expect_rows", contract.CodeInvalidValue}}, "larger"},
		{"expect unknown", tx, stmts(`{"sql":"DELETE FROM a","expect_rows":{"mim":2}}`), []found{{"statements[0].expect_rows.mim", contract.CodeUnknownKey}}, `"min"`},
		{
			"several statements", tx,
			stmts(`{"sql":"SELECT :a"},{"sql":"DELETE FROM a","parms":[]},{"params":{"b":[]}},{"sql":"BEGIN","expect_rows":{"max":true}}`),
			[]found{
				{"statements[0].params.a", contract.CodeParameter},
				{"statements[1].parms", contract.CodeUnknownKey},
				{"statements[2].sql", contract.CodeMissingKey},
				{"statements[2].params.b", contract.CodeParameterNotTyped},
				{"statements[3].sql", contract.CodeTransactionControl},
				{"statements[3].expect_rows.max", contract.CodeInvalidValue},
			},
			"",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, rejection := testDecoder().Decode(message(c.kind, c.body))
			require.NotNil(t, rejection)
			require.Equal(t, c.want, places(rejection.Faults), "%+v", rejection.Faults)
			require.Contains(t, rejection.Faults[0].Message, c.says)
			require.Contains(t, rejection.Message(), rejection.Faults[0].Path)
			for _, f := range rejection.Faults {
				if f.Code != rejection.Faults[0].Code {
					require.Equal(t, contract.CodeInvalidBody, rejection.Code)
					return
				}
			}
			require.Equal(t, rejection.Faults[0].Code, rejection.Code)
		})
	}
}

func many(n int, value string) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"l%d":%q`, i, value))
	}
	return strings.Join(list, ",")
}

// TestPolicy holds what a database's configuration refuses to its fault.
func TestPolicy(t *testing.T) {
	t.Parallel()
	const tx = `{"id":"a","statements":[{"sql":"DELETE FROM a"}]}`
	policy := func(change func(*Policy)) *Decoder {
		return testDecoder(func(o *DecoderOptions) { change(o.Policy) })
	}
	for _, c := range []struct {
		name, kind string
		change     func(*Policy)
		want       found
		says       string
	}{
		{"kind", "transaction", func(p *Policy) { p.Kinds = []string{"query"} }, found{"", contract.CodeKindNotAllowed}, "query"},
		{"unknown kind", "vacuum", func(*Policy) {}, found{"", contract.CodeKindNotAllowed}, "query, transaction"},
		{"no ledger", "transaction", func(p *Policy) { p.Ledger = false }, found{"effect", contract.CodeEffectNotAllowed}, "write at_least_once"},
		{
			"effect", "transaction", func(p *Policy) { p.Effects = []contract.Effect{contract.ReadOnly, contract.AtLeastOnce} },
			found{"effect", contract.CodeEffectNotAllowed},
			"write at_least_once",
		},
		{
			"no effect", "transaction", func(p *Policy) { p.Effects = []contract.Effect{contract.ReadOnly} },
			found{"effect", contract.CodeEffectNotAllowed},
			"nor is any other",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, rejection := policy(c.change).Decode(message(c.kind, tx))
			require.NotNil(t, rejection)
			require.Equal(t, []found{c.want}, places(rejection.Faults))
			require.Contains(t, rejection.Faults[0].Message, c.says)
			require.Equal(t, "a", rejection.ID)
		})
	}
}

// TestTimeLimits holds a job's timeout to the defaults and ceilings of its database and kind.
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	d := testDecoder(func(o *DecoderOptions) {
		o.Policy.ByKind = map[string]KindPolicy{"query": {Timeout: 2 * time.Second, MaxTimeout: 3 * time.Second}}
	})
	require.Equal(t, 2*time.Second, mustDecode(t, d, message("query", `{"sql":"SELECT 1"}`)).Timeout)
	require.Equal(t, 3*time.Second, mustDecode(t, d, message("query", `{"sql":"SELECT 1","timeout":"3s"}`)).Timeout)
	_, rejection := d.Decode(message("query", `{"sql":"SELECT 1","timeout":"3001ms"}`))
	require.NotNil(t, rejection)
	tx := mustDecode(t, d, message("transaction", `{"statements":[{"sql":"DELETE FROM a"}]}`))
	require.Equal(t, 10*time.Second, tx.Timeout)
}

// TestSharedCommits refuses to share a commit on a database whose configuration does not allow it.
func TestSharedCommits(t *testing.T) {
	t.Parallel()
	in := message("transaction", `{"commit":"shared","statements":[{"sql":"DELETE FROM a"}]}`)
	require.True(t, mustDecode(t, testDecoder(), in).work.(*transaction).shared)
	_, rejection := testDecoder(func(o *DecoderOptions) { o.Policy.SharedCommits = false }).Decode(in)
	require.NotNil(t, rejection)
	require.Equal(t, "commit", rejection.Faults[0].Path)
	require.Contains(t, rejection.Faults[0].Message, "shared_commits: true")
}

// TestRowLimits holds the rows of a job to the smaller of its own limit and its database's.
func TestRowLimits(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	for body, want := range map[string]int64{
		`{"sql":"SELECT 1"}`: 1000, `{"sql":"SELECT 1","max_rows":7}`: 7, `{"sql":"SELECT 1","max_rows":5000}`: 1000,
	} {
		job := mustDecode(t, d, message("query", body))
		require.Equal(t, want, TighterLimit(job.MaxRows, d.opts.Policy.MaxRows), body)
	}
}

// TestIdentity holds the id, effect and reply subject of a message to the rules, in Decode and Scan alike.
func TestIdentity(t *testing.T) {
	t.Parallel()
	const sql = `"sql":"SELECT 1"`
	for _, c := range []struct {
		name, body, header string
		id                 string
		effect             contract.Effect
		reply              string
	}{
		{"body", `{"id":"a1",` + sql + `}`, "h1", "a1", contract.ReadOnly, ""},
		{"header", `{` + sql + `}`, "h1", "h1", contract.ReadOnly, ""},
		{"derived", `{` + sql + `}`, "", testDerivedID, contract.ReadOnly, ""},
		{"invalid header", `{` + sql + `}`, "h 1", testDerivedID, contract.ReadOnly, ""},
		{"header in the derived form", `{` + sql + `}`, "s1_1", testDerivedID, contract.ReadOnly, ""},
		{"invalid id", `{"id":"a 1",` + sql + `}`, "h1", testDerivedID, contract.ReadOnly, ""},
		{"null id", `{"id":null,` + sql + `}`, "h1", testDerivedID, contract.ReadOnly, ""},
		{"derived form", `{"id":"s1_1",` + sql + `}`, "h1", testDerivedID, contract.ReadOnly, ""},
		{"two ids", `{"id":"a1","id":"a2",` + sql + `}`, "h1", testDerivedID, contract.ReadOnly, ""},
		{"id by escapes", `{"\u0069\u0064":"\u0061\u0031",` + sql + `}`, "", "a1", contract.ReadOnly, ""},
		{"wrongly cased", `{"ID":"a1",` + sql + `}`, "h1", "h1", contract.ReadOnly, ""},
		{"id further down", `{"params":{"id":"a1","effect":"x"},` + sql + `}`, "h1", "h1", contract.ReadOnly, ""},
		{"id as object", `{"id":{"id":"a1"},` + sql + `}`, "h1", testDerivedID, contract.ReadOnly, ""},
		{"damaged behind the id", `{"id":"a1","effect":"read_only","reply_to":"_INBOX.x",` + sql, "h1", "a1", contract.ReadOnly, "_INBOX.x"},
		{"damaged before the id", `{"sql":x,"id":"a1"}`, "h1", "h1", "", ""},
		{"damaged in the id", `{"id":"a1`, "h1", "h1", "", ""},
		{"no body", ``, "h1", "h1", "", ""},
		{"no object", `["id"]`, "h1", "h1", "", ""},
		{"too large", `{"id":"a1",` + sql + `,"params":["` + strings.Repeat("x", 1<<20) + `"]}`, "h1", "a1", contract.ReadOnly, ""},
		{"effect of another kind", `{"id":"a1","effect":"at_most_once",` + sql + `}`, "", "a1", "", ""},
		{"two effects", `{"id":"a1","effect":"read_only","effect":"read_only",` + sql + `}`, "", "a1", "", ""},
		{"reply", `{"id":"a1","reply_to":"flows.answers.1",` + sql + `}`, "", "a1", contract.ReadOnly, "flows.answers.1"},
		{"reply elsewhere", `{"id":"a1","reply_to":"$JS.API.x",` + sql + `}`, "", "a1", contract.ReadOnly, ""},
		{"two replies", `{"id":"a1","reply_to":"_INBOX.a","reply_to":"_INBOX.a",` + sql + `}`, "", "a1", contract.ReadOnly, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			in := message("query", c.body)
			if c.header != "" {
				in.Headers = map[string][]string{"Nats-Msg-Id": {c.header}}
			}
			want := Scanned{ID: c.id, DerivedID: c.id == testDerivedID, Effect: c.effect, ReplyTo: c.reply}
			d := testDecoder()
			require.Equal(t, want, d.Scan(in))
			require.Equal(t, want, identityOf(d.Decode(in)))
		})
	}
}

func identityOf(job *Job, rejection *Rejection) Scanned {
	if job != nil {
		return Scanned{ID: job.ID, DerivedID: job.DerivedID, Effect: job.Effect, ReplyTo: job.ReplyTo, Call: job.Call}
	}
	return Scanned{
		ID: rejection.ID, DerivedID: rejection.DerivedID, Effect: rejection.Effect, ReplyTo: rejection.ReplyTo, Call: rejection.Call,
	}
}

// TestRejectionCarries holds a rejection to all that could be read of its body.
func TestRejectionCarries(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	const head = `{"id":"a1","reply_to":"_INBOX.x","labels":{"k":"v"},`
	good := mustDecode(t, d, message("query", head+`"sql":"SELECT 1"}`))
	_, limits := d.Decode(message("query", head+`"timeout":"2h","sql":"SELECT 1"}`))
	require.Equal(t, good.Hash, limits.Hash, "the request itself was understood")
	require.Equal(t, map[string]string{"k": "v"}, limits.Labels)
	require.Equal(t, "_INBOX.x", limits.ReplyTo)

	_, request := d.Decode(message("query", head+`"sql":"SELECT 1","params":7}`))
	require.Nil(t, request.Hash)
	require.Equal(t, map[string]string{"k": "v"}, request.Labels)
}

// TestManyFaults holds a rejection to a bounded size, however much is wrong.
func TestManyFaults(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`{"sql":"SELECT 1"`)
	for i := range 50_000 {
		fmt.Fprintf(&b, `,"\u00e9%d%s":1`, i, strings.Repeat("k", 500*(i%2)))
		if b.Len() > 900_000 {
			break
		}
	}
	b.WriteString(`}`)
	start := time.Now()
	_, rejection := testDecoder().Decode(message("query", b.String()))
	require.Len(t, rejection.Faults, maxFaults+1)
	require.Contains(t, rejection.Faults[maxFaults].Message, "more faults")
	require.Less(t, len(contract.AppendFaults(nil, rejection.Faults)), 64<<10)
	require.Less(t, time.Since(start), 10*time.Second)
}

// TestNoValuesInFaults holds every text for publishers to this: it repeats keys, never values.
func TestNoValuesInFaults(t *testing.T) {
	t.Parallel()
	const canary = "canary4711"
	for _, body := range []string{
		`{"sql":"SELECT :a","params":{"a":["` + canary + `"]}}`,
		`{"sql":"SELECT :a","params":{"a":{"type":"` + canary + `\u0001","value":1}}}`,
		`{"sql":"SELECT :a","params":{"b":"` + canary + `"}}`,
		`{"sql":"SELECT $1","params":["x","` + canary + `"]}`,
		`{"sql":"` + canary + `"}`, `{"sql":"SELECT 1; ` + canary + `"}`, `{"sql":"SELECT 1","params":"` + canary + `"}`,
		`{"sql":"SELECT 1","id":"` + canary + `!"}`, `{"sql":"SELECT 1","timeout":"` + canary + `"}`,
		`{"sql":"SELECT 1","reply_to":"` + canary + `"}`, `{"sql":"SELECT 1","effect":"` + canary + `"}`,
		`{"sql":"SELECT 1","labels":"` + canary + `"}`, `{"sql":"SELECT 1","labels":{"a":"` + canary + `\n"}}`,
		`{"sql":"SELECT 1","expires_at":"` + canary + `"}`, `{"sql":"SELECT 1","version":"` + canary + `"}`,
		`{"sql":"` + canary, `{"sql":"SELECT 1"}` + canary, `{"sql":"SELECT 1","params":[` + canary + `]}`,
	} {
		_, rejection := testDecoder().Decode(message("query", body))
		require.NotNil(t, rejection, body)
		require.NotContains(t, fmt.Sprintf("%+v", rejection.Faults), canary, body)
	}
}

// TestReaderIsReused holds one decoder to independence between its bodies.
func TestReaderIsReused(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	first := mustDecode(t, d, message("query", `{"id":"first","labels":{"a":"b"},"sql":"SELECT :x","params":{"x":"kept"}}`))
	before := dump(first)
	_, rejection := d.Decode(message("transaction", `{"id":"second","bad":1,"statements":[{"sql":""}],"timeout":"5s"}`))
	require.Len(t, rejection.Faults, 2)
	second := mustDecode(t, d, message("query", `{"sql":"SELECT 1"}`))
	require.Equal(t, testDerivedID, second.ID)
	require.Nil(t, second.Labels)
	require.Equal(t, before, dump(first))
}

// TestDecoderIsShared holds one decoder to independence between goroutines; the race detector looks on.
func TestDecoderIsShared(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	var group sync.WaitGroup
	for worker := range 8 {
		group.Go(func() {
			for i := range 200 {
				id := fmt.Sprintf("w%d-%d", worker, i)
				body := fmt.Sprintf(`{"id":%q,"sql":"SELECT :n","params":{"n":%d}}`, id, i)
				job, rejection := d.Decode(message("query", body))
				if rejection != nil || job.ID != id || job.work.(*query).compiled.Args[0].Text != strconv.Itoa(i) {
					t.Errorf("%s: %+v %+v", body, job, rejection)
				}
				if _, rejection = d.Decode(message("query", `{"id":"`+id+`"`)); rejection == nil || rejection.ID != id {
					t.Errorf("%s: %+v", id, rejection)
				}
			}
		})
	}
	group.Wait()
}
