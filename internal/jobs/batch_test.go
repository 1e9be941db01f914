package jobs

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The hash of a batch tells requests apart by what they ask for, not by how they are written.
func TestHashOfBatches(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	hash := func(statement string) string {
		return string(mustDecode(t, d, delivery("transaction", `{"id":"a","statements":[{"sql":"INSERT INTO t VALUES ($1, $2)",`+statement+`}]}`)).Hash)
	}
	const digest = `"digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="`
	require.Equal(t, hash(`"batch":[[1,"a"],[2,"b"]]`), hash(`"batch": [ [1, "\u0061"], [2,"b"] ]`))
	require.Equal(t, hash(`"params_from":{"name":"x",`+digest+`}`), hash(`"params_from":{`+digest+`,"compression":"none","name":"x"}`))
	seen := map[string]string{}
	for _, s := range []string{
		`"batch":[[1,"a"],[2,"b"]]`, `"batch":[[2,"b"],[1,"a"]]`, `"batch":[[1,"a"]]`, `"params":[1,"a"]`, `"batch":[[1,"a"],[2,2]]`,
		`"params_from":{"name":"x",` + digest + `}`, `"params_from":{"name":"y",` + digest + `}`, `"params_from":{"name":"x","compression":"gzip",` + digest + `}`,
	} {
		h := hash(s)
		require.Empty(t, seen[h], "%s and %s", s, seen[h])
		seen[h] = s
	}
}
