package sqlserver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/sqlserver"
)

const testTimeout = 20 * time.Second

// on answers texts that hold a part, and leaves all others to the usual.
func on(part string, r reply) func(string) reply {
	return func(text string) reply {
		if strings.Contains(text, part) {
			return r
		}
		return reply{}
	}
}

func run(t *testing.T, d db.Database, timeout time.Duration) error {
	t.Helper()
	tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "UPDATE item SET a = 1"}}, Expect: make([]*db.Range, 1)}
	_, err := d.Transact(t.Context(), db.Call{Timeout: timeout}, tx, db.RowOptions{Format: db.Arrays}, sealed("job"))
	return err
}

func requireError(t *testing.T, err error, class db.Class, code contract.Code) *db.Error {
	t.Helper()
	e, ok := errors.AsType[*db.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, class, e.Class, "%v", err)
	require.Equal(t, code, e.Code, "%v", err)
	require.NotContains(t, e.Error(), "canary")
	return e
}

func TestPeerAllIsWell(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("nothing", reply{}))
	require.NoError(t, run(t, p.open(), testTimeout))
	for _, part := range []string{"SET XACT_ABORT ON", "BEGIN TRANSACTION; BEGIN TRANSACTION", "@@TRANCOUNT = 2", "INSERT INTO dbrunner.ledger", "COMMIT TRANSACTION"} {
		require.True(t, p.said(part), part)
	}
}

// What the server says while the transaction is open.
func TestPeerErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		number  int32
		class   byte
		message string
		want    db.Class
		code    contract.Code
	}{
		{"deadlock", 1205, 13, "deadlock canary", db.ClassTransient, contract.CodeDeadlock},
		{"snapshot conflict", 3960, 16, "canary", db.ClassTransient, contract.CodeSerialization},
		{"lock timeout", 1222, 16, "canary", db.ClassTransient, contract.CodeLockTimeout},
		{"in-memory conflict", 41302, 16, "canary", db.ClassTransient, contract.CodeSerialization},
		{"busy service", 40501, 16, "canary", db.ClassTransient, contract.CodeUnavailable},
		{"other replica's state", 976, 14, "canary", db.ClassTransient, contract.CodeUnavailable},
		{"check", 547, 16, `The INSERT statement conflicted with the CHECK constraint "is_positive". canary`, db.ClassPermanent, contract.CodeCheck},
		{"foreign key", 547, 16, `The INSERT statement conflicted with the FOREIGN KEY constraint "CHECK_it". canary`, db.ClassPermanent, contract.CodeForeignKey},
		{"reference", 547, 16, `Die DELETE-Anweisung steht in Konflikt mit der REFERENCE-Einschränkung "x". canary`, db.ClassPermanent, contract.CodeForeignKey},
		{"unique", 2627, 14, "Violation of PRIMARY KEY constraint 'item_key'. Cannot insert duplicate key in object 'dbo.item'. The duplicate key value is (canary).", db.ClassPermanent, contract.CodeUnique},
		{"unique index", 2601, 14, "canary", db.ClassPermanent, contract.CodeUnique},
		{"not null", 515, 16, "canary", db.ClassPermanent, contract.CodeNotNull},
		{"syntax", 102, 15, "Incorrect syntax near 'canary'.", db.ClassPermanent, contract.CodeSyntax},
		{"table", 208, 16, "Invalid object name 'no_such_table'.", db.ClassPermanent, contract.CodeUndefined},
		{"table of a name too long", 208, 16, "Invalid object name '" + strings.Repeat("canary", 60) + "'.", db.ClassPermanent, contract.CodeUndefined},
		{"procedure", 2812, 16, "canary", db.ClassPermanent, contract.CodeUndefined},
		{"conversion", 245, 16, "Conversion failed when converting the nvarchar value 'canary' to data type int.", db.ClassPermanent, contract.CodeData},
		{"truncation", 2628, 16, "canary", db.ClassPermanent, contract.CodeData},
		{"permission", 229, 14, "canary", db.ClassPermanent, contract.CodePermission},
		{"uncommittable", 3930, 16, "canary", db.ClassPermanent, contract.CodeTransactionAborted},
		{"trigger", 3609, 16, "canary", db.ClassPermanent, contract.CodeTransactionAborted},
		{"not in a transaction", 226, 16, "canary", db.ClassPermanent, contract.CodeForbiddenStatement},
		{"raised", 50000, 16, "canary", db.ClassPermanent, contract.CodeDatabase},
		{"unknown number", 12345, 16, "canary", db.ClassPermanent, contract.CodeDatabase},
		{"log full", 9002, 17, "canary", db.ClassPermanent, contract.CodeResources},
		{"fatal", 823, 24, "canary", db.ClassLost, contract.CodeDatabase},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("UPDATE item", reply{tokens: failure(c.number, c.class, c.message, c.class >= 20)}))
			e := requireError(t, run(t, p.open(), testTimeout), c.want, c.code)
			require.NotEmpty(t, e.EngineCode)
			require.False(t, p.said("COMMIT TRANSACTION"))
		})
	}
}

