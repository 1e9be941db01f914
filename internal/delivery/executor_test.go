package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
)

// stage is a small world around an executor: a real SQLite database, and stored results with a first writer each.
type stage struct {
	t        *testing.T
	database db.Database
	faults   *faulty
	executor *delivery.Executor
	policy   jobs.Policy

	mu          sync.Mutex
	results     map[string][]byte
	replies     [][]byte
	deadLetters []*delivery.DeadLetter
	lookups     int   // calls of HasResult
	lagging     bool  // HasResult does not see anything
	blind       error // of HasResult
}

func setup(t *testing.T) *stage {
	t.Helper()
	database, err := sqlite.Open(db.Options{
		Name: "shop", Namespace: "dbrunner", Runner: "r1", Ledger: db.LedgerManage,
		ConnectionString: filepath.Join(t.TempDir(), "shop.db"),
		Pool:             db.PoolOptions{Min: 1, Max: 4},
		Limits:           db.Limits{StatementTimeout: 10 * time.Second, LockTimeout: 5 * time.Second},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	require.NoError(t, database.Probe(t.Context()))
	s := &stage{t: t, database: database, faults: &faulty{Database: database}, results: map[string][]byte{}}
	s.policy = jobs.Policy{
		Ledger: true, Timeout: 10 * time.Second, MaxTimeout: time.Minute, MaxRows: 1000, MaxBytes: 1 << 20,
		DeadLetters: contract.DeadLetterReasons(), MaxDeliveries: 20,
		Retry: jobs.RetryPolicy{Attempts: 4, Delay: time.Millisecond, MaxDelay: 5 * time.Millisecond},
	}
	s.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r1", Database: s.faults, Policy: &s.policy, Results: s,
		MaxBody: 1 << 20, MaxResult: 1 << 20,
	})
	require.NoError(t, err)
	s.mustDo("setup-table", `CREATE TABLE effects (name TEXT PRIMARY KEY, n INTEGER NOT NULL DEFAULT 0)`)
	return s
}

// StoredResult implements jobs.ResultReader.
func (s *stage) StoredResult(_ context.Context, id string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.results[id], nil
}

// HasResult implements jobs.ResultReader.
func (s *stage) HasResult(_ context.Context, id string) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lookups++
	return s.results[id] != nil && !s.lagging, s.blind
}

func (s *stage) store(id string, body []byte) (existing []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have, ok := s.results[id]; ok {
		return have
	}
	s.results[id] = body
	return nil
}

