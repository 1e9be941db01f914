package jobs

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

// benchBodies are jobs as publishers send them, by their size.
func benchBodies(b *testing.B) map[string]*Message {
	b.Helper()
	large, err := os.ReadFile(filepath.Join("testdata", "golden", "query.job.json"))
	require.NoError(b, err)
	list := strings.Repeat(`"some text of a parameter",`, 9_999) + `"last"`
	return map[string]*Message{
		"small": message("query", `{"id":"a1-0001","sql":"SELECT id, name FROM people WHERE id = :id","params":{"id":42}}`),
		"transaction": message("transaction",
			`{"id":"t-1","statements":[{"sql":"UPDATE a SET b = b - :n WHERE id = :id","params":{"id":1,"n":"12.50"},"expect_rows":1},`+
				`{"sql":"UPDATE a SET b = b + :n WHERE id = :id","params":{"id":2,"n":"12.50"},"expect_rows":1}]}`),
		"all keys": message("query", string(large)),
		"300 KB":   message("query", `{"sql":"SELECT :list","params":{"list":{"type":"text[]","value":[`+list+`]}}}`),
	}
}

func BenchmarkDecode(b *testing.B) {
	d := testDecoder()
	for name, in := range benchBodies(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in.Body)))
			for b.Loop() {
				if _, rejection := d.Decode(in); rejection != nil {
					b.Fatal(rejection)
				}
			}
		})
	}
}

// BenchmarkDecodeStandard is the standard library on the same bodies: reflection, unknown keys refused, no look at
// repeated or wrongly cased keys, no compiled statement, no hash.
func BenchmarkDecodeStandard(b *testing.B) {
	type stmt struct {
		SQL        string          `json:"sql"`
		Params     map[string]any  `json:"params"`
		ExpectRows json.RawMessage `json:"expect_rows"`
	}
	type body struct {
		stmt
		Version    int               `json:"version"`
		ID         string            `json:"id"`
		ReplyTo    string            `json:"reply_to"`
		Timeout    string            `json:"timeout"`
		ExpiresAt  time.Time         `json:"expires_at"`
		Effect     string            `json:"effect"`
		RowFormat  string            `json:"row_format"`
		MaxRows    int64             `json:"max_rows"`
		Answer     string            `json:"answer"`
		Labels     map[string]string `json:"labels"`
		Statements []stmt            `json:"statements"`
	}
	for name, in := range benchBodies(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in.Body)))
			for b.Loop() {
				decoder := json.NewDecoder(bytes.NewReader(in.Body))
				decoder.DisallowUnknownFields()
				decoder.UseNumber()
				var to body
				if err := decoder.Decode(&to); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	d := testDecoder()
	for name, in := range benchBodies(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(in.Body)))
			for b.Loop() {
				d.Scan(in)
			}
		})
	}
}

func BenchmarkHash(b *testing.B) {
	d := testDecoder()
	for name, in := range benchBodies(b) {
		job := mustDecode(b, d, in)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var scratch []byte
			for b.Loop() {
				_, scratch = requestHash(scratch, job)
			}
		})
	}
}

func BenchmarkResult(b *testing.B) {
	set := db.ResultSet{
		Columns: []contract.Column{{Name: "id", Type: "int8"}, {Name: "name", Type: "text"}},
		Rows:    []byte(`[{"id":"42","name":"Ann"}]`), RowCount: 1,
	}
	x := &Execution{Database: &answering{}}
	r := contract.Result{
		JobID: "a1-0001", Kind: "query", Database: "shop", Effect: contract.ReadOnly, Status: contract.Succeeded, Hash: make([]byte, 32),
		Sequence: 12345, Deliveries: 1, Attempts: 1, Runner: "runner-1", QueuedAt: testTime, StartedAt: testTime,
		FinishedAt: testTime, Answer: x.answerOf(contract.Answer{Set: rowsOf(&set)}, 0, nil).Answer,
	}
	body := r.Append(nil)
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			body = r.Append(body[:0])
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := contract.ReadHead(body); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mark", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			contract.MarkDuplicate(body)
		}
	})
}
