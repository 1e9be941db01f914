package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/db/sqlite"
	"dbrunner/internal/delivery"
	"dbrunner/internal/jobs"
)

// maxResult is the smallest that a results stream may take.
const maxResult = 128<<10 + 1

// large is a database whose statements answer whatever a test wants, of any size. Its ledger is a real one.
type large struct {
	db.Database
	set     db.ResultSet
	failure *db.Error // of the statements, once they have started
	acted   bool      // something took effect
}

func (l *large) Read(_ context.Context, call db.Call, _ *dialect.Compiled, _ db.RowOptions) (db.ResultSet, error) {
	if err := call.Begin(); err != nil || l.failure != nil {
		return db.ResultSet{}, errors.Join(err, asError(l.failure))
	}
	return l.set, nil
}

func (l *large) Transact(ctx context.Context, call db.Call, tx *db.Transaction, _ db.RowOptions, seal db.BeforeCommit) ([]db.ResultSet, error) {
	if err := call.Begin(); err != nil || l.failure != nil {
		return nil, errors.Join(err, asError(l.failure))
	}
	sets := make([]db.ResultSet, len(tx.Statements))
	for i := range sets {
		sets[i] = l.set
	}
	if seal != nil {
		entry, err := seal(ctx, sets)
		if err != nil {
			return nil, err
		}
		if _, _, err := l.Record(ctx, entry); err != nil {
			return nil, err
		}
	}
	l.acted = true
	return sets, nil
}

func (l *large) Execute(ctx context.Context, call db.Call, _ *dialect.Compiled, _ db.RowOptions, once *db.Once) (db.ResultSet, error) {
	if err := call.Begin(); err != nil {
		return db.ResultSet{}, err
	}
	l.acted = l.failure == nil || l.failure.Class == db.ClassTookEffect
	if once == nil {
		return l.set, asError(l.failure)
	}
	if _, _, err := l.Record(ctx, once.Start); err != nil {
		return db.ResultSet{}, err
	}
	if _, _, err := l.RecordEnd(ctx, once.End(l.set, asError(l.failure)), true); err != nil {
		return db.ResultSet{}, err
	}
	return l.set, asError(l.failure)
}

func asError(e *db.Error) error {
	if e == nil {
		return nil
	}
	return e
}

// Run implements jobs.Migrator.
func (l *large) Run(_ context.Context, req migration.Request) (*migration.Report, error) {
	if err := req.Begin(); err != nil {
		return nil, err
	}
	l.acted = true
	r := &migration.Report{Action: req.Action}
	for _, c := range l.set.Columns {
		r.Changes = append(r.Changes, migration.Change{File: c.Name, Direction: "up", State: "done"})
		r.Notes = append(r.Notes, c.Name+c.Type)
	}
	return r, asError(l.failure)
}

// drawSet draws an answer: mostly above the limit in one way or another.
func drawSet(t *rapid.T) db.ResultSet {
	name := rapid.SampledFrom([]string{"n", strings.Repeat("x", 120), strings.Repeat("\x01", 120), strings.Repeat("\"", 60)})
	set := db.ResultSet{RowsAffected: rapid.Int64Min(0).Draw(t, "affected"), Command: rapid.SampledFrom([]string{"", "INSERT 0 1"}).Draw(t, "command")}
	for range rapid.SampledFrom([]int{0, 1, 20, 200}).Draw(t, "columns") {
		set.Columns = append(set.Columns, contract.Column{Name: name.Draw(t, "name"), Type: "text"})
	}
	if set.Columns != nil {
		if rapid.Bool().Draw(t, "object") {
			set.Object = &contract.RowsObject{Bucket: "DBRUNNER_ROWS", Name: strings.Repeat("o", 200), Digest: "SHA-256=x", Format: "csv", Compression: "none"}
		} else {
			set.Rows = []byte(`["` + strings.Repeat("r", rapid.SampledFrom([]int{0, 1000, maxResult - 2000, maxResult - 300, maxResult, 3 * maxResult}).Draw(t, "rows")) + `"]`)
		}
	}
	for range rapid.SampledFrom([]int{0, 0, 1, 4000}).Draw(t, "more") {
		set.More = append(set.More, db.ResultSet{RowsAffected: 1 << 40})
	}
	return set
}

func drawFailure(t *rapid.T) *db.Error {
	class := rapid.SampledFrom([]db.Class{0, 0, db.ClassPermanent, db.ClassTookEffect, db.ClassUnknown, db.ClassTransient, db.ClassTimeout}).Draw(t, "class")
	if class == 0 {
		return nil
	}
	text := rapid.SampledFrom([]string{"short", strings.Repeat("long ", 1<<10), strings.Repeat("\x02", 200<<10), strings.Repeat("ü", 300<<10)}).Draw(t, "text")
	return db.Errorf(class, contract.CodeDatabase, "%s", text)
}