// settle does what a worker does with an outcome.
func (s *stage) settle(d *delivery.Delivery, out delivery.Outcome) {
	s.t.Helper()
	require.Equal(s.t, delivery.Settle, out.Action, "reason: %v", out.Reason)
	for out.Store != nil {
		existing := s.store(out.Store.Key, out.Store.Body)
		if existing == nil {
			break
		}
		next := s.executor.Taken(s.t.Context(), d, out, existing)
		if next.Store != nil {
			require.NotEqual(s.t, out.Store.Key, next.Store.Key, "a taken subject is not tried again")
		}
		out = next
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if out.Reply != nil {
		s.replies = append(s.replies, out.Reply.Body)
	}
	if out.DeadLetter != nil {
		s.deadLetters = append(s.deadLetters, out.DeadLetter)
	}
}

// deliver makes a delivery of a message; redelivered: it is not the first one.
func deliver(kind, body string, sequence, number uint64) *delivery.Delivery {
	return &delivery.Delivery{
		Message: jobs.Message{
			Database: "shop", Kind: kind, Sequence: sequence, Timestamp: time.Unix(1_800_000_000, int64(sequence)).UTC(), Body: []byte(body),
		},
		Deliveries: number, MaybeRedelivered: number > 1,
	}
}

func (s *stage) run(d *delivery.Delivery) delivery.Outcome {
	return s.executor.Run(s.t.Context(), d, nil)
}

func (s *stage) mustDo(id, sql string) {
	s.t.Helper()
	d := deliver("transaction", transaction(id, sql), uint64(1_000_000+len(s.results)), 1)
	out := s.run(d)
	require.Equal(s.t, contract.Succeeded, out.Status, "%s", bodyOf(out))
	s.settle(d, out)
}

func bodyOf(out delivery.Outcome) []byte {
	if out.Store == nil {
		return nil
	}
	return out.Store.Body
}

// count reads how many effects of a name are there.
func (s *stage) count(name string) int {
	s.t.Helper()
	stmt, faults := dialect.Compile(s.database.Dialect(), dialect.Statement{SQL: `SELECT count(*) AS n FROM effects WHERE name LIKE '` + name + `%'`})
	require.Empty(s.t, faults)
	set, err := s.database.Read(s.t.Context(), db.Call{Timeout: 5 * time.Second}, stmt, db.RowOptions{Format: db.Arrays})
	require.NoError(s.t, err)
	var rows [][]int
	require.NoError(s.t, json.Unmarshal(set.Rows, &rows))
	return rows[0][0]
}

func transaction(id string, statements ...string) string {
	return job(id, `"statements":[`+quoteAll(statements)+`],"reply_to":"_INBOX.x.y"`)
}

func job(id, rest string) string {
	if id == "" {
		return `{` + rest + `}`
	}
	return fmt.Sprintf(`{"id":%q,%s}`, id, rest)
}

func quoteAll(statements []string) string {
	quoted := make([]string, len(statements))
	for i, s := range statements {
		text, _ := json.Marshal(s)
		quoted[i] = `{"sql":` + string(text) + `}`
	}
	return strings.Join(quoted, ",")
}

func effect(name string) string { return `INSERT INTO effects (name) VALUES ('` + name + `')` }

type reading struct {
	JobID     string `json:"job_id"`
	Status    string
	Duplicate bool
	Attempts  int
	Sequence  uint64
	Error     *struct{ Code, Message string }
}

func read(t *testing.T, body []byte) reading {
	t.Helper()
	require.NotEmpty(t, body)
	var r reading
	require.NoError(t, json.Unmarshal(body, &r), "%s", body)
	return r
}

// faulty is a real database whose calls can be made to fail around their real work.
type faulty struct {
	db.Database
	mu       sync.Mutex
	before   []func() error // next calls of Transact: an error instead of the work
	after    []func() error // next calls of Transact: an error after the work succeeded
	inSeal   func()
	onRead   func() error
	onRecord []func() error
}

func pop(mu *sync.Mutex, list *[]func() error) func() error {
	mu.Lock()
	defer mu.Unlock()
	if len(*list) == 0 {
		return func() error { return nil }
	}
	f := (*list)[0]
	*list = (*list)[1:]
	return f
}

func (f *faulty) Transact(ctx context.Context, call db.Call, tx *db.Transaction, opts db.RowOptions, seal db.BeforeCommit) ([]db.ResultSet, error) {
	if err := pop(&f.mu, &f.before)(); err != nil {
		return nil, err
	}
	inner := seal
	if seal != nil {
		inner = func(ctx context.Context, sets []db.ResultSet) (*db.Entry, error) {
			entry, err := seal(ctx, sets)
			if f.inSeal != nil {
				f.inSeal()
			}
			return entry, err
		}
	}
	sets, err := f.Database.Transact(ctx, call, tx, opts, inner)
	if err != nil {
		return sets, err
	}
	if err := pop(&f.mu, &f.after)(); err != nil {
		return nil, err
	}
	return sets, nil
}

func (f *faulty) Read(ctx context.Context, call db.Call, stmt *dialect.Compiled, opts db.RowOptions) (db.ResultSet, error) {
	if f.onRead != nil {
		if err := f.onRead(); err != nil {
			return db.ResultSet{}, err
		}
	}
	return f.Database.Read(ctx, call, stmt, opts)
}

func (f *faulty) Record(ctx context.Context, entry *db.Entry) (*db.Entry, bool, error) {
	if err := pop(&f.mu, &f.onRecord)(); err != nil {
		return nil, false, err
	}
	return f.Database.Record(ctx, entry)
}

func classed(class db.Class, code contract.Code) func() error {
	return func() error { return &db.Error{Class: class, Code: code, Message: "made by the test", Statement: -1} }
}

func TestSuccessIsStoredAndRecorded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "succeeded", got.Status)
	require.False(t, got.Duplicate)
	require.Equal(t, 1, got.Attempts)
	row, err := s.database.Lookup(t.Context(), "a1")
	require.NoError(t, err)
	require.Equal(t, s.results["a1"], row.Answer, "the ledger keeps the very bytes that were published")
	require.Equal(t, 1, s.count("a"))
	require.Equal(t, s.results["a1"], s.replies[len(s.replies)-1])
	require.Empty(t, s.deadLetters)
}

