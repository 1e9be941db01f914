package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
	"dbrunner/internal/effect"
	"dbrunner/internal/health"
	"dbrunner/internal/report"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// goldenSets is what the database answers to the golden jobs, statement by statement.
func goldenSets() map[string][]db.ResultSet {
	rows := db.ResultSet{
		Columns: []contract.Column{{Name: "id", Type: "int8"}, {Name: "näme \"q\"", Type: "text"}},
		Rows:    []byte(`[{"id":"1","näme \"q\"":"Ann"},{"id":"2","näme \"q\"":null}]`), RowCount: 2, RowsAffected: 2,
	}
	outside := db.ResultSet{
		Columns: rows.Columns, RowCount: 5_000_000, RowsAffected: 5_000_000,
		Object: &contract.RowsObject{
			Bucket: "DBRUNNER_ROWS", Name: "shop.export-7.s42_dgrfgbv552j9.MZXW6YTBOI2DKNRX.csv.zst", Size: 734_003_200, RowCount: 5_000_000,
			Digest: "SHA-256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU=", Format: "csv", Compression: "zstd",
		},
	}
	shown := rows
	shown.RowCount, shown.RowsAffected, shown.Omitted = 5, 5, 3
	return map[string][]db.ResultSet{
		"query":        {rows},
		"outside":      {outside},
		"batch":        {{RowsAffected: 3}, rows},
		"params_from":  {{RowsAffected: 100_000}, {RowsAffected: 2}, outside},
		"statement":    {{Columns: rows.Columns, Rows: []byte(`[["7","x"]]`), RowCount: 1, RowsAffected: 1, Command: "CALL"}},
		"call":         {{RowsAffected: 1}, rows},
		"approve":      {{RowsAffected: 1}, digested(rows), {}},
		"approve_call": {{RowsAffected: 1}, digested(rows)},
		"dry_run":      {{RowsAffected: 1}, digested(shown), {RowsAffected: 0}},
		"dry_run_call": {{RowsAffected: 1}, digested(rows)},
		"transaction":  {{RowsAffected: 1, Command: "UPDATE 1"}, rows, {RowsAffected: 0, Command: "DELETE 0"}},
	}
}

// digested is a set whose rows have a digest.
func digested(s db.ResultSet) db.ResultSet {
	s.Digest = bytes.Repeat([]byte{7}, 32)
	return s
}

// goldenJobs are the golden messages with their kinds: one of each, and those whose keys go with no others.
func goldenJobs() map[string]string {
	all := map[string]string{"dry_run_call": "dry_run.pay", "approve_call": "approve.pay", "batch": "transaction", "params_from": "transaction", "outside": "query"}
	for _, kind := range Kinds() {
		all[kind] = kind
	}
	return all
}

// TestGoldenMessages holds for each kind a job with all of its keys to what is decoded of it, and its result to the
// byte.
func TestGoldenMessages(t *testing.T) {
	t.Parallel()
	for name, kind := range goldenJobs() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body, err := os.ReadFile(filepath.Join("testdata", "golden", name+".job.json"))
			require.NoError(t, err, "each kind has a golden message")
			in := message(kind, string(body))
			job := mustDecode(t, testDecoder(), in)
			require.NoError(t, inGolden(name+".decoded.txt", []byte(dump(job))))
			result := goldenResult(t, job, in, goldenSets()[name])
			require.NoError(t, inGolden(name+".result.json", result))
			requireSets(t, result, goldenSets()[name])
		})
	}
}

// requireSets reads the sets of rows of a result again.
func requireSets(t *testing.T, result []byte, sets []db.ResultSet) {
	t.Helper()
	r, err := contract.ReadResult(result)
	require.NoError(t, err)
	read := r.RowSets()
	var objects []contract.RowsObject
	for i := range sets {
		if sets[i].Columns == nil {
			continue
		}
		require.NotEmpty(t, read)
		require.Equal(t, i, read[0].Statement)
		require.Equal(t, "postgres", r.Engine)
		require.Equal(t, sets[i].Columns, read[0].Columns)
		require.Equal(t, sets[i].Object, read[0].Object)
		if sets[i].Object != nil {
			objects = append(objects, *sets[i].Object)
		} else {
			require.Equal(t, sets[i].RowCount, read[0].RowCount)
			require.JSONEq(t, string(sets[i].Rows), string(read[0].Rows))
		}
		read = read[1:]
	}
	require.Empty(t, read)
	require.Equal(t, objects, contract.RowsObjects(result))
}

