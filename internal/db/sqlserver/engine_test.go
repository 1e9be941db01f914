package sqlserver_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlserver"
)

// setup opens a new database that is ready for jobs.
func setup(t *testing.T, change ...func(*db.Options)) db.Database {
	t.Helper()
	opts := options(t)
	for _, c := range change {
		c(&opts)
	}
	d, err := sqlserver.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Probe(t.Context()))
	return d
}

func transact(t *testing.T, d db.Database, seal db.BeforeCommit, statements ...string) ([]db.ResultSet, error) {
	t.Helper()
	tx := &db.Transaction{Expect: make([]*db.Range, len(statements))}
	for _, text := range statements {
		tx.Statements = append(tx.Statements, &dialect.Compiled{SQL: text})
	}
	return d.Transact(t.Context(), db.Call{Label: "test", Timeout: time.Minute}, tx, db.RowOptions{Format: db.Arrays}, seal)
}

func sealed(id string) db.BeforeCommit {
	return func(context.Context, []db.ResultSet) (*db.Entry, error) {
		return &db.Entry{JobID: id, Status: "succeeded", Answer: []byte("{}"), Timestamp: time.Unix(1, 0), Runner: "r"}, nil
	}
}

// A text may be a batch without a semicolon: each answer of it is kept, the rows first.
func TestSeveralAnswers(t *testing.T) {
	t.Parallel()
	d := setup(t)
	_, err := transact(t, d, nil, "CREATE TABLE item (id int)")
	require.NoError(t, err)
	sets, err := transact(t, d, nil,
		"INSERT INTO item VALUES (1), (2) SELECT id FROM item ORDER BY id UPDATE item SET id = id + 10 WHERE id = 1 SELECT 'x' AS name")
	require.NoError(t, err)
	require.Len(t, sets, 1)
	require.Equal(t, "[[1],[2]]", string(sets[0].Rows))
	require.EqualValues(t, 2, sets[0].RowsAffected)
	require.Len(t, sets[0].More, 3)
	require.EqualValues(t, 2, sets[0].More[0].RowsAffected)
	require.Nil(t, sets[0].More[0].Columns)
	require.EqualValues(t, 1, sets[0].More[1].RowsAffected)
	require.Equal(t, `[["x"]]`, string(sets[0].More[2].Rows))

	_, err = d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: "SELECT 1 AS a SELECT 2 AS b"}, db.RowOptions{Format: db.Arrays})
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "a query has one answer: %v", err)
}

// A temporary table lives for the job that makes it.
func TestTemporaryTableWithinAJob(t *testing.T) {
	t.Parallel()
	d := setup(t)
	insert, faults := dialect.Compile(d.Dialect(), dialect.Statement{
		SQL: "INSERT INTO #work VALUES (:n)", Params: dialect.Params{Named: map[string]dialect.Value{"n": {Kind: dialect.Number, Text: "7"}}},
	})
	require.Empty(t, faults)
	sets, err := d.Transact(t.Context(), db.Call{Timeout: time.Minute}, &db.Transaction{Statements: []*dialect.Compiled{
		{SQL: "CREATE TABLE #work (n int)"}, insert, {SQL: "SELECT n FROM #work"},
	}, Expect: make([]*db.Range, 3)}, db.RowOptions{Format: db.Arrays}, nil)
	require.NoError(t, err)
	require.Equal(t, "[[7]]", string(sets[2].Rows))
}

// What a job puts in the place of its own transaction is not sealed.
func TestAnotherTransactionInItsPlace(t *testing.T) {
	t.Parallel()
	h := harness(t)
	h.Needs(t, dbtest.LacksTransactionID)
	d := setup(t)
	_, err := transact(t, d, sealed("other"), "EXEC ('ROLLBACK BEGIN TRAN BEGIN TRAN')")
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
	row, err := d.Lookup(t.Context(), "other")
	require.NoError(t, err)
	require.Nil(t, row)
}

// A bare name is a statement, not the name of a procedure to be called.
func TestBareName(t *testing.T) {
	t.Parallel()
	d := setup(t)
	_, err := transact(t, d, nil, "no_such_procedure")
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
}

// A label does not get into the text of a statement.
func TestLabel(t *testing.T) {
	t.Parallel()
	d := setup(t, func(o *db.Options) { o.Settings["label_sessions"] = "true" })
	require.Equal(t, `[["job'12"]]`, label(t, d, "job'12"))
}