// drawLabels draws labels up to their limit, in the characters that take most room.
func drawLabels(t *rapid.T) string {
	n := rapid.SampledFrom([]int{0, 1, 31}).Draw(t, "labels")
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"l%d":"%s"`, i, strings.Repeat(rapid.SampledFrom([]string{"a", "<", "&", `\"`}).Draw(t, "character"), 510))
	}
	return `{"l":"x"` + b.String() + `}`
}

// sized is a job of a kind with an effect; rest are its own keys.
type sized struct{ kind, effect, rest string }

func allSized() []sized {
	many := strings.Repeat(`{"sql":"SELECT 1"},`, 20) + `{"sql":"SELECT 1"}`
	return []sized{
		{"query", "read_only", `"sql":"SELECT 1"`},
		{"query", "read_only", `"sql":"SELECT 1","answer":"reply","reply_to":"_INBOX.x"`},
		{"transaction", "exactly_once", `"statements":[` + many + `]`},
		{"transaction", "exactly_once", `"statements":[{"sql":"SELECT 1"}]`},
		{"transaction", "at_least_once", `"statements":[` + many + `]`},
		{"transaction", "at_least_once", `"statements":[{"sql":"SELECT 1"}]`},
		{"statement", "at_most_once", `"sql":"VACUUM"`},
		{"statement", "at_least_once", `"sql":"VACUUM"`},
		{"migration", "at_least_once", `"action":"up"`},
		{"migration", "at_least_once", `"action":"status"`},
		{"health", "read_only", `"checks":["query"]`},
		// rejected, with as many faults as are reported
		{"transaction", "exactly_once", `"statements":[` + strings.Repeat(`{"sqll":"x","`+strings.Repeat(`<`, 200)+`":1},`, 60) + `{}]`},
		{"query", "nosuch", `"sql":"SELECT 1"`},
	}
}

// TestEveryResultFits: whatever a job of whatever kind and effect answers, its result fits in a message, says so where
// something is missing, and what took effect is not called failed.
func TestEveryResultFits(t *testing.T) {
	t.Parallel()
	database, err := sqlite.Open(db.Options{
		Name: "shop", Namespace: "dbrunner", Runner: "r1", Ledger: db.LedgerManage, ConnectionString: filepath.Join(t.TempDir(), "shop.db"),
		Pool: db.PoolOptions{Min: 1, Max: 4}, Limits: db.Limits{StatementTimeout: time.Minute, LockTimeout: time.Minute},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, database.Close()) })
	require.NoError(t, database.Probe(t.Context()))
	policy := jobs.Policy{
		Ledger: true, Timeout: time.Minute, MaxTimeout: time.Hour, DeadLetters: contract.DeadLetterReasons(), MaxDeliveries: 20,
		Retry: jobs.RetryPolicy{Attempts: 2, Delay: time.Microsecond, MaxDelay: time.Microsecond},
	}
	serial := uint64(0)
	for _, j := range allSized() {
		t.Run(j.kind+" "+j.effect, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				serial++
				fake := &large{Database: database, set: drawSet(rt), failure: drawFailure(rt)}
				s := &stage{t: t, results: map[string][]byte{}}
				s.executor, err = delivery.NewExecutor(delivery.ExecutorOptions{
					Namespace: "dbrunner", Runner: "r1", Database: fake, Policy: &policy, Results: s, Migrations: fake,
					MaxBody: 8 << 20, MaxResult: maxResult,
				})
				require.NoError(rt, err)
				id := fmt.Sprintf("j%d", serial)
				d := deliver(j.kind, fmt.Sprintf(`{"id":%q,"effect":%q,"labels":%s,%s}`, id, j.effect, drawLabels(rt), j.rest), serial, 1)
				out := s.run(d)
				for range 3 { // a repetition finds out
					if out.Action == delivery.Settle {
						break
					}
					out = s.run(d)
				}
				requireFits(rt, fake, out)
				again := deliver(j.kind, string(d.Body), serial, 2) // its result was lost
				requireFits(rt, fake, s.run(again))
			})
		})
	}
}

func requireFits(t *rapid.T, fake *large, out delivery.Outcome) {
	require.Equal(t, delivery.Settle, out.Action, "%v", out.Reason)
	publication := out.Store
	if publication == nil {
		publication = out.Reply
	}
	require.LessOrEqual(t, len(publication.Body), maxResult)
	head, err := contract.ReadHead(publication.Body)
	require.NoError(t, err)
	require.Equal(t, out.Status, head.Status)
	require.Equal(t, out.Code, head.ErrorCode)
	if fake.acted && fake.failure == nil && head.Effect != contract.ReadOnly {
		require.Contains(t, []contract.Status{contract.Succeeded, contract.Unknown}, head.Status)
	}
	if head.Status == contract.Succeeded && head.Kind == "transaction" && head.ErrorCode == "" {
		require.Contains(t, string(publication.Body), `"statements":[`)
	}
}