// What the fence sets ends with its request on SQL Server, so that COMMIT and ROLLBACK set it again: with NOEXEC they
// would be read and not executed.
func TestPeerExecutes(t *testing.T) {
	t.Parallel()
	const executing = "SET NOEXEC OFF; SET PARSEONLY OFF; SET FMTONLY OFF; "
	p := newPeer(t, on("nothing", reply{}))
	require.NoError(t, run(t, p.open(), testTimeout))
	require.True(t, p.said(executing+"SET XACT_ABORT ON; COMMIT TRANSACTION"))
	p = newPeer(t, on("UPDATE item", reply{tokens: failure(547, 16, "canary", false)}))
	require.Error(t, run(t, p.open(), testTimeout))
	require.True(t, p.said(executing+"IF @@TRANCOUNT > 0 ROLLBACK"))
}

// A name is reported if the message contains it and nothing else of interest.
func TestPeerNames(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("UPDATE item", reply{tokens: failure(547, 16, `The INSERT statement conflicted with the CHECK constraint "is_positive". canary`, false)}))
	e := requireError(t, run(t, p.open(), testTimeout), db.ClassPermanent, contract.CodeCheck)
	require.Contains(t, e.Message, "is_positive")
	require.Equal(t, "547", e.EngineCode)
}

func TestPeerFence(t *testing.T) {
	t.Parallel()
	t.Run("taken", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("INSERT INTO dbrunner.ledger", reply{tokens: failure(2627, 14, "canary", false)}))
		requireError(t, run(t, p.open(), testTimeout), db.ClassAlreadyRecorded, contract.CodeUnique)
		require.False(t, p.said("COMMIT TRANSACTION"))
	})
	t.Run("missing", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("INSERT INTO dbrunner.ledger", reply{tokens: failure(208, 16, "canary", false)}))
		d := p.open()
		e := requireError(t, run(t, d, testTimeout), db.ClassPermanent, contract.CodeUndefined) // by the job, for all that is known
		require.Contains(t, e.Message, "the ledger row could not be written")
		require.False(t, p.said("COMMIT TRANSACTION"))
		_, _, err := d.Record(t.Context(), &db.Entry{JobID: "job", Status: "failed", Answer: []byte("{}"), Timestamp: time.Unix(1, 0), Runner: "r"})
		e = requireError(t, err, db.ClassUnavailable, contract.CodeUnavailable)
		require.Contains(t, e.Message, "runner ledger ddl")
	})
	for name, number := range map[string]int32{"no right": 229, "database read-only": 3906, "offline": 942, "shutting down": 6005} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("INSERT INTO dbrunner.ledger", reply{tokens: failure(number, 16, "canary", false)}))
			require.NotEqual(t, db.ClassUnavailable, db.ClassOf(run(t, p.open(), testTimeout)))
			require.False(t, p.said("COMMIT TRANSACTION"))
		})
	}
	t.Run("row kept out", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("XACT_STATE()", reply{tokens: number(2)}))
		e := requireError(t, run(t, p.open(), testTimeout), db.ClassPermanent, contract.CodeDatabase)
		require.Contains(t, e.Message, "did not keep the row")
		require.False(t, p.said("COMMIT TRANSACTION"))
	})
	t.Run("another transaction", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("XACT_STATE()", reply{tokens: number(0)}))
		requireError(t, run(t, p.open(), testTimeout), db.ClassPermanent, contract.CodeTransactionAborted)
		require.False(t, p.said("COMMIT TRANSACTION"))
	})
}

