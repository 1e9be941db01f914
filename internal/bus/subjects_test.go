package bus

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestReplySubjects(t *testing.T) {
	t.Parallel()
	s := contract.Subjects{Namespace: "dbrunner"}
	for _, good := range []string{"_INBOX.abc.1", "dbrunner.replies.demo.x", "upstream.answers.7", "dbrunnerx.jobs.a"} {
		require.NoError(t, checkReply(s, good, "_INBOX_dbrunner_a"), good)
	}
	for _, bad := range []string{
		"", ".", "a.", ".a", "a..b", "a.*", "a.>", ">", "*", "a b", "a\tb", "a\r\nb", "a\x00b", "$JS.API.STREAM.DELETE.X", "$KV.x",
		"$JS.ACK.a.b.1.2.3.4.5", "$SYS.x", "dbrunner.jobs.demo.query", "dbrunner.store.demo.x", "dbrunner.results.demo.x",
		strings.Repeat("a", 5000), "a\x7fb",
		"dbrunner.dead.demo.query.x", "dbrunner.health.runner.x", "dbrunner.api.x", "dbrunner.replies", "_INBOX_dbrunner_a.x",
	} {
		require.ErrorIs(t, checkReply(s, bad, "_INBOX_dbrunner_a"), ErrSubject, bad)
	}
}

func FuzzReplySubject(f *testing.F) {
	for _, seed := range []string{"_INBOX.abc.1", "dbrunner.replies.demo.x", "a..b", "$JS.API.X", "a.*", "dbrunner.jobs.a.b", "a b"} {
		f.Add(seed)
	}
	s := contract.Subjects{Namespace: "dbrunner"}
	f.Fuzz(func(t *testing.T, subject string) {
		if checkReply(s, subject, "_INBOX_dbrunner_a") != nil {
			return
		}
		require.LessOrEqual(t, len(subject), 1024)
		require.NotContains(t, "$", subject[:1])
		tokens := strings.Split(subject, ".")
		for _, token := range tokens {
			require.NotEmpty(t, token)
			for _, b := range []byte(token) {
				require.Greater(t, b, byte(' '))
				require.NotContains(t, "*>\x7f", string(rune(b)))
			}
		}
		require.NotEqual(t, "_INBOX_dbrunner_a", tokens[0])
		if tokens[0] == "dbrunner" {
			require.GreaterOrEqual(t, len(tokens), 3)
			require.Equal(t, "replies", tokens[1])
		}
	})
}

func TestSplitJob(t *testing.T) {
	t.Parallel()
	s := contract.Subjects{Namespace: "dbrunner"}
	of, ok := s.SplitJob("dbrunner.jobs.rpa_db.query")
	require.True(t, ok)
	require.Equal(t, contract.JobSubject{Database: "rpa_db", Kind: "query"}, of)
	of, ok = s.SplitJob("dbrunner.jobs.rpa_db.call.pay")
	require.True(t, ok)
	require.Equal(t, contract.JobSubject{Database: "rpa_db", Kind: "call", Name: "pay"}, of)
	for _, other := range []string{"dbrunner.jobs.x", "dbrunner.results.a.b", "other.jobs.a.b", ""} {
		_, ok := s.SplitJob(other)
		require.False(t, ok, other)
	}
}

func TestOverlapping(t *testing.T) {
	t.Parallel()
	for _, pair := range [][2]string{
		{"a.b", "a.b"}, {"a.*", "a.b"}, {"a.>", "a.b.c"}, {"a.*.c", "a.b.*"}, {">", "a"}, {"a.*", "a.*"}, {"a.b.>", "a.*.c"},
	} {
		require.Equal(t, pair[0], Overlapping([]string{"x", pair[0]}, "y", pair[1]), pair)
		require.Equal(t, pair[1], Overlapping([]string{pair[1]}, pair[0]), pair)
	}
	for _, pair := range [][2]string{{"a.b", "a.c"}, {"a.b", "a"}, {"a.*", "a.b.c"}, {"a.>", "b.a"}, {"a.*", "a"}, {"a", "ab"}} {
		require.Empty(t, Overlapping([]string{pair[0]}, pair[1]), pair)
		require.Empty(t, Overlapping([]string{pair[1]}, pair[0]), pair)
	}
}
