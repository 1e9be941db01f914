package jobs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/jsontext"
)

func addBodies(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.job.json"))
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(body), "h1")
	}
	for _, body := range []string{
		``, `{}`, `{"id":"a","sql":"SELECT 1"}`, `{"sql":"\ud83d\ude00\u0000"}`, `{"id":"a","id":"b"}`, "\xEF\xBB\xBF{}",
		`{"sql":"SELECT :a","params":{"a":{"type":"json","value":{"x":[1,2,{"y":null}]}}}}`, `{"a":01}`, `[[[[`,
		`{"statements":[{"sql":"DELETE FROM a","expect_rows":{"min":1,"max":2}}],"isolation":"serializable"}`,
		`{"expires_at":"2026-03-01T12:00:00Z","timeout":"1s","labels":{"a":"b"},"max_rows":1e3}`,
	} {
		f.Add(body, "")
	}
}

// FuzzDecode: decoding never panics, gives a job or at least one fault, agrees with Scan, and takes for JSON just what
// the standard library does, less what is refused on purpose.
func FuzzDecode(f *testing.F) {
	addBodies(f)
	d := testDecoder()
	f.Fuzz(func(t *testing.T, body, header string) {
		for _, kind := range Kinds() {
			in := message(kind, body)
			in.Headers = map[string][]string{contract.HeaderMessageID: {header}}
			job, rejection := d.Decode(in)
			require.Equal(t, d.Scan(in), identityOf(job, rejection))
			if rejection != nil {
				require.NotEmpty(t, rejection.Faults)
				require.True(t, json.Valid(contract.AppendFaults(nil, rejection.Faults)))
				continue
			}
			require.True(t, json.Valid(in.Body))
			checkStandard(t, job, body)
		}
		checkLexer(t, []byte(body))
	})
}

// checkStandard compares an accepted job with what the standard library reads.
func checkStandard(t *testing.T, job *Job, body string) {
	t.Helper()
	var top struct {
		ID     *string           `json:"id"`
		SQL    string            `json:"sql"`
		Labels map[string]string `json:"labels"`
	}
	require.NoError(t, json.Unmarshal([]byte(body), &top))
	if top.ID != nil {
		require.Equal(t, *top.ID, job.ID)
	}
	if q, ok := job.work.(*query); ok {
		require.Equal(t, top.SQL, q.source.SQL)
	}
	require.Len(t, job.Labels, len(top.Labels))
	for name, value := range top.Labels {
		require.Equal(t, value, job.Labels[name])
	}
}

// checkLexer compares what is taken for JSON with the standard library.
func checkLexer(t *testing.T, body []byte) {
	t.Helper()
	var mine jsontext.Tape
	fault := mine.Read(body, maxDepth, maxValues)
	if fault == nil {
		require.True(t, json.Valid(body), "%q", body)
		for at := range mine.Size() {
			_ = mine.Path(at)
		}
		return
	}
	require.LessOrEqual(t, fault.Offset, len(body))
	_ = mine.Path(mine.Stopped())
	refused := !utf8.Valid(body) || bytes.Contains(body, []byte(`\u0000`)) || fault.Problem != jsontext.Invalid ||
		bytes.ContainsAny(body, `\`) && strings.Contains(fault.Message, "surrogate")
	if !refused {
		require.False(t, json.Valid(body), "%q: %s", body, fault.Message)
	}
}

// FuzzScan: scanning never panics and its id can always be a token of a subject.
func FuzzScan(f *testing.F) {
	addBodies(f)
	d := testDecoder()
	f.Fuzz(func(t *testing.T, body, header string) {
		in := message("transaction", body)
		in.Headers = map[string][]string{contract.HeaderMessageID: {header}}
		s := d.Scan(in)
		require.Equal(t, s.DerivedID, !contract.ValidID(s.ID))
		require.Equal(t, s.DerivedID, contract.IsDerivedID(s.ID))
		if s.ReplyTo != "" {
			require.NoError(t, contract.ValidReply("dbrunner", "shop", s.ReplyTo, testPolicy().ReplyTo))
		}
		require.Contains(t, []contract.Effect{"", contract.ExactlyOnce, contract.AtLeastOnce}, s.Effect)
		require.Equal(t, s, identityOf(d.Decode(in)))
	})
}

// FuzzReadResult: reading and marking a result never panics; what is marked reads the same but for the mark.
func FuzzReadResult(f *testing.F) {
	files, err := filepath.Glob(filepath.Join("testdata", "golden", "*.result.json"))
	require.NoError(f, err)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(body)
	}
	f.Add([]byte(`{"duplicate":true}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		head, err := contract.ReadHead(body)
		if err != nil {
			return
		}
		require.True(t, json.Valid(body) || !utf8.Valid(body), "%q", body)
		marked := contract.MarkDuplicate(body)
		again, err := contract.ReadHead(marked)
		require.NoError(t, err, "%q", marked)
		require.True(t, again.Duplicate)
		head.Duplicate = true
		require.Equal(t, head, again)
		require.Equal(t, marked, contract.MarkDuplicate(marked))
	})
}
