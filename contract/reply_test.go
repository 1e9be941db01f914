package contract_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestValidReply(t *testing.T) {
	t.Parallel()
	prefixes := []string{"flows.answers.", "_INBOX_web."}
	for subject, want := range map[string]bool{
		"_INBOX.a": true, "_INBOX.Vq7.42": true, "dbrunner.replies.shop.a": true, "flows.answers.x.y": true,
		"_INBOX_web.1": true, "_INBOX." + strings.Repeat("x", 248): true,

		"": false, "_INBOX": false, "_INBOX.": false, "_INBOX..a": false, "_INBOX.a.": false, "._INBOX.a": false,
		"_INBOX.*": false, "_INBOX.a*": false, "_INBOX.>": false, "_INBOX.a>b": false, "_INBOX.a b": false,
		"_INBOX.a\tb": false, "_INBOX.a\r\nb": false, "_INBOX.ä": false, "_INBOX.\x7f": false, "_INBOX.a\x00": false,
		"_INBOX.$a": false, "_INBOX_other.1": false, "_inbox.a": false, " _INBOX.a": false,
		"_INBOX." + strings.Repeat("x", 249): false,

		"dbrunner.replies.shop": false, "dbrunner.replies.shop.": false, "dbrunner.replies.shopping.a": false,
		"dbrunner.replies.other.a": false, "dbrunner.jobs.shop.query": false, "dbrunner.store.shop.a": false,
		"dbrunner.results.shop.a": false, "dbrunner.dead.shop.query.s1_1": false, "flows.answers": false, "flows.answers.": false,
		"$JS.API.STREAM.DELETE.X": false, "$JS.ACK.a": false, "$KV.x.y": false, "$SYS.a": false, "other": false,
	} {
		err := contract.ValidReply("dbrunner", "shop", subject, prefixes)
		require.Equal(t, want, err == nil, "%q: %v", subject, err)
	}
	require.Error(t, contract.ValidReply("dbrunner", "shop", "flowsxanswers", []string{"flows"}), "a prefix ends in a dot")
	require.Error(t, contract.ValidReply("", "shop", ".replies.shop.a", nil))
	require.Error(t, contract.ValidReply("dbrunner", "", "dbrunner.replies..a", nil))
}

// FuzzValidReply holds the validator to a second statement of its rules.
func FuzzValidReply(f *testing.F) {
	for _, seed := range []string{
		"_INBOX.a", "_INBOX.>", "dbrunner.replies.shop.x", "$JS.ACK.x", "_INBOX..", "flows.answers.q", "a b", "_INBOX.\x00",
	} {
		f.Add(seed)
	}
	prefixes := []string{"flows.answers."}
	allowed := []string{"_INBOX.", "dbrunner.replies.shop.", "flows.answers."}
	f.Fuzz(func(t *testing.T, subject string) {
		if contract.ValidReply("dbrunner", "shop", subject, prefixes) != nil {
			return
		}
		inside := false
		for _, prefix := range allowed {
			inside = inside || strings.HasPrefix(subject, prefix) && len(subject) > len(prefix)
		}
		require.True(t, inside, "%q", subject)
		require.LessOrEqual(t, len(subject), 255)
		for token := range strings.SplitSeq(subject, ".") {
			require.NotEmpty(t, token, "%q", subject)
			require.Equal(t, -1, strings.IndexFunc(token, func(r rune) bool {
				return r <= ' ' || r > '~' || strings.ContainsRune("*>$", r)
			}), "%q", subject)
		}
	})
}
