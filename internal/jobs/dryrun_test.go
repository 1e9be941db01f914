package jobs

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/catalog"
	"dbrunner/internal/db/dialect"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// TestDryRunFaults holds each fault of a dry run or an approval to its path, its code and a word of its fix.
func TestDryRunFaults(t *testing.T) {
	t.Parallel()
	decoder := testDecoder(func(o *DecoderOptions) {
		o.Dialect, o.MaxRequest = dialect.Postgres(), 2000
		o.Policy.Catalog = nil
	})
	statements := func(sql string) string { return `"statements":[{"sql":"SELECT 1"},{"sql":"` + sql + `"}]` }
	for name, c := range map[string]struct {
		kind, body string
		want       found
		says       string
	}{
		"an effect":               {"dry_run", `{"effect":"exactly_once",` + statements("SELECT 2") + `}`, found{"effect", contract.CodeInvalidValue}, "leave the key out"},
		"a long id":               {"dry_run", `{"id":"` + strings.Repeat("x", 91) + `",` + statements("SELECT 2") + `}`, found{"id", contract.CodeInvalidID}, "at most 90"},
		"no transaction":          {"dry_run", `{` + statements("VACUUM FULL t") + `}`, found{"statements[1].sql", contract.CodeForbiddenStatement}, "VACUUM cannot run in a transaction"},
		"concurrently":            {"dry_run", `{` + statements("CREATE INDEX CONCURRENTLY i ON t (a)") + `}`, found{"statements[1].sql", contract.CodeForbiddenStatement}, "CREATE INDEX CONCURRENTLY"},
		"transaction control":     {"dry_run", `{` + statements("COMMIT") + `}`, found{"statements[1].sql", contract.CodeTransactionControl}, ""},
		"an answer by reply":      {"dry_run", `{"reply_to":"_INBOX.a","answer":"reply",` + statements("SELECT 2") + `}`, found{"answer", contract.CodeInvalidValue}, "stored"},
		"a large body":            {"dry_run", `{` + statements("SELECT '"+strings.Repeat("x", 2000)+"'") + `}`, found{"", contract.CodeTooLarge}, "larger than 2000 bytes"},
		"an unknown statement":    {"dry_run.pay", `{"params":{}}`, found{"", contract.CodeUnknownCall}, "no statement of this name"},
		"another id":              {"approve", `{"id":"a","approves":"a","expect_digest":"` + someDigest + `"}`, found{"id", contract.CodeInvalidID}, `write "a_approved"`},
		"no id":                   {"approve", `{"approves":"a","expect_digest":"` + someDigest + `"}`, found{"id", contract.CodeInvalidID}, `write "a_approved"`},
		"no dry run":              {"approve", `{"id":"a_approved","expect_digest":"` + someDigest + `"}`, found{"approves", contract.CodeMissingKey}, "required"},
		"no digest":               {"approve", `{"id":"a_approved","approves":"a"}`, found{"expect_digest", contract.CodeMissingKey}, "required"},
		"a digest without a name": {"approve", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest[7:] + `"}`, found{"expect_digest", contract.CodeInvalidValue}, "sha256: and 64"},
		"a digest in upper case":  {"approve", `{"id":"a_approved","approves":"a","expect_digest":"sha256:` + strings.ToUpper(someDigest[7:]) + `"}`, found{"expect_digest", contract.CodeInvalidValue}, "0-9 and a-f"},
		"an approval's effect":    {"approve", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `","effect":"exactly_once"}`, found{"effect", contract.CodeInvalidValue}, "leave the key out"},
	} {
		_, rejection := decoder.Decode(message(c.kind, c.body))
		require.NotNil(t, rejection, name)
		require.Equal(t, []found{c.want}, places(rejection.Faults), name)
		require.Contains(t, rejection.Faults[0].Message, c.says, name)
	}
	in := message("dry_run", `{`+statements("SELECT 2")+`}`)
	in.Headers = map[string][]string{contract.HeaderMessageID: {strings.Repeat("x", 91)}}
	_, rejection := decoder.Decode(in)
	require.Equal(t, []found{{"id", contract.CodeInvalidID}}, places(rejection.Faults), "the header is an id, too")
	in = message("approve", `{"approves":"a","expect_digest":"`+someDigest+`"}`)
	in.Headers = map[string][]string{contract.HeaderMessageID: {"a_approved"}}
	mustDecode(t, decoder, in)
}