func TestRedeliveryAfterLostResult(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status) // dies before the result
	again := deliver("transaction", body, 1, 2)
	out := s.run(again)
	require.True(t, out.Recorded)
	require.False(t, out.Duplicate, "it is this message's own end")
	s.settle(again, out)
	got := read(t, s.results["a1"])
	require.Equal(t, "succeeded", got.Status)
	require.True(t, got.Duplicate, "written again from the ledger")
	require.Equal(t, 1, s.count("a"))
}

func TestRedeliveryAfterLostAck(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	first := deliver("transaction", body, 1, 1)
	s.settle(first, s.run(first))
	stored := s.results["a1"]
	again := deliver("transaction", body, 1, 2)
	out := s.run(again)
	require.Nil(t, out.Store, "the result is stored already")
	s.settle(again, out)
	require.Equal(t, stored, s.results["a1"])
	require.True(t, read(t, s.replies[len(s.replies)-1]).Duplicate)
	require.Equal(t, 1, s.count("a"))
}

func TestFirstDeliveryNumberOfARepeatedMessage(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status)
	again := deliver("transaction", body, 1, 1) // a killed server may repeat a number
	s.settle(again, s.run(again))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
	require.Equal(t, 1, s.count("a"))
}

func TestCommitWithoutAnswer(t *testing.T) {
	t.Parallel()
	t.Run("committed", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.faults.after = []func() error{classed(db.ClassUnknown, contract.CodeConnectionLost)}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	})
	t.Run("rolled back", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.faults.before = []func() error{classed(db.ClassUnknown, contract.CodeConnectionLost)}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	})
	t.Run("rolled back each time", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		for range s.policy.Retry.Attempts {
			s.faults.before = append(s.faults.before, classed(db.ClassUnknown, contract.CodeConnectionLost))
		}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		got := read(t, s.results["a1"])
		require.Equal(t, "failed", got.Status)
		require.Contains(t, got.Error.Message, "nothing is committed", "its own ledger row proves it")
		require.Zero(t, s.count("a"))
	})
	t.Run("refused each time", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		for range s.policy.Retry.Attempts {
			s.faults.before = append(s.faults.before, func() error {
				return &db.Error{Class: db.ClassUnknown, Code: contract.CodeResources, Message: "the disk is full", EngineCode: "13", Statement: -1}
			})
		}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.settle(d, s.run(d))
		got := read(t, s.results["a1"])
		require.Equal(t, "failed", got.Status)
		require.EqualValues(t, contract.CodeResources, got.Error.Code)
		require.Equal(t, "COMMIT failed: the disk is full; nothing is committed", got.Error.Message)
		require.Zero(t, s.count("a"))
	})
	t.Run("committed, and the database gone", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		s.faults.after = []func() error{classed(db.ClassUnknown, contract.CodeConnectionLost)}
		d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
		s.faults.before = []func() error{func() error { return nil }, classed(db.ClassUnavailable, contract.CodeUnavailable)}
		require.Equal(t, delivery.AwaitDatabase, s.run(d).Action)
		require.True(t, d.MaybeRedelivered)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Equal(t, 1, s.count("a"))
	})
}

func TestFailureStaysAFailure(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"), `INSERT INTO later (n) VALUES (1)`)
	first := deliver("transaction", body, 1, 1)
	out := s.run(first) // the result and the ack are lost
	require.Equal(t, contract.Failed, out.Status)
	require.NotNil(t, out.DeadLetter)
	s.mustDo("", `CREATE TABLE later (n INTEGER)`) // now it would succeed
	again := deliver("transaction", body, 1, 2)
	s.settle(again, s.run(again))
	require.Equal(t, "failed", read(t, s.results["a1"]).Status)
	require.Zero(t, s.count("a"))
	require.Len(t, s.deadLetters, 1)
	require.Equal(t, "failed", s.deadLetters[0].Reason)
}

func TestFailureWaitsForItsLedgerRow(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.faults.onRecord = []func() error{classed(db.ClassUnavailable, contract.CodeUnavailable)}
	d := deliver("transaction", transaction("a1", `INSERT INTO nowhere VALUES (1)`), 1, 1)
	require.Equal(t, delivery.AwaitDatabase, s.run(d).Action, "never failed on a guess")
	s.settle(d, s.run(d))
	require.Equal(t, "failed", read(t, s.results["a1"]).Status)
}