func label(t *testing.T, d db.Database, text string) string {
	t.Helper()
	set, err := d.Read(t.Context(), db.Call{Label: text, Timeout: time.Minute},
		&dialect.Compiled{SQL: "SELECT CAST(SUBSTRING(CONTEXT_INFO(), 1, 6) AS varchar(10)) AS v"}, db.RowOptions{Format: db.Arrays})
	require.NoError(t, err)
	return string(set.Rows)
}

// The recipe for reads: with the switch, a login that could write gets no answer, and the start says so.
func TestRequireReadOnlyLogin(t *testing.T) {
	t.Parallel()
	d := setup(t, func(o *db.Options) { o.Settings["require_read_only_login"] = "true" })
	_, err := d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: "SELECT 1 AS n"}, db.RowOptions{Format: db.Arrays})
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
	adviser, ok := d.(interface{ Advice() []string })
	require.True(t, ok)
	require.NotEmpty(t, adviser.Advice())
	_, err = transact(t, d, nil, "SELECT 1 AS n")
	require.NoError(t, err, "transactions are another matter")
}

// A loop without SET NOCOUNT ON fails with the remedy and takes nothing of the runner's memory; with it, it succeeds.
func TestLoopOfRowCounts(t *testing.T) {
	t.Parallel()
	d := setup(t)
	_, err := transact(t, d, nil, "CREATE TABLE item (id int)", "INSERT INTO item VALUES (1)")
	require.NoError(t, err)
	const loop = "DECLARE @i int = 0 WHILE @i < 3000 BEGIN UPDATE item SET id = id + 1 SET @i = @i + 1 END"
	_, err = transact(t, d, nil, loop)
	requireError(t, err, db.ClassPermanent, contract.CodeResultTooLarge)
	sets, err := transact(t, d, nil, "SELECT id FROM item")
	require.NoError(t, err)
	require.Equal(t, "[[1]]", string(sets[0].Rows), "the loop is rolled back")
	_, err = transact(t, d, nil, "SET NOCOUNT ON "+loop)
	require.NoError(t, err)
	sets, err = transact(t, d, nil, "SELECT id FROM item")
	require.NoError(t, err)
	require.Equal(t, "[[3001]]", string(sets[0].Rows))
}

// Whatever isolation level a job leaves in its session, the next use of the session has its own.
func TestIsolationOfTheNextUse(t *testing.T) {
	t.Parallel()
	leave := map[string]func(t *testing.T, d db.Database){}
	for name, level := range map[string]db.Isolation{
		"read committed": db.ReadCommitted, "repeatable read": db.RepeatableRead, "serializable": db.Serializable, "snapshot": db.Snapshot,
	} {
		leave["a job with "+name] = func(t *testing.T, d db.Database) {
			tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "SELECT 1 AS n"}}, Expect: make([]*db.Range, 1), Isolation: level}
			_, err := d.Transact(t.Context(), db.Call{Timeout: time.Minute}, tx, db.RowOptions{Format: db.Arrays}, nil)
			t.Log(err)
		}
	}
	for _, name := range []string{"READ UNCOMMITTED", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE", "SNAPSHOT"} {
		set := &dialect.Compiled{SQL: "EXEC ('SET TRANSACTION ISOLATION LEVEL " + name + "')"}
		leave["dynamic "+name+" in a transaction"] = func(t *testing.T, d db.Database) {
			_, err := transact(t, d, nil, set.SQL)
			t.Log(err)
		}
		leave["dynamic "+name+" in a statement"] = func(t *testing.T, d db.Database) {
			_, err := d.Execute(t.Context(), db.Call{Timeout: time.Minute}, set, db.RowOptions{Format: db.Arrays}, nil)
			t.Log(err)
		}
	}
	for name, left := range leave {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
			for _, use := range []func() error{
				func() error { _, err := d.Lookup(t.Context(), "job"); return err },
				func() error { _, err := d.Sweep(t.Context(), time.Now(), 10); return err },
				func() error { return d.Probe(t.Context()) },
				func() error {
					_, _, err := d.Record(t.Context(), &db.Entry{JobID: "job", Status: "failed", Answer: []byte("{}"), Timestamp: time.Unix(1, 0), Runner: "r"})
					return err
				},
			} {
				left(t, d)
				require.NoError(t, use())
			}
			look := &dialect.Compiled{SQL: "SELECT CAST(transaction_isolation_level AS int) AS n FROM sys.dm_exec_sessions WHERE session_id = @@SPID"}
			const readCommitted = "[[2]]"
			left(t, d)
			set, err := d.Read(t.Context(), db.Call{Timeout: time.Minute}, look, db.RowOptions{Format: db.Arrays})
			require.NoError(t, err)
			require.Equal(t, readCommitted, string(set.Rows))
			left(t, d)
			set, err = d.Execute(t.Context(), db.Call{Timeout: time.Minute}, look, db.RowOptions{Format: db.Arrays}, nil)
			require.NoError(t, err)
			require.Equal(t, readCommitted, string(set.Rows))
			left(t, d)
			sets, err := transact(t, d, sealed("fenced"), look.SQL)
			require.NoError(t, err)
			require.Equal(t, readCommitted, string(sets[0].Rows))
		})
	}
}

