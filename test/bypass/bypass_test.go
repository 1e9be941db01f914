package bypass

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/db/sqlserver"
)

func TestMain(m *testing.M) { os.Exit(dbtest.Main(m)) }

const testTimeout = time.Minute

// corpus is a file of cases for one engine.
type corpus struct {
	Setup []string `yaml:"setup"` // statements, each a transaction without limits
	State []string `yaml:"state"` // queries whose answers no case may change
	Cases []attack `yaml:"cases"`
}

// attack is one way around a limit.
type attack struct {
	Name        string           `yaml:"name"`
	Why         string           `yaml:"why"`  // what it relies on, and what stops it
	From        string           `yaml:"from"` // where it was reported
	Query       string           `yaml:"query"`
	Transaction []string         `yaml:"transaction"` // instead of a query: under max_affected
	Limit       int64            `yaml:"limit"`       // max_affected; default 2
	Params      map[string]param `yaml:"params"`
	Unchanged   bool             `yaml:"unchanged"` // it may succeed, but it changes nothing; otherwise it is refused
	Code        string           `yaml:"code"`      // of the refusal, where one matters
}

// param is a parameter: a text, or a value with a type.
type param struct{ Type, Text string }

// UnmarshalYAML reads a text or a mapping of type and value.
func (p *param) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		p.Text = n.Value
		return nil
	}
	var of struct {
		Type  string `yaml:"type"`
		Value string `yaml:"value"`
	}
	if err := n.Decode(&of); err != nil {
		return err
	}
	p.Type, p.Text = of.Type, of.Value
	return nil
}

// readCorpus reads a file strictly: each case has a name of its own, a reason, a source and one thing to try.
func readCorpus(t *testing.T, engine string) *corpus {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", engine+".yaml"))
	require.NoError(t, err)
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	out := &corpus{}
	require.NoError(t, decoder.Decode(out))
	names, texts := map[string]bool{}, map[string]bool{}
	for i := range out.Cases {
		c := &out.Cases[i]
		require.NotEmpty(t, c.Why, c.Name)
		require.NotEmpty(t, c.From, c.Name)
		require.NotEqual(t, c.Query == "", len(c.Transaction) == 0, "%s: a query or a transaction", c.Name)
		require.False(t, names[c.Name], "%s is there twice", c.Name)
		key := fmt.Sprintf("%q %q %q", c.Query, c.Transaction, c.Params)
		require.False(t, texts[key], "%s: %s is there twice", c.Name, key)
		names[c.Name], texts[key] = true, true
	}
	return out
}

// TestEnoughCases holds the number of cases, and that none is there twice.
func TestEnoughCases(t *testing.T) {
	t.Parallel()
	total := 0
	for _, engine := range []string{"postgres", "sqlite", "sqlserver"} {
		n := len(readCorpus(t, engine).Cases)
		t.Log(engine, n)
		total += n
	}
	require.GreaterOrEqual(t, total, 150)
}

// target is a database with the corpus's tables.
type target struct {
	db     db.Database
	corpus *corpus
	folder string // of a database that is a file: no case may leave another file there
}

func open(t *testing.T, engine string, of func(db.Options) (db.Database, error), opts db.Options) *target {
	t.Helper()
	opts.Name, opts.Namespace, opts.Runner, opts.Ledger = "bypass", "dbrunner", "r1", db.LedgerManage
	opts.Pool.Max, opts.Pool.ConnectTimeout = 2, 10*time.Second
	opts.Limits = db.Limits{StatementTimeout: testTimeout, LockTimeout: 5 * time.Second, CountsRows: true}
	d, err := of(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Probe(t.Context()))
	x := &target{db: d, corpus: readCorpus(t, engine)}
	for _, sql := range x.corpus.Setup {
		require.NoError(t, x.transact(t, 0, &dialect.Compiled{SQL: sql}), sql)
	}
	return x
}

func call() db.Call { return db.Call{Label: "bypass", Timeout: testTimeout} }

func (x *target) transact(t *testing.T, limit int64, statements ...*dialect.Compiled) error {
	t.Helper()
	tx := &db.Transaction{Statements: statements, Expect: make([]*db.Range, len(statements)), MaxAffected: limit}
	_, err := x.db.Transact(context.WithoutCancel(t.Context()), call(), tx, db.RowOptions{Format: db.Arrays}, nil)
	return err
}

// state is what the state queries answer, and the files.
func (x *target) state(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, sql := range x.corpus.State {
		set, err := x.db.Read(t.Context(), call(), &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Arrays})
		require.NoError(t, err, sql)
		out = append(out, sql+": "+string(set.Rows))
		set.Free()
	}
	if x.folder != "" {
		files, err := filepath.Glob(filepath.Join(x.folder, "*"))
		require.NoError(t, err)
		files = slices.DeleteFunc(files, func(f string) bool { return strings.HasSuffix(f, "-wal") || strings.HasSuffix(f, "-shm") })
		out = append(out, strings.Join(files, " "))
	}
	return out
}

// read does what a runner does with a job before it reaches the server. An error is what its text or its parameters are refused for.
func (c *attack) read(d *dialect.Dialect) (compiled []*dialect.Compiled, code string, err error) {
	var params dialect.Params
	for name, p := range c.Params {
		if params.Named == nil {
			params.Named = map[string]dialect.Value{}
		}
		params.Named[name] = dialect.Value{Kind: dialect.String, Type: p.Type, Text: p.Text}
	}
	texts := c.Transaction
	if c.Query != "" {
		texts = []string{c.Query}
		if faults := dialect.CheckReadOnly(d, c.Query); len(faults) > 0 {
			return nil, string(faults[0].Code), fmt.Errorf("%s: %s", faults[0].Code, faults[0].Message)
		}
	}
	for _, text := range texts {
		one, faults := dialect.Compile(d, dialect.Statement{SQL: text, Params: params})
		if len(faults) > 0 {
			return nil, string(faults[0].Code), fmt.Errorf("%s: %s", faults[0].Code, faults[0].Message)
		}
		compiled = append(compiled, one)
	}
	return compiled, "", nil
}