func TestAnswerThatNoLongerFits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := job("a1", `"statements":[{"sql":"`+effect("a")+`"},{"sql":"SELECT printf('%.*c', 500000, 'x') AS big"}]`)
	require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status) // its result is lost
	small, err := delivery.NewExecutor(delivery.ExecutorOptions{
		Namespace: "dbrunner", Runner: "r2", Database: s.faults, Policy: &s.policy, Results: s, MaxBody: 1 << 20, MaxResult: 300 << 10,
	})
	require.NoError(t, err)
	d := deliver("transaction", body, 1, 2)
	s.settle(d, small.Run(t.Context(), d, nil))
	require.Less(t, len(s.results["a1"]), 300<<10)
	got := read(t, s.results["a1"])
	require.Equal(t, "succeeded", got.Status)
	require.Equal(t, "result_too_large", got.Error.Code)
	require.Equal(t, 1, s.count("a"))
}

// A ledger row that another session keeps locked affects only its job: its database stays open to the others.
func TestLockedLedgerRowDelaysOnlyItsJob(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range s.policy.Retry.Attempts {
		s.faults.onRecord = append(s.faults.onRecord, classed(db.ClassTransient, contract.CodeLockTimeout))
	}
	d := deliver("transaction", transaction("a1", `INSERT INTO nowhere VALUES (1)`), 1, 1)
	out := s.run(d)
	require.Equal(t, delivery.Undecided, out.Action)
	require.Equal(t, db.ClassTransient, db.ClassOf(out.Reason), "why is logged")
	s.settle(d, s.run(d))
	require.Equal(t, "failed", read(t, s.results["a1"]).Status)
}

func TestReusedID(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		firstKind, first   string
		secondKind, second string
	}{
		"transaction after transaction":    {"transaction", transaction("a1", effect("x")), "transaction", transaction("a1", effect("a"))},
		"transaction after a rejected one": {"transaction", job("a1", `"sequel":1`), "transaction", transaction("a1", effect("a"))},
		"query after transaction":          {"transaction", transaction("a1", effect("x")), "query", job("a1", `"sql":"SELECT 1 AS n","reply_to":"_INBOX.x.y"`)},
		"rejected after transaction":       {"transaction", transaction("a1", effect("x")), "transaction", job("a1", `"sequel":1,"reply_to":"_INBOX.x.y"`)},
		"at_least_once after query": {
			"query", job("a1", `"sql":"SELECT 1 AS n"`),
			"transaction", job("a1", `"effect":"at_least_once","reply_to":"_INBOX.x.y","statements":[{"sql":"`+effect("a")+`"}]`),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			first := deliver(test.firstKind, test.first, 1, 1)
			s.settle(first, s.run(first))
			stored := s.results["a1"]
			s.deadLetters = nil
			for number := uint64(1); number <= 2; number++ { // also when it is delivered again
				second := deliver(test.secondKind, test.second, 2, number)
				s.settle(second, s.run(second))
				if strings.HasPrefix(name, "at_least_once") && number == 2 {
					continue // an earlier delivery could have run: TestOvertaken
				}
				got := read(t, s.replies[len(s.replies)-1])
				require.Equal(t, "job_id_reused", got.Error.Code)
				require.Equal(t, "rejected", got.Status)
				require.NotEmpty(t, s.deadLetters)
				require.Equal(t, "job_id_reused", s.deadLetters[len(s.deadLetters)-1].Reason)
			}
			require.Equal(t, stored, s.results["a1"], "the first result is untouched")
			require.Zero(t, s.count("a"), "nothing takes effect")
		})
	}
}

func TestSameRequestTwice(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	first := deliver("transaction", body, 1, 1)
	s.settle(first, s.run(first))
	stored := s.results["a1"]
	for _, results := range []map[string][]byte{s.results, {}} { // and once more when the result has aged out
		s.results = results
		second := deliver("transaction", body, 2, 1)
		out := s.run(second)
		require.True(t, out.Duplicate)
		require.True(t, out.Recorded, "the repeated effect fails, and its end meets the first one's row")
		s.settle(second, out)
		got := read(t, s.replies[len(s.replies)-1])
		require.Equal(t, "succeeded", got.Status)
		require.True(t, got.Duplicate)
		require.Equal(t, uint64(1), got.Sequence, "it is the first message's answer")
		require.Equal(t, 1, s.count("a"))
	}
	require.Equal(t, contract.MarkDuplicate(stored), s.results["a1"])
	require.Empty(t, s.deadLetters)
}