// What a statement leaves switched off or counted does not reach the engine's own statements that follow it in the session.
func TestWhatAStatementSwitches(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"NOEXEC ON", "FMTONLY ON", "PARSEONLY ON", "ROWCOUNT 1"} {
		for _, text := range []string{"SET " + option, "INSERT INTO item VALUES (1), (2), (3) SET " + option} {
			t.Run(text, func(t *testing.T) {
				t.Parallel()
				d := setup(t, func(o *db.Options) { o.Pool.Max = 1 })
				_, err := transact(t, d, nil, "CREATE TABLE item (id int)")
				require.NoError(t, err)
				_, err = transact(t, d, sealed("transaction"), text)
				requireKnownOutcome(t, d, "transaction", err)

				row := func(status string) *db.Entry {
					return &db.Entry{JobID: "alone", Status: status, Answer: []byte("{}"), Timestamp: time.Unix(1, 0), Runner: "r"}
				}
				_, err = d.Execute(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: text}, db.RowOptions{Format: db.Arrays}, &db.Once{
					Start: row(db.StatusStarted), End: func(db.ResultSet, error) *db.Entry { return row("succeeded") },
				})
				require.NoError(t, err)
				end, err := d.Lookup(t.Context(), "alone")
				require.NoError(t, err)
				require.Equal(t, "succeeded", end.Status)

				_, err = transact(t, d, sealed("next"), "DELETE FROM item", "INSERT INTO item VALUES (1), (2), (3)")
				require.NoError(t, err)
				set, err := d.Read(t.Context(), db.Call{Timeout: time.Minute}, &dialect.Compiled{SQL: "SELECT id FROM item ORDER BY id"}, db.RowOptions{Format: db.Arrays})
				require.NoError(t, err)
				require.Equal(t, "[[1],[2],[3]]", string(set.Rows))
				swept, err := d.Sweep(t.Context(), time.Now().Add(time.Hour), 10)
				require.NoError(t, err)
				require.GreaterOrEqual(t, swept, 2)
			})
		}
	}
}

// requireKnownOutcome requires that a transaction's end is known, and that the ledger has its row if it was committed.
func requireKnownOutcome(t *testing.T, d db.Database, job string, err error) {
	t.Helper()
	row, lookErr := d.Lookup(t.Context(), job)
	require.NoError(t, lookErr)
	if err == nil {
		require.NotNil(t, row)
		return
	}
	require.Equal(t, db.ClassPermanent, db.ClassOf(err), "%v", err)
	require.Nil(t, row)
}

// A row that was recorded again while the clean-up waits for it stays.
func TestSweepLooksAgain(t *testing.T) {
	t.Parallel()
	opts := options(t)
	d, err := sqlserver.Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	require.NoError(t, d.Probe(t.Context()))
	for _, id := range []string{"again", "old"} {
		_, _, err := d.Record(t.Context(), &db.Entry{JobID: id, Status: "failed", Answer: []byte("{}"), Timestamp: time.Unix(1, 0), Runner: "r"})
		require.NoError(t, err)
	}
	_, err = transact(t, d, nil, "UPDATE dbrunner.ledger SET recorded_at = '2001-01-01'")
	require.NoError(t, err)
	other, err := sql.Open("sqlserver", opts.ConnectionString)
	require.NoError(t, err)
	defer func() { require.NoError(t, other.Close()) }()
	tx, err := other.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "UPDATE dbrunner.ledger SET recorded_at = SYSUTCDATETIME() WHERE job_id = 'again'")
	require.NoError(t, err)
	swept := make(chan error, 1)
	go func() {
		_, err := d.Sweep(t.Context(), time.Now().Add(-time.Hour), 10)
		swept <- err
	}()
	select { // a server that passes over the row does not wait for it
	case err = <-swept:
		require.NoError(t, err)
		require.NoError(t, tx.Commit())
	case <-time.After(500 * time.Millisecond):
		require.NoError(t, tx.Commit())
		require.NoError(t, <-swept)
	}
	row, err := d.Lookup(t.Context(), "again")
	require.NoError(t, err)
	require.NotNil(t, row)
	row, err = d.Lookup(t.Context(), "old")
	require.NoError(t, err)
	require.Nil(t, row)
}