// A dry run commits nothing and writes no ledger row, whatever its seal returns. It fails if its transaction is not the open one at its end: dynamic
// SQL has committed it, or rolled it back.
func TestPeerDryRun(t *testing.T) {
	t.Parallel()
	dryRun := func(d db.Database) ([]db.ResultSet, error) {
		tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "UPDATE item SET a = 1"}}, Expect: make([]*db.Range, 1), DryRun: true}
		return d.Transact(t.Context(), db.Call{Timeout: testTimeout}, tx, db.RowOptions{Format: db.Arrays}, sealed("job"))
	}
	for name, c := range map[string]struct {
		script func(string) reply
		code   contract.Code // empty: it succeeds
	}{
		"all is well":                {on("nothing", reply{}), ""},
		"ended by dynamic SQL":       {on("XACT_STATE()", reply{tokens: number(0)}), contract.CodeTransactionAborted},
		"the link lost at its end":   {on("IF @@TRANCOUNT > 0 ROLLBACK", reply{hangUp: true}), ""},
		"a statement that has ended": {on("UPDATE item", reply{tokens: failure(3930, 16, "canary", false)}), contract.CodeTransactionAborted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, c.script)
			sets, err := dryRun(p.open())
			if c.code != "" {
				requireError(t, err, db.ClassPermanent, c.code)
			} else {
				require.NoError(t, err)
				require.Len(t, sets, 1)
				require.True(t, p.said("IF @@TRANCOUNT > 0 ROLLBACK"))
			}
			for _, part := range []string{"COMMIT TRANSACTION", "INSERT INTO dbrunner.ledger"} {
				require.False(t, p.said(part), part)
			}
		})
	}
}

// COMMIT is a rollback only where the server says so.
func TestPeerCommit(t *testing.T) {
	t.Parallel()
	commit := "COMMIT TRANSACTION; SELECT"
	t.Run("link lost", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on(commit, reply{hangUp: true}))
		requireError(t, run(t, p.open(), testTimeout), db.ClassUnknown, contract.CodeConnectionLost)
	})
	t.Run("no answer", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on(commit, reply{silent: true}))
		started := time.Now()
		requireError(t, run(t, p.open(), 2*time.Second), db.ClassUnknown, contract.CodeConnectionLost)
		require.Less(t, time.Since(started), testTimeout/2)
		p.mu.Lock()
		defer p.mu.Unlock()
		require.Zero(t, p.stops, "COMMIT is never cancelled")
	})
	t.Run("session ended", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on(commit, reply{tokens: failure(596, 21, "canary", true)}))
		requireError(t, run(t, p.open(), testTimeout), db.ClassUnknown, contract.CodeConnectionLost)
	})
	for _, c := range []struct {
		name   string
		tokens []byte
		class  db.Class
		code   contract.Code
	}{
		{"an error before the row", append(more(failure(3902, 16, "canary", false)), number(0)...), db.ClassUnknown, contract.CodeConnectionLost},
		{"an uncommittable transaction before the row", append(more(failure(3998, 16, "canary", false)), number(0)...), db.ClassUnknown, contract.CodeConnectionLost},
		{"any error before the row", append(more(failure(12345, 16, "canary", false)), number(0)...), db.ClassUnknown, contract.CodeConnectionLost},
		{"a transient error before the row", append(more(failure(41325, 16, "canary", false)), number(0)...), db.ClassUnknown, contract.CodeConnectionLost},
		{"an error behind the row", append(more(number(0)), failure(12345, 16, "canary", false)...), db.ClassUnknown, contract.CodeConnectionLost},
		{"nothing to commit", failure(3902, 16, "canary", false), db.ClassUnknown, contract.CodeConnectionLost},
		{"an error, and it is open still", append(more(failure(12345, 16, "canary", false)), number(1)...), db.ClassPermanent, contract.CodeDatabase},
		{"open still", number(1), db.ClassPermanent, contract.CodeTransactionAborted},
		{"no row", done(0, 0), db.ClassUnknown, contract.CodeConnectionLost},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on(commit, reply{tokens: c.tokens}))
			requireError(t, run(t, p.open(), testTimeout), c.class, c.code)
		})
	}
	t.Run("validation failed", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on(commit, reply{tokens: failure(41325, 16, "canary", false)}))
		requireError(t, run(t, p.open(), testTimeout), db.ClassTransient, contract.CodeSerialization)
	})
}

