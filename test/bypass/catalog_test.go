package bypass

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"dbrunner/internal/catalog"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jobs"
)

// callCase is a body that asks for more than its statement allows.
type callCase struct {
	Name string `yaml:"name"`
	Why  string `yaml:"why"`
	From string `yaml:"from"`
	Call string `yaml:"call"`
	Kind string `yaml:"kind"` // instead of a call
	Body string `yaml:"body"`
	Code string `yaml:"code"` // of the rejection, where one matters
}

func callCases(t *testing.T) []callCase {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "catalog.yaml"))
	require.NoError(t, err)
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	var out struct {
		Cases []callCase `yaml:"cases"`
	}
	require.NoError(t, decoder.Decode(&out))
	return out.Cases
}

// TestCatalog tries what bodies can ask for beside the parameters of their statement, on all engines' dialects.
func TestCatalog(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"pay.yaml": {Data: []byte(`timeout: 5s
max_affected: 2
params: {from: {schema: {type: integer}}, to: {schema: {type: integer}}, amount: {schema: {type: integer, minimum: 1}, default: 1}}
statements:
  - {sql: "UPDATE purses SET amount = amount - :amount WHERE id = :from", expect_rows: 1}
  - {sql: "UPDATE purses SET amount = amount + :amount WHERE id = :to", expect_rows: 1}
`)},
		"purse.yaml": {Data: []byte("params: {id: {schema: {type: integer}}}\nsql: SELECT amount FROM purses WHERE id = :id\n")},
	}
	for engine, d := range map[string]*dialect.Dialect{"postgres": dialect.Postgres(), "sqlite": dialect.SQLite(), "sqlserver": dialect.SQLServer()} {
		statements, err := catalog.Load(files, "catalog", d)
		require.NoError(t, err)
		decoder := jobs.NewDecoder(jobs.DecoderOptions{
			Namespace: "dbrunner", Dialect: d,
			Policy: &jobs.Policy{Kinds: []string{"call", "health"}, Ledger: true, Timeout: time.Minute, MaxTimeout: 2 * time.Hour, MaxRows: 1000, MaxBytes: 1 << 20, Catalog: statements},
		})
		good, rejected := decoder.Decode(&jobs.Message{Database: "bank", Kind: "call", Name: "pay", Sequence: 1, Timestamp: time.Now(), Body: []byte(`{"params":{"from":7,"to":9}}`)})
		require.Nil(t, rejected)
		require.NotNil(t, good)
		for _, c := range callCases(t) {
			require.NotEmpty(t, c.Why, c.Name)
			require.NotEmpty(t, c.From, c.Name)
			in := &jobs.Message{Database: "bank", Kind: "call", Name: c.Call, Sequence: 1, Timestamp: time.Now(), Body: []byte(c.Body)}
			if c.Kind != "" {
				in.Kind, in.Name = c.Kind, ""
			}
			_, rejected := decoder.Decode(in)
			require.NotNil(t, rejected, "%s %s: %s", engine, c.Name, c.Why)
			if c.Code != "" {
				require.Equal(t, c.Code, string(rejected.Code), "%s %s: %+v", engine, c.Name, rejected.Faults)
			}
		}
	}
}