// TestGoldenFailure holds the result of a rejected job to the byte.
func TestGoldenFailure(t *testing.T) {
	t.Parallel()
	in := message("query", `{"id": "q-1", "labels": {"flow": "nightly"}, "Sql": "SELECT 1", "parms": [1], "timeout": 5}`)
	_, rejection := testDecoder().Decode(in)
	require.NotNil(t, rejection)
	r := contract.Result{
		JobID: rejection.ID, Kind: in.Kind, Database: in.Database, Effect: rejection.Effect, Status: contract.Rejected,
		Hash: rejection.Hash, Sequence: in.Sequence, Deliveries: 1, Runner: "r1", QueuedAt: in.Timestamp,
		FinishedAt: testTime.Add(time.Second), Labels: rejection.Labels,
		Error: &contract.Error{Code: rejection.Code, Message: rejection.Message(), Faults: rejection.Faults},
	}
	require.NoError(t, inGolden("rejected.result.json", r.Append(nil)))
}

func goldenResult(t *testing.T, job *Job, in *Message, sets []db.ResultSet) []byte {
	t.Helper()
	approveGolden(t, job, in, sets)
	given, err := job.Run(t.Context(), &Execution{
		Seal:     func(context.Context, Answer) (*db.Entry, error) { return nil, nil },
		Database: &answering{sets: sets}, Migrations: migrating{}, Health: goldenChecker(), Message: in,
		Call: db.Call{Timeout: job.Timeout}, Rows: db.RowOptions{Format: job.RowFormat},
	})
	require.NoError(t, err)
	r := contract.Result{
		JobID: job.ID, Kind: job.Kind, Database: job.Database, Effect: job.Effect, Status: contract.Succeeded,
		Hash: job.Hash, Sequence: in.Sequence, Deliveries: 2, Attempts: 1, Runner: "runner-1",
		QueuedAt: in.Timestamp, StartedAt: testTime.Add(time.Millisecond), FinishedAt: testTime.Add(2 * time.Millisecond),
		Labels: job.Labels, Call: job.Call, Answer: given.Answer,
	}
	encoded := r.Append(nil)
	require.True(t, json.Valid(encoded), "%s", encoded)
	return encoded
}

// approveGolden makes an approval ready to run: its dry run had the same effect.
func approveGolden(t *testing.T, job *Job, in *Message, sets []db.ResultSet) {
	t.Helper()
	a, ok := job.work.(*approval)
	if !ok {
		return
	}
	name := "dry_run"
	if in.Name != "" {
		name = "dry_run_call"
	}
	body, err := os.ReadFile(filepath.Join("testdata", "golden", name+".job.json"))
	require.NoError(t, err)
	of := mustDecode(t, testDecoder(), &Message{Database: in.Database, Kind: "dry_run", Name: in.Name, Timestamp: in.Timestamp, Body: body})
	w, _ := of.work.(*dryRun)
	require.NotNil(t, w)
	a.Digest = effect.Digest(of.Hash, of.revision(), sets)
	stored := contract.Result{
		JobID: of.ID, Kind: "dry_run", Database: in.Database, Status: contract.Succeeded, Call: of.Call,
		Answer: contract.Answer{Statements: setsOf(sets), Request: w.request, EffectDigest: a.Digest},
	}
	require.Nil(t, testDecoder().Approve(job, in, stored.Append(nil)))
	require.Equal(t, of.Hash, a.of.Hash)
}

// standby is a database of which each check finds something.
type standby struct{}

func (standby) Check(context.Context) (db.CheckResult, error) {
	return db.CheckResult{
		Connect: 3 * time.Millisecond, Query: 500 * time.Microsecond, Version: "15.4", Role: contract.RoleStandby,
		ReadOnly: "the server is a standby and accepts no writes",
	}, nil
}

func (standby) Stats() report.Pool {
	return report.Pool{
		Max: 4, Total: 3, Idle: 1, InUse: 4, Waiting: 7, LongestWait: 45 * time.Second,
		Acquires: 120, CanceledAcquires: 1, AcquireWait: 1500 * time.Millisecond,
	}
}

func (standby) MigrationStatus(context.Context) (*contract.Migrations, error) {
	return &contract.Migrations{Current: "7", Latest: "9", Pending: 2}, nil
}

func goldenChecker() *health.Checker {
	return health.NewChecker(health.Options{
		Database: standby{}, Slow: time.Second, PoolSaturation: 100, PoolWait: 30 * time.Second, Writes: true, Migrations: standby{},
		Jobs: func() (contract.Verdict, string) { return contract.Unhealthy, "they wait: the server is a standby" },
	})
}