// Before COMMIT a lost link is a rollback.
func TestPeerLinkLost(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"UPDATE item", "INSERT INTO dbrunner.ledger", "BEGIN TRANSACTION; BEGIN"} {
		t.Run(part, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on(part, reply{hangUp: true}))
			requireError(t, run(t, p.open(), testTimeout), db.ClassLost, contract.CodeConnectionLost)
		})
	}
}

// Each use of a session sets the isolation level, which the reset of a session leaves as it is.
func TestPeerIsolationOfEachUse(t *testing.T) {
	t.Parallel()
	const level = "SET TRANSACTION ISOLATION LEVEL "
	for name, c := range map[string]struct {
		text string // of the first request
		work func(d db.Database)
	}{
		"transact": {level + "SERIALIZABLE; BEGIN TRANSACTION", func(d db.Database) {
			tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "UPDATE item SET a = 1"}}, Expect: make([]*db.Range, 1), Isolation: db.Serializable}
			_, _ = d.Transact(t.Context(), db.Call{Timeout: testTimeout}, tx, db.RowOptions{Format: db.Arrays}, nil)
		}},
		"transact by default": {level + "READ COMMITTED; BEGIN TRANSACTION", func(d db.Database) { _ = run(t, d, testTimeout) }},
		"read": {level + "READ COMMITTED; BEGIN TRANSACTION", func(d db.Database) {
			_, _ = d.Read(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "SELECT v"}, db.RowOptions{Format: db.Arrays})
		}},
		"execute": {level + "READ COMMITTED; SELECT 1", func(d db.Database) {
			_, _ = d.Execute(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "UPDATE item SET a = 1"}, db.RowOptions{Format: db.Arrays}, nil)
		}},
		"lookup": {level + "READ COMMITTED; SELECT request_hash", func(d db.Database) {
			_, _ = d.Lookup(t.Context(), "job")
		}},
		"record": {level + "READ COMMITTED; INSERT", func(d db.Database) {
			_, _, _ = d.Record(t.Context(), &db.Entry{JobID: "job", Status: "failed", Timestamp: time.Unix(1, 0)})
		}},
		"conclude": {level + "READ COMMITTED; DECLARE", func(d db.Database) {
			_, _, _ = d.RecordEnd(t.Context(), &db.Entry{JobID: "job", Status: "failed", Timestamp: time.Unix(1, 0)}, false)
		}},
		"sweep": {level + "READ COMMITTED; DELETE", func(d db.Database) {
			_, _ = d.Sweep(t.Context(), time.Now(), 10)
		}},
		"now": {level + "READ COMMITTED; SELECT SYSUTCDATETIME", func(d db.Database) {
			_, _ = d.Now(t.Context())
		}},
		"probe": {level + "READ COMMITTED", func(d db.Database) {
			_ = d.Probe(t.Context())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, func(text string) reply {
				if strings.Contains(text, "SYSUTCDATETIME") || strings.Contains(text, "HAS_PERMS") {
					return reply{tokens: failure(208, 16, "the peer knows no values of this type", false)}
				}
				return reply{}
			})
			d := p.open()
			require.NoError(t, run(t, d, testTimeout))
			p.mu.Lock()
			before := len(p.texts)
			p.mu.Unlock()
			c.work(d)
			p.mu.Lock()
			defer p.mu.Unlock()
			require.Contains(t, p.texts[before], c.text)
		})
	}
}

