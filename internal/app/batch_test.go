package app_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/rowfile"
)

// put publishes an object with parameters, as any client does, and returns a reference to it.
func (w *world) put(name, compression, content string) string {
	w.t.Helper()
	bucket, err := w.js.ObjectStore(w.t.Context(), "DBRUNNER_PARAMS")
	require.NoError(w.t, err)
	data := []byte(content)
	if compression == rowfile.Gzip {
		var packed bytes.Buffer
		z := gzip.NewWriter(&packed)
		_, err := z.Write(data)
		require.NoError(w.t, err)
		require.NoError(w.t, z.Close())
		data = packed.Bytes()
	}
	info, err := bucket.PutBytes(w.t.Context(), name, data)
	require.NoError(w.t, err)
	return fmt.Sprintf(`{"name":%q,"digest":%q,"compression":%q}`, name, info.Digest, compression)
}

func TestManyRowsInOneJob(t *testing.T) {
	t.Parallel()
	const many = 100_000
	var lines strings.Builder
	for i := range many {
		_, _ = fmt.Fprintf(&lines, `{"id":%d,"name":"name %d","amount":null}`+"\n", i+10, i)
	}
	for name, database := range engines() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.start(w.config("r1", database(t)))
			w.do("shop", "transaction", "create", `"statements":[{"sql":"CREATE TABLE copies (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount INTEGER)"}]`)
			insert := `"sql":"INSERT INTO copies (id, name, amount) VALUES (:id, :name, :amount)"`
			list := `"sql":"INSERT INTO copies (id, name) VALUES ($1, $2)"`
			counts := 0
			counted := func() any {
				counts++
				return w.do("shop", "query", fmt.Sprintf("count%d", counts), `"sql":"SELECT CAST(count(*) AS INTEGER) AS n FROM copies","row_format":"arrays"`).Rows.([]any)[0].([]any)[0]
			}

			few := w.do("shop", "transaction", "few", `"statements":[{`+list+`,"batch":[[1,"a"],[2,"b"],[3,"c"]],"expect_rows":3}]`)
			require.Equal(t, "succeeded", few.Status, "%+v", few.Error)
			require.Equal(t, 3, few.Sets[0].RowsAffected)
			for _, compression := range []string{"none", "gzip"} {
				ref := w.put("load-"+compression+".ndjson", compression, lines.String())
				body := `"timeout":"5m","statements":[{"sql":"DELETE FROM copies WHERE id >= 10"},{` + insert + `,"params_from":` + ref + `,"expect_rows":` + fmt.Sprint(many) + `}]`
				done := w.do("shop", "transaction", "load-"+compression, body)
				require.Equal(t, "succeeded", done.Status, "%+v", done.Error)
				require.Equal(t, many, done.Sets[1].RowsAffected)
				require.EqualValues(t, many+3, counted())
			}

			for id, c := range map[string]struct{ from, code string }{
				"poison":  {w.put("poison", "none", `{"id":5,"name":"x","amount":1}`+"\n"+`{"id":5,"name":"canary","amount":1}`), "unique_violation"},
				"invalid": {w.put("invalid", "none", `{"id":5,"name":"x","amount":1}`+"\n\n"+`{"id":6,"nome":"canary"}`), "params_invalid"},
				"nojson":  {w.put("nojson", "none", `canary`), "params_invalid"},
				"packed":  {w.put("packed", "none", `[1]`)[:len(w.put("packed", "none", `[1]`))-len(`"none"}`)] + `"zstd"}`, "params_invalid"},
				"missing": {strings.Replace(w.put("missing", "none", "[]"), `"missing"`, `"gone"`, 1), "params_not_found"},
				"digest":  {`{"name":"poison","digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}`, "params_digest"},
			} {
				done := w.do("shop", "transaction", id, `"statements":[{`+insert+`,"params_from":`+c.from+`}]`)
				require.Equal(t, "failed", done.Status, id)
				require.Equal(t, c.code, done.Error.Code, id)
				require.NotContains(t, string(w.stored("shop", id)), "canary", id)
			}
			require.EqualValues(t, many+3, counted(), "nothing of those that failed")
			for id, statement := range map[string]string{
				"both":   list + `,"batch":[[1]],"params":[1]`,
				"empty":  list + `,"batch":[]`,
				"nolist": list + `,"batch":{"a":1}`,
				"gap":    list + `,"batch":[[7,"x"],[8]]`,
				"escape": insert + `,"params_from":{"name":"../x","digest":"SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="}`,
				"short":  insert + `,"params_from":{"name":"x","digest":"abc"}`,
			} {
				require.Equal(t, "rejected", w.do("shop", "transaction", id, `"statements":[{`+statement+`}]`).Status, id)
			}
			returning := w.do("shop", "transaction", "returning", `"statements":[{"sql":"INSERT INTO copies (id, name) VALUES ($1, $2) RETURNING id","batch":[[7,"x"]]}]`)
			require.Equal(t, "not_supported", returning.Error.Code)
		})
	}
}