// Promise: no two kinds or forms share a request hash, or a stored result of one would answer the other.
func TestHashesOfDryRunsAreTheirOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, c := range map[string][2]string{
		"transaction":   {"transaction", `{"statements":[{"sql":"DELETE FROM t"}]}`},
		"dry run":       {"dry_run", `{"statements":[{"sql":"DELETE FROM t"}]}`},
		"call":          {"call", `{"params":{"from":1,"to":2,"amount":"1.00"}}`},
		"named dry run": {"dry_run.pay", `{"params":{"from":1,"to":2,"amount":"1.00"}}`},
		"approval":      {"approve", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `"}`},
		"named":         {"approve.pay", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `"}`},
		"another name":  {"approve.exactly_once", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `"}`},
	} {
		hash := fmt.Sprintf("%x", mustDecode(t, testDecoder(), message(c[0], c[1])).Hash)
		require.Empty(t, seen[hash], name)
		seen[hash] = name
	}
}

// Promise: with calls alone, dry runs and approvals of named statements are allowed and raw ones are not; an empty list has none.
func TestWhatEnablesDryRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kinds    []string
		offered  []string
		subjects []string
	}{
		{nil, []string{"query", "transaction", "statement", "migration", "health"}, nil},
		{[]string{"call"}, []string{"call", "dry_run.<name>", "approve.<name>"}, []string{"call.*", "dry_run.*", "approve.*"}},
		{[]string{"dry_run"}, []string{"dry_run"}, []string{"dry_run"}},
		{[]string{"approve", "dry_run"}, []string{"dry_run", "approve"}, []string{"dry_run", "approve"}},
		{[]string{"call", "approve"}, []string{"call", "dry_run.<name>", "approve", "approve.<name>"}, []string{"call.*", "dry_run.*", "approve", "approve.*"}},
	} {
		p := &Policy{Kinds: c.kinds, Ledger: true}
		var offered, subjects []string
		for _, o := range p.Offers() {
			offered = append(offered, o.Form)
		}
		require.Equal(t, c.offered, offered)
		for _, l := range Lanes(c.kinds) {
			if l.Name == "call" {
				subjects = l.Subjects
				require.True(t, l.Optional)
			}
		}
		require.Equal(t, c.subjects, subjects)
	}
	d := testDecoder(func(o *DecoderOptions) { o.Policy.Kinds = []string{"call"} })
	_, rejection := d.Decode(message("dry_run", `{}`))
	require.Contains(t, rejection.Faults[0].Message, "these do: call, dry_run.<name>, approve.<name>")
}

// Promise: on each engine, a dry run of what cannot run in a transaction is rejected, and the message names it; also behind comments, and as
// the text of a named statement.
func TestDryRunsOfWhatCannotRunInATransaction(t *testing.T) {
	t.Parallel()
	for engine, c := range map[string]struct {
		dialect *dialect.Dialect
		texts   map[string]string // text, what its rejection names
	}{
		"postgres": {dialect.Postgres(), map[string]string{
			"VACUUM": "VACUUM", "/* a */ vacuum (full) t": "VACUUM", "CREATE DATABASE d": "CREATE DATABASE", "ALTER SYSTEM SET work_mem = '1MB'": "ALTER SYSTEM",
			"CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)": "CREATE INDEX CONCURRENTLY", "DROP INDEX CONCURRENTLY i": "DROP INDEX CONCURRENTLY",
			"REINDEX TABLE CONCURRENTLY t": "REINDEX CONCURRENTLY", "ALTER TABLE t DETACH PARTITION p CONCURRENTLY": "DETACH PARTITION CONCURRENTLY",
			"CREATE TABLESPACE s LOCATION '/x'": "CREATE TABLESPACE", "DROP SUBSCRIPTION s": "DROP SUBSCRIPTION", "REINDEX DATABASE d": "REINDEX DATABASE",
		}},
		"sqlite": {dialect.SQLite(), map[string]string{
			"VACUUM": "VACUUM", "-- a\nVacuum main": "VACUUM", "VACUUM INTO 'x'": "VACUUM", "PRAGMA journal_mode = DELETE": "PRAGMA journal_mode",
		}},
		"sqlserver": {dialect.SQLServer(), map[string]string{
			"CREATE DATABASE d": "CREATE DATABASE", "/* a */ ALTER DATABASE d SET RECOVERY SIMPLE": "ALTER DATABASE", "DROP DATABASE d": "DROP DATABASE",
			"BACKUP DATABASE d TO DISK = 'x'": "BACKUP", "RESTORE DATABASE d FROM DISK = 'x'": "RESTORE", "KILL 53": "KILL", "RECONFIGURE": "RECONFIGURE",
			"CREATE FULLTEXT CATALOG c": "CREATE FULLTEXT",
		}},
	} {
		decoder := testDecoder(func(o *DecoderOptions) { o.Dialect, o.Policy.Catalog = c.dialect, nil })
		for text, what := range c.texts {
			body, err := json.Marshal(map[string]any{"statements": []any{map[string]any{"sql": "SELECT 1"}, map[string]any{"sql": text}}})
			require.NoError(t, err)
			_, rejection := decoder.Decode(message("dry_run", string(body)))
			require.NotNil(t, rejection, "%s: %s", engine, text)
			last := rejection.Faults[len(rejection.Faults)-1]
			require.Equal(t, found{"statements[1].sql", contract.CodeForbiddenStatement}, places([]contract.Fault{last})[0], "%s: %s", engine, text)
			require.Contains(t, last.Message, what+" cannot run in a transaction", "%s: %s", engine, text)
			_, rejection = decoder.Decode(message("dry_run", strings.Replace(string(body), "SELECT 1", "DELETE FROM t", 1)))
			require.NotNil(t, rejection, "the other statement makes no difference")
		}
	}
	files := fstest.MapFS{"vacuum.yaml": {Data: []byte("statements: [{sql: DELETE FROM t}, {sql: VACUUM t}]\n")}}
	statements, err := catalog.Load(files, "catalog", dialect.Postgres())
	require.NoError(t, err, "that it cannot run is known to its server")
	decoder := testDecoder(func(o *DecoderOptions) { o.Dialect, o.Policy.Catalog = dialect.Postgres(), statements })
	_, rejection := decoder.Decode(message("dry_run.vacuum", `{"params":{}}`))
	require.NotNil(t, rejection)
	require.Equal(t, []found{{"", contract.CodeForbiddenStatement}}, places(rejection.Faults))
	require.Contains(t, rejection.Faults[0].Message, "VACUUM cannot run in a transaction")
}