func TestResultIDTakenBetweenLookAndCommit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	var other []byte
	s.faults.inSeal = func() { // a read of the same id stores its result now
		d := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 7, 1)
		s.settle(d, s.run(d))
		other = s.results["a1"]
	}
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	s.settle(d, s.run(d))
	s.faults.inSeal = nil
	derived := contract.DerivedID(d.Sequence, d.Timestamp)
	require.Equal(t, other, s.results["a1"])
	got := read(t, s.results[derived])
	require.Equal(t, "succeeded", got.Status)
	require.Equal(t, "result_id_taken", got.Error.Code)
	require.Contains(t, got.Error.Message, derived)
	require.Equal(t, "result_id_taken", s.deadLetters[0].Reason)
	require.Equal(t, derived, s.deadLetters[0].ResultID)

	again := deliver("transaction", transaction("a1", effect("a")), 1, 2)
	s.settle(again, s.run(again))
	require.Equal(t, 1, s.count("a"))
	require.Equal(t, other, s.results["a1"])
}

// TestLedgerAloneDecidesAboutExactlyOnce: a job without a ledger row has left its result under the id. The stored results
// are not asked before COMMIT, and a redelivery decides as the first delivery does.
func TestLedgerAloneDecidesAboutExactlyOnce(t *testing.T) {
	t.Parallel()
	reading := job("a1", `"sql":"SELECT 1 AS n"`)
	for name, first := range map[string]struct{ kind, body string }{
		"after a read":          {"query", reading},
		"after at_least_once":   {"transaction", job("a1", `"effect":"at_least_once","statements":[{"sql":"`+effect("x")+`"}]`)},
		"after what nobody can": {"transaction", `{"id":"a1","statements":[],"statements":[]}`},
	} {
		for number := uint64(1); number <= 2; number++ {
			t.Run(fmt.Sprintf("%s, delivery %d", name, number), func(t *testing.T) {
				t.Parallel()
				s := setup(t)
				d := deliver(first.kind, first.body, 1, 1)
				s.settle(d, s.run(d))
				other := s.results["a1"]
				require.NotNil(t, other)
				s.lookups, s.deadLetters = 0, nil
				d = deliver("transaction", transaction("a1", effect("a")), 2, number)
				s.settle(d, s.run(d))
				require.Zero(t, s.lookups)
				require.Equal(t, other, s.results["a1"])
				derived := contract.DerivedID(d.Sequence, d.Timestamp)
				require.Equal(t, "succeeded", read(t, s.results[derived]).Status)
				require.Equal(t, contract.ReasonResultIDTaken, s.deadLetters[0].Reason)
				require.Equal(t, derived, s.deadLetters[0].ResultID)

				again := deliver("transaction", transaction("a1", effect("a")), 2, number+1)
				s.settle(again, s.run(again))
				twin := deliver("transaction", transaction("a1", effect("a")), 3, 1)
				s.settle(twin, s.run(twin))
				require.Equal(t, 1, s.count("a"))
				require.Equal(t, other, s.results["a1"])
			})
		}
	}
}

func TestResultIDTakenWhereTheLookLagsBehind(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"at_least_once"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			first := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 1, 1)
			s.settle(first, s.run(first))
			other := s.results["a1"]
			s.lookups, s.lagging = 0, true
			d := deliver("transaction", job("a1", `"effect":"`+kind+`","statements":[{"sql":"`+effect("a")+`"}]`), 2, 1)
			s.settle(d, s.run(d))
			require.Equal(t, 1, s.lookups)
			require.Equal(t, other, s.results["a1"])
			derived := contract.DerivedID(d.Sequence, d.Timestamp)
			require.Equal(t, "succeeded", read(t, s.results[derived]).Status)
			require.Equal(t, contract.ReasonResultIDTaken, s.deadLetters[0].Reason)
			require.Equal(t, derived, s.deadLetters[0].ResultID)
		})
	}
}