// try does what a runner does with a job: it reads the text, then runs it.
func (x *target) try(t *testing.T, c *attack) (code string, err error) {
	t.Helper()
	compiled, code, err := c.read(x.db.Dialect())
	if err != nil {
		return code, err
	}
	if c.Query != "" {
		set, err := x.db.Read(t.Context(), call(), compiled[0], db.RowOptions{Format: db.Arrays})
		set.Free()
		return codeOf(err), err
	}
	err = x.transact(t, max(c.Limit, 2), compiled...)
	return codeOf(err), err
}

func codeOf(err error) string {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return string(e.Code)
	}
	return ""
}

// run tries all cases, one after the other on the same sessions: what one of them leaves is found by the next look at the state.
func (x *target) run(t *testing.T) {
	t.Helper()
	before := x.state(t)
	for i := range x.corpus.Cases {
		c := &x.corpus.Cases[i]
		t.Run(c.Name, func(t *testing.T) {
			code, err := x.try(t, c)
			t.Log(code, err)
			require.Equal(t, before, x.state(t), "it got through: %s", c.Why)
			if !c.Unchanged {
				require.Error(t, err, "it was not refused: %s", c.Why)
				require.Equal(t, db.ClassPermanent, classOf(err), "%v", err)
			}
			if c.Code != "" {
				require.Equal(t, c.Code, code, "%v", err)
			}
		})
	}
}

func classOf(err error) db.Class {
	if e, ok := errors.AsType[*db.Error](err); ok {
		return e.Class
	}
	return db.ClassPermanent // a fault of the text
}

// documented is the statement of docs/safe-sql.md that takes functions from all logins.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "safe-sql.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(string(page), "```sql\nREVOKE")
	require.True(t, found)
	text, _, found = strings.Cut(text, ";\n```")
	require.True(t, found)
	return "REVOKE" + text
}

// TestPostgres tries the corpus as a login that owns all tables and is no superuser: the most that runners should log in as.
func TestPostgres(t *testing.T) {
	t.Parallel()
	admin := dbtest.Postgres(t)
	u, err := url.Parse(admin)
	require.NoError(t, err)
	role := "bypass_" + strings.ToLower(rand.Text())
	a, err := postgres.Open(db.Options{Name: "admin", Namespace: "dbrunner", Runner: "a", ConnectionString: admin, Pool: db.PoolOptions{Max: 1, ConnectTimeout: 10 * time.Second}, Limits: db.Limits{StatementTimeout: testTimeout, LockTimeout: testTimeout}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, a.Close()) })
	privileged := &target{db: a}
	for _, sql := range []string{
		"CREATE ROLE " + role + " LOGIN PASSWORD 'x'", "GRANT ALL ON DATABASE " + strings.TrimPrefix(u.Path, "/") + " TO " + role, "GRANT ALL ON SCHEMA public TO " + role,
		documented(t),
	} {
		require.NoError(t, privileged.transact(t, 0, &dialect.Compiled{SQL: sql}), sql)
	}
	t.Cleanup(func() {
		for _, sql := range []string{"REASSIGN OWNED BY " + role + " TO CURRENT_USER", "DROP OWNED BY " + role + " CASCADE", "DROP ROLE " + role} {
			require.NoError(t, privileged.transact(t, 0, &dialect.Compiled{SQL: sql}), sql)
		}
	})
	u.User = url.UserPassword(role, "x")
	open(t, "postgres", postgres.Open, db.Options{ConnectionString: u.String()}).run(t)
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	x := open(t, "sqlite", sqlite.Open, db.Options{ConnectionString: filepath.Join(folder, "bypass.db")})
	x.folder = folder
	x.run(t)
}

func TestSQLServer(t *testing.T) {
	t.Parallel()
	opts := db.Options{
		ConnectionString: dbtest.SQLServer(t),
		Settings:         map[string]string{"allow_unencrypted": "true", "allow_unverified_certificate": "true"},
	}
	open(t, "sqlserver", sqlserver.Open, opts).run(t)
}

// TestTextsOfSQLServer holds what a text alone is refused for, without a server: on SQL Server, which has no READ ONLY transaction, that is what keeps
// a query from writing. What only a server decides is left to TestSQLServer.
func TestTextsOfSQLServer(t *testing.T) {
	t.Parallel()
	d := sqlserver.Dialect()
	refused := 0
	for _, c := range readCorpus(t, "sqlserver").Cases {
		compiled, code, err := c.read(d)
		for _, one := range compiled {
			if len(c.Transaction) > 0 && err == nil && dialect.NotCountable(d, one.SQL) != "" {
				code, err = string(contract.CodeNotCountable), errors.New("not countable")
			}
		}
		switch contract.Code(c.Code) {
		case contract.CodeReadOnly, contract.CodeMultipleStatements, contract.CodeTransactionControl, contract.CodeForbiddenStatement, contract.CodeNotCountable:
			require.Error(t, err, "%s: %s", c.Name, c.Why)
			require.Equal(t, c.Code, code, c.Name)
		default:
			require.False(t, err != nil && c.Unchanged, "%s is harmless: %v", c.Name, err)
		}
		if err != nil {
			refused++
		}
	}
	t.Log(refused, "are refused by their text")
	require.Greater(t, refused, 40)
}