// A link that was reset is met when the next request is sent, which the driver reports only by a text. It is lost all the same.
func TestPeerLinkResetBeforeARequest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		want db.Class
		work func(t *testing.T, d db.Database) error
	}{
		"transact": {db.ClassLost, func(t *testing.T, d db.Database) error { return run(t, d, testTimeout) }},
		"read": {db.ClassLost, func(t *testing.T, d db.Database) error {
			_, err := d.Read(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "SELECT v"}, db.RowOptions{Format: db.Arrays})
			return err
		}},
		"execute": {db.ClassLost, func(t *testing.T, d db.Database) error {
			_, err := d.Execute(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "UPDATE item SET a = 1"}, db.RowOptions{Format: db.Arrays}, nil)
			return err
		}},
		"lookup": {db.ClassLost, func(t *testing.T, d db.Database) error {
			_, err := d.Lookup(t.Context(), "job")
			return err
		}},
		"record": {db.ClassUnknown, func(t *testing.T, d db.Database) error {
			_, _, err := d.Record(t.Context(), &db.Entry{JobID: "job", Status: "failed", Timestamp: time.Unix(1, 0)})
			return err
		}},
		"sweep": {db.ClassLost, func(t *testing.T, d db.Database) error {
			_, err := d.Sweep(t.Context(), time.Now(), 10)
			return err
		}},
		"now": {db.ClassLost, func(t *testing.T, d db.Database) error {
			_, err := d.Now(t.Context())
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("nothing", reply{}))
			d := p.open()
			require.NoError(t, run(t, d, testTimeout))
			p.resetLinks()
			requireError(t, c.work(t, d), c.want, contract.CodeConnectionLost)
			require.NoError(t, run(t, d, testTimeout), "the next call gets another session")
		})
	}
	t.Run("between a statement and the fence", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("nothing", reply{}))
		tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "UPDATE item SET a = 1"}}, Expect: make([]*db.Range, 1)}
		_, err := p.open().Transact(t.Context(), db.Call{Timeout: testTimeout}, tx, db.RowOptions{Format: db.Arrays},
			func(context.Context, []db.ResultSet) (*db.Entry, error) {
				p.resetLinks()
				return nil, nil
			})
		requireError(t, err, db.ClassLost, contract.CodeConnectionLost)
	})
}

// The same for a migration's session.
func TestPeerMigrationLinkReset(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("nothing", reply{}))
	engine, err := sqlserver.Migrations(optionsFor("sqlserver://sa:" + secret + "@" + p.listen.Addr().String() + "?database=x&encrypt=disable"))
	require.NoError(t, err)
	sessions, err := engine.Open(false)
	require.NoError(t, err)
	defer func() { require.NoError(t, sessions.Close()) }()
	session, err := sessions.Conn(t.Context())
	require.NoError(t, err)
	_, err = session.ExecContext(t.Context(), "UPDATE item SET a = 1")
	require.NoError(t, err)
	_, err = session.ExecContext(t.Context(), "UPDATE item SET a = @p1", struct{}{})
	require.Error(t, err)
	require.NotEqual(t, db.ClassLost, engine.Explain(err, nil).Class, "what the driver refuses is no lost link")
	p.resetLinks()
	_, err = session.ExecContext(t.Context(), "UPDATE item SET a = 1")
	require.Error(t, err)
	requireError(t, engine.Explain(err, nil), db.ClassLost, contract.CodeConnectionLost)
}

// The server is asked to stop; if it does not, the connection is closed.
func TestPeerStops(t *testing.T) {
	t.Parallel()
	for name, deaf := range map[string]bool{"confirmed": false, "deaf": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("UPDATE item", reply{silent: true}))
			p.deaf = deaf
			d := p.open()
			started := time.Now()
			requireError(t, run(t, d, 200*time.Millisecond), db.ClassTimeout, contract.CodeTimeout)
			require.Less(t, time.Since(started), testTimeout/2)
			p.mu.Lock()
			require.Positive(t, p.stops)
			p.mu.Unlock()
			require.Equal(t, !deaf, p.said("IF @@TRANCOUNT > 0 ROLLBACK"), "the session goes on where the server confirmed")
			require.Eventually(t, func() bool { return d.Stats().InUse == 0 }, testTimeout, time.Millisecond)
		})
	}
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		p := newPeer(t, on("UPDATE item", reply{silent: true}))
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		tx := &db.Transaction{Statements: []*dialect.Compiled{{SQL: "UPDATE item SET a = 1"}}, Expect: make([]*db.Range, 1)}
		_, err := p.open().Transact(ctx, db.Call{Timeout: testTimeout}, tx, db.RowOptions{Format: db.Arrays}, nil)
		requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	})
}