func TestLookThatFailsIsMadeAtTheLeader(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"at_least_once"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			first := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 1, 1)
			s.settle(first, s.run(first))
			s.blind = errors.New("no answer")
			body := job("a1", `"effect":"`+kind+`","statements":[{"sql":"`+effect("a")+`"}]`)
			d := deliver("transaction", body, 2, 1)
			s.settle(d, s.run(d))
			require.Equal(t, "job_id_reused", s.deadLetters[0].Reason)
			require.Zero(t, s.count("a"))
		})
	}
}

func TestDoubtIsSettledAtTheLeaderOnly(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"exactly_once", "at_least_once"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			body := job("a1", `"effect":"`+kind+`","statements":[{"sql":"`+effect("a")+`"}]`)
			first := deliver("transaction", body, 1, 1)
			s.settle(first, s.run(first))
			s.lookups, s.lagging = 0, true
			again := deliver("transaction", body, 1, 2)
			out := s.run(again)
			require.Nil(t, out.Store)
			require.True(t, out.Duplicate)
			require.Zero(t, s.lookups)
			require.Equal(t, 1, s.count("a"))
		})
	}
}

func TestTooManyDeliveries(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		kind, body string
		status     string
	}{
		"exactly once":  {"transaction", transaction("a1", effect("a")), "failed"},
		"at least once": {"transaction", job("a1", `"effect":"at_least_once","statements":[{"sql":"SELECT 1"}]`), "unknown"},
		"read":          {"query", job("a1", `"sql":"SELECT 1 AS n"`), "failed"},
		"unreadable":    {"transaction", `{"id":"a1","effect":5,`, "unknown"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := setup(t)
			d := deliver(test.kind, test.body, 1, 21)
			s.settle(d, s.run(d))
			id := "a1"
			if _, ok := s.results[id]; !ok {
				id = contract.DerivedID(d.Sequence, d.Timestamp)
			}
			got := read(t, s.results[id])
			require.Equal(t, test.status, got.Status)
			require.Equal(t, "too_many_deliveries", got.Error.Code)
			require.Equal(t, "too_many_deliveries", s.deadLetters[0].Reason)
			require.Zero(t, s.count("a"))
		})
	}
	t.Run("its effect had happened", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		body := transaction("a1", effect("a"))
		require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status)
		d := deliver("transaction", body, 1, 21)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
		require.Empty(t, s.deadLetters)
	})
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	past := `"expires_at":"2001-01-01T00:00:00Z",`
	t.Run("before it started", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		d := deliver("transaction", job("a1", past+`"statements":[{"sql":"`+effect("a")+`"}]`), 1, 1)
		s.settle(d, s.run(d))
		require.Equal(t, "expired", read(t, s.results["a1"]).Status)
		require.Zero(t, s.count("a"))
	})
	t.Run("after its effect", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		soon := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
		body := job("a1", `"expires_at":"`+soon+`","statements":[{"sql":"`+effect("a")+`"}]`)
		require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status)
		late := strings.Replace(body, soon, "2001-01-01T00:00:00Z", 1)
		d := deliver("transaction", late, 1, 2)
		s.settle(d, s.run(d))
		require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
	})
	t.Run("at_least_once delivered again", func(t *testing.T) {
		t.Parallel()
		s := setup(t)
		d := deliver("transaction", job("a1", past+`"effect":"at_least_once","statements":[{"sql":"SELECT 1"}]`), 1, 2)
		s.settle(d, s.run(d))
		require.Equal(t, "unknown", read(t, s.results["a1"]).Status)
	})
}

func TestRejectedAgainAfterItsEffect(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	require.Equal(t, contract.Succeeded, s.run(deliver("transaction", body, 1, 1)).Status)
	s.policy.Kinds = []string{"query"} // another configuration
	d := deliver("transaction", body, 1, 2)
	s.settle(d, s.run(d))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
}

func TestBeginRefuses(t *testing.T) {
	t.Parallel()
	s := setup(t)
	refuse := errors.New("draining")
	out := s.executor.Run(t.Context(), deliver("transaction", transaction("a1", effect("a")), 1, 1), func() error { return refuse })
	require.Equal(t, delivery.Undecided, out.Action)
	require.False(t, out.Started)
	require.Zero(t, s.count("a"))
	require.Empty(t, s.results["a1"])
}

