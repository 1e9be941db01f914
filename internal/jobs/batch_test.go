package jobs

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bulk"
)

// The hash of a batch depends on what a request asks for, not on how it is written.
func TestHashOfBatches(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	hash := func(statement string) string {
		return string(mustDecode(t, d, message("transaction", `{"id":"a","statements":[{"sql":"INSERT INTO t VALUES ($1, $2)",`+statement+`}]}`)).Hash)
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

// A digest is taken in every form in which the usual tools print one, and is the same request in all of them.
func TestDigestForms(t *testing.T) {
	t.Parallel()
	const hexadecimal = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	const canonical = "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="
	d := testDecoder()
	body := func(digest string) string {
		return `{"id":"a","statements":[{"sql":"INSERT INTO t VALUES ($1, $2)","params_from":{"name":"x","digest":"` + digest + `"}}]}`
	}
	want := mustDecode(t, d, message("transaction", body(canonical))).Hash
	for _, digest := range []string{
		hexadecimal, strings.ToUpper(hexadecimal), "SHA-256=" + hexadecimal, "SHA-256 " + hexadecimal, "SHA-256: " + hexadecimal,
		"sha-256=" + hexadecimal, "sha256:" + hexadecimal, "SHA-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"SHA-256 47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=",
	} {
		require.Equal(t, canonical, bulk.CanonicalDigest(digest), digest)
		require.Equal(t, want, mustDecode(t, d, message("transaction", body(digest))).Hash, digest)
	}
	for _, digest := range []string{
		"", "SHA-256=", hexadecimal[1:], hexadecimal + "0", "SHA-256=" + hexadecimal[2:], "g" + hexadecimal[1:], " " + hexadecimal,
		"47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=", "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFV=",
		"SHA-512=" + hexadecimal, "SHA-256" + hexadecimal, "SHA-256=" + hexadecimal + " ",
	} {
		require.Empty(t, bulk.CanonicalDigest(digest), digest)
	}
}

func TestNameOfParameters(t *testing.T) {
	t.Parallel()
	d := testDecoder()
	body := func(name string) string {
		return `{"id":"a","statements":[{"sql":"INSERT INTO t VALUES ($1)","params_from":{"name":"` + name + `","digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}}]}`
	}
	for _, name := range []string{"x", "=a.b_C-9", strings.Repeat("x", 200)} {
		mustDecode(t, d, message("transaction", body(name)))
	}
	for _, name := range []string{"", ".x", "a..b", "a/b", "a b", "é", strings.Repeat("x", 201)} {
		_, rejection := d.Decode(message("transaction", body(name)))
		require.NotNil(t, rejection, name)
		require.Contains(t, rejection.Faults[0].Message, "must be the name of an object: 1 to 200 of", name)
	}
}
