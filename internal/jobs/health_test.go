package jobs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthKeys(t *testing.T) {
	t.Parallel()
	decode := func(body string) (*Job, *Rejection) { return testDecoder().Decode(message("health", body)) }
	for body, message := range map[string]string{
		`{"checks":"pool"}`:           "must be a list of connection, query, replication, pool, migrations, jobs",
		`{"checks":[]}`:               "leave the key out",
		`{"checks":["pool","disk"]}`:  "must be one of connection, query, replication, pool, migrations, jobs",
		`{"checks":["pool",5]}`:       "must be one of",
		`{"checks":null}`:             "null is no value here",
		`{"effect":"exactly_once"}`:   "read_only",
		`{"sql":"SELECT 1"}`:          "belongs to jobs of kind",
		`{"answer":"reply","id":"a"}`: "needs a reply_to",
	} {
		_, rejection := decode(body)
		require.NotNil(t, rejection, body)
		require.Contains(t, rejection.Message(), message, body)
	}
	one, _ := decode(`{"checks":["pool","query"]}`)
	other, _ := decode(`{"checks":["query","pool","query"]}`)
	all, _ := decode(`{}`)
	require.Equal(t, one.Hash, other.Hash, "the order makes no difference")
	require.NotEqual(t, one.Hash, all.Hash)
}