func TestTransientErrorsAreRepeatedAndBounded(t *testing.T) {
	t.Parallel()
	s := setup(t)
	transient := classed(db.ClassTransient, contract.CodeSerialization)
	s.faults.before = []func() error{transient, transient}
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	s.settle(d, s.run(d))
	require.Equal(t, "succeeded", read(t, s.results["a1"]).Status)
	s.faults.before = []func() error{transient, transient, transient, transient, transient}
	d = deliver("transaction", transaction("a2", effect("b")), 2, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a2"])
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "serialization_failure", got.Error.Code)
	require.Len(t, s.faults.before, 1, "four executions and no more")
}

func TestRacingRunsOfOneMessage(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := transaction("a1", effect("a"))
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			d := deliver("transaction", body, 1, 2)
			s.settle(d, s.run(d))
		})
	}
	group.Wait()
	require.Equal(t, 1, s.count("a"))
	for _, reply := range s.replies {
		require.Equal(t, "succeeded", read(t, reply).Status)
	}
}

func TestPanicCostsNothing(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.faults.before = []func() error{func() error { panic("secret value") }}
	d := deliver("transaction", transaction("a1", effect("a")), 1, 1)
	out := s.run(d)
	require.ErrorContains(t, out.Reason, "panic")
	require.NotContains(t, out.Reason.Error(), "secret")
	s.settle(d, out)
	got := read(t, s.results["a1"])
	require.Equal(t, "failed", got.Status)
	require.Equal(t, "internal_error", got.Error.Code)
}

func TestResultTooLargeIsRolledBack(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.policy.MaxBytes = 0
	body := job("a1", `"statements":[{"sql":"`+effect("a")+`"},{"sql":"SELECT printf('%.*c', 2000000, 'x') AS big"}]`)
	d := deliver("transaction", body, 1, 1)
	s.settle(d, s.run(d))
	got := read(t, s.results["a1"])
	require.Equal(t, "result_too_large", got.Error.Code)
	require.Zero(t, s.count("a"))
}

func TestReadRedelivered(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := job("", `"sql":"SELECT 1 AS n"`)
	first := deliver("query", body, 1, 1)
	s.settle(first, s.run(first))
	s.faults.onRead = classed(db.ClassUnavailable, contract.CodeUnavailable)
	again := deliver("query", body, 1, 2)
	out := s.run(again)
	require.Nil(t, out.Store, "answered from the stored result, without the database")
	s.settle(again, out)
	other := deliver("query", body, 2, 1)
	require.Equal(t, delivery.AwaitDatabase, s.run(other).Action)
}

func TestOvertaken(t *testing.T) {
	t.Parallel()
	s := setup(t)
	read1 := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 1, 1)
	s.settle(read1, s.run(read1))
	d := deliver("transaction", job("a1", `"effect":"at_least_once","statements":[{"sql":"`+effect("a")+`"}]`), 2, 2)
	s.settle(d, s.run(d))
	require.Equal(t, "unknown", read(t, s.results[contract.DerivedID(d.Sequence, d.Timestamp)]).Status)
	require.Zero(t, s.count("a"))
}

func TestOvertakenBetweenLookAndStore(t *testing.T) {
	t.Parallel()
	s := setup(t)
	body := job("a1", `"effect":"at_least_once","expires_at":"2020-01-01T00:00:00Z","statements":[{"sql":"`+effect("a")+`"}]`)
	d := deliver("transaction", body, 2, 2) // an earlier delivery may have had its effect
	out := s.run(d)
	require.Equal(t, contract.Unknown, out.Status)
	other := deliver("query", job("a1", `"sql":"SELECT 1 AS n"`), 1, 1)
	s.settle(other, s.run(other))
	s.settle(d, out)
	aside := read(t, s.results[contract.DerivedID(d.Sequence, d.Timestamp)])
	require.Equal(t, "unknown", aside.Status)
	require.Equal(t, contract.ReasonResultIDTaken, s.deadLetters[0].Reason, "it must not be reported as not done")
}

func TestCanceledContextDrops(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := s.executor.Run(ctx, deliver("transaction", transaction("a1", effect("a")), 1, 2), nil)
	require.Equal(t, delivery.Undecided, out.Action)
	require.Zero(t, s.count("a"))
}
