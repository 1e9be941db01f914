package jobs

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
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
