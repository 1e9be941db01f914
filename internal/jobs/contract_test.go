package jobs

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"dbrunner/internal/catalog"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// testDialect reads SQL as PostgreSQL does.
func testDialect() *dialect.Dialect {
	words := func(list ...string) map[string]bool {
		m := map[string]bool{}
		for _, w := range list {
			m[w] = true
		}
		return m
	}
	return &dialect.Dialect{
		DollarQuotes: true, EscapeStrings: true, NestedComments: true, MaxParams: 65535,
		Placeholder: func(dst []byte, n int) []byte {
			return strconv.AppendInt(append(dst, '$'), int64(n), 10)
		},
		ReadOnlyFirst:   words("SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN"),
		TransactionVerb: words("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT"),
		ForbiddenFirst:  words("LISTEN", "PREPARE"),
		Snapshot:        true,
		Cache:           dialect.NewCache(1 << 20),
	}
}

func testPolicy() *Policy {
	return &Policy{
		Kinds: Kinds(), Catalog: testCatalog(),
		Ledger: true, SharedCommits: true, Timeout: 10 * time.Second, MaxTimeout: time.Minute, MaxRows: 1000, MaxBytes: 1 << 20,
		ReplyTo: []string{"flows.answers."}, MaxDeliveries: 20,
	}
}

// testCatalog has the call of the golden messages.
func testCatalog() *catalog.Catalog {
	c, err := catalog.Load(fstest.MapFS{"pay.yaml": {Data: []byte(`params:
  from: {type: integer, schema: {type: integer}}
  to: {type: integer, schema: {type: integer}}
  amount: {type: "numeric(12,2)", schema: {type: string}}
  note: {default: null}
isolation: serializable
max_rows: 100
timeout: 20s
statements:
  - {sql: "UPDATE accounts SET balance = balance - :amount WHERE id = :from", expect_rows: 1}
  - {sql: "UPDATE accounts SET balance = balance + :amount, note = :note WHERE id = :to RETURNING id, name", expect_rows: {min: 1}}
`)}}, "catalog/shop", testDialect())
	if err != nil {
		panic(err)
	}
	return c
}

func testDecoder(change ...func(*DecoderOptions)) *Decoder {
	opts := DecoderOptions{Namespace: "dbrunner", Policy: testPolicy(), Dialect: testDialect(), MaxBody: 1 << 20}
	for _, c := range change {
		c(&opts)
	}
	return NewDecoder(opts)
}

// testTime is when the stream took the messages of the tests.
var testTime = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func message(kind, body string) *Message {
	kind, name, _ := strings.Cut(kind, ".")
	in := &Message{Database: "shop", Kind: kind, Name: name, Sequence: 42, Timestamp: testTime, Body: []byte(body)}
	if kind == "call" {
		in.Name = "pay"
	}
	return in
}

const testDerivedID = "s42_dgrfgbv552j9"

// answering is a database that gives every call the answer that the test wants.
type answering struct {
	db.Database
	sets []db.ResultSet
	err  error
}

func (*answering) Engine() string { return "postgres" }

func (*answering) Dialect() *dialect.Dialect { return testDialect() }

func (a *answering) Read(context.Context, db.Call, *dialect.Compiled, db.RowOptions) (db.ResultSet, error) {
	if a.err != nil {
		return db.ResultSet{}, a.err
	}
	return a.sets[0], nil
}

func (a *answering) Execute(context.Context, db.Call, *dialect.Compiled, db.RowOptions, *db.Once) (db.ResultSet, error) {
	if a.err != nil {
		return db.ResultSet{}, a.err
	}
	return a.sets[0], nil
}

func (a *answering) Transact(
	ctx context.Context, _ db.Call, tx *db.Transaction, _ db.RowOptions, seal db.BeforeCommit,
) ([]db.ResultSet, error) {
	if a.err != nil {
		return nil, a.err
	}
	sets := a.sets[:len(tx.Statements)]
	if seal != nil {
		if _, err := seal(ctx, sets); err != nil {
			return nil, err
		}
	}
	return sets, nil
}

func mustDecode(t testing.TB, d *Decoder, in *Message) *Job {
	t.Helper()
	job, rejection := d.Decode(in)
	if rejection != nil {
		t.Fatalf("rejected: %+v", rejection)
	}
	return job
}
