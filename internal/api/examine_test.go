package api_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/api"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jobs"
)

func TestExamine(t *testing.T) {
	t.Parallel()
	d := jobs.NewDecoder(jobs.DecoderOptions{Namespace: "dbrunner", Policy: &jobs.Policy{}, Dialect: dialect.SQLite()})
	examine := func(body string) api.Examined { return api.Examine(d, "shop", "query", "given", []byte(body)) }
	first := examine(`{"sql":"SELECT 1"}`)
	require.Equal(t, "given", first.ID)
	require.False(t, first.InvalidID)
	same := examine(`{"id":"own", "sql": "SELECT 1"}`)
	require.Equal(t, "own", same.ID)
	require.Equal(t, first.Hash, same.Hash)
	require.NotEqual(t, first.Hash, examine(`{"sql":"SELECT 2"}`).Hash)
	require.True(t, examine(`{"id":7,"sql":"SELECT 1"}`).InvalidID)
	require.True(t, examine(`{"id":"s1_abc","sql":"SELECT 1"}`).InvalidID)
	broken := examine(`{"id":"own",`)
	require.Equal(t, "own", broken.ID)
	require.False(t, broken.InvalidID)
	require.Empty(t, broken.Hash)
	require.True(t, examine(`{"answer":"reply","reply_to":"_INBOX.x","sql":"SELECT 1"}`).ReplyOnly)
}