// migrating answers to every golden migration that it has run one file, and that another one is pending.
type migrating struct{}

func (migrating) Run(_ context.Context, req migration.Request) (*migration.Report, error) {
	one, two, three := migration.Version{Number: 1, Label: "1"}, migration.Version{Number: 2, Label: "2"}, migration.Version{Number: 3, Label: "3"}
	return &migration.Report{
		Action: req.Action, Before: one, After: two, Latest: three,
		Changes: []migration.Change{{
			Version: two, File: "V2__views.sql", Direction: "up", State: "done", Duration: 12 * time.Millisecond,
			SHA256: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", Runner: "runner-1", Job: "roll-out-7",
			At: testTime.Add(time.Millisecond),
		}},
		Pending: []migration.Pending{{Version: three, File: "V3__more.sql"}},
		Faults:  []migration.Fault{{File: "V1__first.sql", Code: migration.FaultEdited, Message: "was applied with another text"}},
	}, nil
}

func inGolden(name string, got []byte) error {
	path := filepath.Join("testdata", "golden", name)
	if *update {
		return os.WriteFile(path, append(got, '\n'), 0o644)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(bytes.TrimSuffix(want, []byte("\n")), got) {
		return errors.New(name + " differs; now it is:\n" + string(got))
	}
	return nil
}

// dump writes everything that was decoded, a line each.
func dump(job *Job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "id %s derived %v\ndatabase %s kind %s effect %s\n", job.ID, job.DerivedID, job.Database, job.Kind, job.Effect)
	fmt.Fprintf(&b, "reply_to %q only %v\ntimeout %s\n", job.ReplyTo, job.ReplyOnly, job.Timeout)
	fmt.Fprintf(&b, "expires %s\nrows %d %d %+v\nlabels %q\nhash %x", job.ExpiresAt.Format(time.RFC3339Nano), job.RowFormat, job.MaxRows, job.Output, job.Labels, job.Hash)
	work := job.work
	if c, ok := work.(*call); ok {
		fmt.Fprintf(&b, "\ncall %+v", *job.Call)
		work = c.work
	}
	if d, ok := work.(*dryRun); ok {
		fmt.Fprintf(&b, "\nrequest %s", d.request)
		work = d.transaction
	}
	switch w := work.(type) {
	case *approval:
		fmt.Fprintf(&b, "\napproves %+v", w.Approval)
	case *query:
		dumpStatement(&b, w.compiled)
	case *autocommit:
		dumpStatement(&b, w.compiled)
	case *transaction:
		fmt.Fprintf(&b, "\nisolation %d", w.tx.Isolation)
		if w.maxAffected > 0 {
			fmt.Fprintf(&b, "\nmax_affected %d", w.maxAffected)
		}
		if w.shared {
			b.WriteString("\ncommit shared")
		}
		for i := range w.statements {
			dumpStatement(&b, w.tx.Statements[i])
			dumpBatch(&b, &w.statements[i])
			fmt.Fprintf(&b, "\n  expect %+v", w.tx.Expect[i])
		}
	case *migrate:
		fmt.Fprintf(&b, "\naction %s target %q out_of_order %v", w.action, w.target, w.outOfOrder)
	case *healthCheck:
		fmt.Fprintf(&b, "\nchecks %q", w.checks)
	}
	return b.String()
}

func dumpStatement(b *strings.Builder, c *dialect.Compiled) {
	fmt.Fprintf(b, "\nsql %q", c.SQL)
	for _, arg := range c.Args {
		fmt.Fprintf(b, "\n  arg %d %q %q", arg.Kind, arg.Type, arg.Text)
	}
}

// dumpBatch writes what a statement runs for.
func dumpBatch(b *strings.Builder, s *statement) {
	switch rows := s.compiled.Batch.(type) {
	case *inlineRows:
		for i, row := range rows.args {
			fmt.Fprintf(b, "\n  row %d", i)
			for _, arg := range row {
				fmt.Fprintf(b, "\n    arg %d %q %q", arg.Kind, arg.Type, arg.Text)
			}
		}
	case *bulk.Params:
		fmt.Fprintf(b, "\n  rows from %q %s %s", rows.Name, rows.Digest, rows.Compression)
	}
}

func TestKinds(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"query", "transaction", "statement", "migration", "health", "call", "dry_run", "approve"}, Kinds())
}