// Promise: what a hostile publisher makes of a dry run or an approval is rejected with its place, and never another job than it says: ids that
// are too long or have characters that do not show, digests in other alphabets, parameters of any depth and number.
func TestHostileDryRunsAndApprovals(t *testing.T) {
	t.Parallel()
	decoder := testDecoder(func(o *DecoderOptions) { o.MaxBody = 8 << 20 })
	approval := func(id, of, digest string) string {
		body, err := json.Marshal(map[string]any{"id": id, "approves": of, "expect_digest": digest})
		require.NoError(t, err)
		return string(body)
	}
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	long := strings.Repeat("x", 90)
	for name, c := range map[string]struct {
		kind, body, path string
		code             contract.Code
	}{
		"an id of 91":                    {"dry_run", `{"id":"` + long + `x","statements":[{"sql":"SELECT 1"}]}`, "id", contract.CodeInvalidID},
		"an id of 100":                   {"dry_run.pay", `{"id":"` + strings.Repeat("x", 100) + `","params":{"from":1,"to":2,"amount":"1.00"}}`, "id", contract.CodeInvalidID},
		"an id of 101":                   {"dry_run", `{"id":"` + strings.Repeat("x", 101) + `","statements":[{"sql":"SELECT 1"}]}`, "id", contract.CodeInvalidID},
		"an approval of 92":              {"approve", approval(long+"xx_approved", long+"xx", someDigest), "id", contract.CodeInvalidID},
		"a control character":            {"approve", approval("a\u0007_approved", "a\u0007", someDigest), "approves", contract.CodeInvalidValue},
		"a line feed":                    {"dry_run", `{"id":"a\n","statements":[{"sql":"SELECT 1"}]}`, "id", contract.CodeInvalidID},
		"a space of no width":            {"approve", approval("a\u200b_approved", "a\u200b", someDigest), "approves", contract.CodeInvalidValue},
		"a Cyrillic character":           {"approve", approval("\u0430_approved", "a", someDigest), "id", contract.CodeInvalidID},
		"another place":                  {"approve", approval("a.b_approved", "a.b", someDigest), "approves", contract.CodeInvalidValue},
		"a wildcard":                     {"approve", approval("*_approved", "*", someDigest), "approves", contract.CodeInvalidValue},
		"the approval of an approval":    {"approve", approval("a_approved", "a_approved", someDigest), "id", contract.CodeInvalidID},
		"a digest that is longer":        {"approve", approval("a_approved", "a", someDigest+"0"), "expect_digest", contract.CodeInvalidValue},
		"a digest with a line feed":      {"approve", approval("a_approved", "a", someDigest[:len(someDigest)-1]+"\n"), "expect_digest", contract.CodeInvalidValue},
		"a digest in other digits":       {"approve", approval("a_approved", "a", "sha256:"+strings.Repeat("\u0661", 32)), "expect_digest", contract.CodeInvalidValue},
		"another digest":                 {"approve", approval("a_approved", "a", "md5:"+someDigest[7:]), "expect_digest", contract.CodeInvalidValue},
		"no digest":                      {"approve", approval("a_approved", "a", ""), "expect_digest", contract.CodeInvalidValue},
		"a list of digests":              {"approve", `{"id":"a_approved","approves":"a","expect_digest":["` + someDigest + `"]}`, "expect_digest", contract.CodeInvalidValue},
		"a text of its own":              {"approve", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `","statements":[{"sql":"DELETE FROM t"}]}`, "statements", contract.CodeUnknownKey},
		"parameters of its own":          {"approve.pay", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `","params":{"amount":"9.00"}}`, "params", contract.CodeUnknownKey},
		"a limit of its own":             {"approve", `{"id":"a_approved","approves":"a","expect_digest":"` + someDigest + `","max_affected":1000}`, "max_affected", contract.CodeUnknownKey},
		"a raised limit of a call":       {"dry_run.pay", `{"params":{"from":1,"to":2,"amount":"1.00"},"max_affected":1000}`, "max_affected", contract.CodeUnknownKey},
		"SQL beside a call":              {"dry_run.pay", `{"params":{"from":1,"to":2,"amount":"1.00"},"statements":[{"sql":"DELETE FROM t"}]}`, "statements", contract.CodeUnknownKey},
		"SQL in a parameter":             {"call", `{"params":{"from":"1; DELETE FROM t","to":2,"amount":"1.00"}}`, "params.from", contract.CodeInvalidValue},
		"SQL behind a parameter":         {"call", `{"params":{"from":{"sql":"DELETE FROM t"},"to":2,"amount":"1.00"}}`, "params.from", contract.CodeInvalidValue},
		"a parameter that is too deep":   {"call", `{"params":{"from":` + deep(1000) + `,"to":2,"amount":"1.00"}}`, "params.from[0]", contract.CodeTooDeep},
		"the deepest parameter":          {"call", `{"params":{"from":` + deep(62) + `,"to":2,"amount":"1.00"}}`, "params.from", contract.CodeInvalidValue},
		"too many parameters":            {"dry_run.pay", `{"params":{` + many(200_000, "") + `}}`, "params.l", contract.CodeTooLarge},
		"too many, of a dry run":         {"dry_run", `{"statements":[{"sql":"SELECT 1","params":[0` + strings.Repeat(",0", 200_000) + `]}]}`, "statements[0].params", contract.CodeTooLarge},
		"a parameter without an end":     {"dry_run.pay", `{"params":{"from":` + strings.Repeat("[", 100_000), "params.from[0]", contract.CodeTooDeep},
		"a name with no end":             {"call", `{"params":{"` + strings.Repeat("x", 100_000) + `":1}}`, "params.xxx", contract.CodeUnknownKey},
		"a parameter that does not show": {"call", `{"params":{"from":1,"to":2,"amount":"1.00","from\u200b":3}}`, "params.from\u200b", contract.CodeUnknownKey},
	} {
		in := message(c.kind, c.body)
		job, rejection := decoder.Decode(in)
		require.Nil(t, job, name)
		require.NotNil(t, rejection, name)
		require.True(t, slices.ContainsFunc(rejection.Faults, func(f contract.Fault) bool { return strings.HasPrefix(f.Path, c.path) && f.Code == c.code }), "%s: %+v", name, rejection.Faults)
		require.Less(t, len(contract.AppendFaults(nil, rejection.Faults)), 100_000, name)
		require.Equal(t, decoder.Scan(in), identityOf(job, rejection), name)
	}
	for _, id := range []string{long, testDerivedID, "-", "_"} {
		mustDecode(t, decoder, message("approve", approval(contract.ApprovalID(id), id, someDigest)))
	}
}

// Promise: what a body costs grows with its size and not with its square: very many keys and parameters, which took minutes for each delivery while they
// were compared with each other, cost a small multiple of what they cost a query, which looks for its own alone.
func TestVeryManyParameters(t *testing.T) {
	t.Parallel()
	decoder := testDecoder(func(o *DecoderOptions) { o.MaxBody = 8 << 20 })
	list := many(40_000, "")
	least := func(kind, body string) time.Duration {
		took := time.Duration(math.MaxInt64)
		for range 3 { // the machine is busy
			started := time.Now()
			_, rejection := decoder.Decode(message(kind, body))
			took = min(took, time.Since(started))
			require.Len(t, rejection.Faults, maxFaults+1, kind)
			require.Regexp(t, `^and \d+ more faults`, rejection.Faults[maxFaults].Message, kind)
		}
		return took
	}
	limit := 50 * least("query", `{"sql":"SELECT 1","params":{`+list+`}}`)
	for kind, body := range map[string]string{
		"call": `{"params":{` + list + `}}`, "dry_run.pay": `{"params":{` + list + `}}`, "dry_run": `{` + list + `}`, "approve": `{` + list + `}`,
	} {
		require.Less(t, least(kind, body), limit, kind)
	}
}