// A server that says nothing at all, even to the login, does not hold a call longer than the time to connect.
func TestPeerSilentLogin(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("DB_ID()", reply{silent: true}))
	d := p.open(func(o *db.Options) { o.Pool.ConnectTimeout = 300 * time.Millisecond })
	started := time.Now()
	e := requireError(t, d.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, e.Message, "test_db")
	require.Less(t, time.Since(started), testTimeout/2)
}

// Values that only the server itself makes: all seven digits, and a sql_variant.
func TestPeerValues(t *testing.T) {
	t.Parallel()
	days := []byte{0xda, 0xb9, 0x37} // 9999-12-31
	ticks := []byte{0xff, 0xbf, 0x69, 0x2a, 0xc9}
	row := func(meta, value []byte) []byte {
		return append(append(append(meta, 0xd1), value...), done(16, 1)...)
	}
	for name, c := range map[string]struct {
		tokens []byte
		json   string
	}{
		"datetime2(7)":      {row(column(0x2a, 7), append(append([]byte{8}, ticks...), days...)), `[["9999-12-31T23:59:59.9999999"]]`},
		"time(7)":           {row(column(0x29, 7), append([]byte{5}, ticks...)), `[["23:59:59.9999999"]]`},
		"datetimeoffset(7)": {row(column(0x2b, 7), append(append(append([]byte{10}, 0, 0, 0, 0, 0), 0xfe, 0x41, 0x0b), 0xa4, 0x01)), `[["2021-01-01T07:00:00.0000000+07:00"]]`},
		"rowversion":        {row(column(0xad, 8, 0), append([]byte{8, 0}, 0, 0, 0, 0, 0, 0, 7, 0xd1)), `[["AAAAAAAAB9E="]]`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("SELECT v", reply{tokens: c.tokens}))
			set, err := p.open().Read(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "SELECT v"}, db.RowOptions{Format: db.Arrays})
			require.NoError(t, err)
			require.Equal(t, c.json, string(set.Rows))
		})
	}
	t.Run("sql_variant", func(t *testing.T) {
		t.Parallel()
		variant := append([]byte{6, 0, 0, 0, 0x38, 0}, 7, 0, 0, 0)
		p := newPeer(t, on("SELECT v", reply{tokens: row(column(0x62, 0x49, 0x1f, 0, 0), variant)}))
		_, err := p.open().Read(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: "SELECT v"}, db.RowOptions{Format: db.Arrays})
		e := requireError(t, err, db.ClassPermanent, contract.CodeNotSupported)
		require.Contains(t, e.Message, "CAST")
	})
}

// What a login is refused for names the database and the remedy, and nothing of the connection string.
func TestPeerLogins(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		number int32
		says   string
	}{
		"password":         {18456, "check user and password"},
		"no such database": {4060, "no database of the name in the connection string"},
		"another number":   {911, "no database of the name in the connection string"},
		"firewall":         {40615, "firewall"},
		"expired":          {18487, "expired"},
		"secondary":        {978, "ApplicationIntent"},
		"paused service":   {40613, "not available now"},
		"anything else":    {12345, "refused the connection"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, on("nothing", reply{}))
			p.login = reply{tokens: failure(c.number, 14, "Login failed for user 'sa' canary.", false)}
			e := requireError(t, p.open().Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
			require.Contains(t, e.Message, "test_db")
			require.Contains(t, e.Message, c.says)
			require.NotContains(t, e.Message, secret)
			require.NotContains(t, e.Message, "127.0.0.1")
		})
	}
}

// A server without encryption is not talked to where encryption was asked for.
func TestPeerWithoutEncryption(t *testing.T) {
	t.Parallel()
	p := newPeer(t, on("nothing", reply{}))
	d := p.open(func(o *db.Options) {
		o.ConnectionString = strings.Replace(o.ConnectionString, "encrypt=disable", "encrypt=true", 1)
		o.Settings = nil
	})
	e := requireError(t, d.Probe(t.Context()), db.ClassUnavailable, contract.CodeUnavailable)
	require.Contains(t, e.Message, "encrypt=")
}
