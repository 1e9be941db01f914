package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/cutproxy"
	"dbrunner/internal/db/dialect"
)

// crowd is a database with one connection, so that concurrent reads share a round trip.
type crowd struct {
	*bench

	options func(*dialect.Compiled) db.RowOptions // nil: objects
}

// answer is what one of many reads came to.
type answer struct {
	rows string
	err  error
}

func (a answer) String() string { return fmt.Sprintf("%q, error %v", a.rows, a.err) }

func newCrowd(t *testing.T, change ...func(*db.Options)) crowd {
	t.Helper()
	c := crowd{bench: setup(t, append(change, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })...)}
	c.sql(`CREATE FUNCTION do_this(what text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE what; RETURN 1; END $$`)
	c.sql("CREATE TABLE item AS SELECT n AS id FROM generate_series(1, 100) n")
	c.sql("ANALYZE item")
	return c
}

// The reads of the tests: one that finds a row, and one that does whatever its parameter says, or nothing.
const (
	plainRead = "SELECT id FROM item WHERE id = $1::int"
	anyRead   = "SELECT CASE WHEN $1::text = '' THEN 0 ELSE do_this($1::text) END AS done"
)

func stmt(sql, arg string) *dialect.Compiled {
	return &dialect.Compiled{SQL: sql, Args: []dialect.Value{{Kind: dialect.String, Text: arg}}}
}

func (c crowd) ask(ctx context.Context, s *dialect.Compiled, begin func() error) answer {
	call := db.Call{Timeout: c.opts.Limits.StatementTimeout, Begin: begin}
	opts := objects()
	if c.options != nil {
		opts = c.options(s)
	}
	set, err := c.db.Read(ctx, call, s, opts)
	return answer{string(set.Rows), err}
}

// waiting starts the reads while the connection is taken, and lets them go when all of them wait.
func (c crowd) waiting(reads []*dialect.Compiled, ctx func(i int) context.Context, begin func(i int) error) []answer {
	c.t.Helper()
	held, goOn, end := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := c.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) {
			close(held)
			<-goOn
			return nil, nil
		}, "SELECT 1")
		end <- err
	}()
	<-held
	answers := make([]answer, len(reads))
	var all sync.WaitGroup
	for i, s := range reads {
		all.Go(func() { answers[i] = c.ask(ctx(i), s, func() error { return begin(i) }) })
		eventually(c.t, func() bool { return c.db.Stats().Waiting == i+1 }, "the read waits")
	}
	close(goOn)
	require.NoError(c.t, <-end)
	all.Wait()
	return answers
}

func (c crowd) together(reads ...*dialect.Compiled) []answer {
	c.t.Helper()
	return c.waiting(reads, func(int) context.Context { return c.t.Context() }, func(int) error { return nil })
}

// warm runs both reads until the session lets them share round trips.
func (c crowd) warm() {
	c.t.Helper()
	eventually(c.t, func() bool {
		for _, s := range []*dialect.Compiled{stmt(plainRead, "1"), stmt(plainRead, "1"), stmt(plainRead, "1"), stmt(anyRead, ""), stmt(anyRead, ""), stmt(anyRead, "")} {
			require.NoError(c.t, c.ask(c.t.Context(), s, nil).err)
		}
		c.together(stmt(plainRead, "1"), stmt(anyRead, ""), stmt(plainRead, "2"), stmt(anyRead, ""))
		return c.shared()
	}, "reads share a round trip")
}

// shared reports whether the session has had a read batch.
func (c crowd) shared() bool {
	a := c.ask(c.t.Context(), &dialect.Compiled{SQL: "SELECT count(*)::int AS n FROM pg_prepared_statements WHERE name = 'dbr_next'"}, nil)
	require.NoError(c.t, a.err)
	return a.rows == `[{"n":1}]`
}

// plain are reads that share round trips, with a stranger among them.
func plain(stranger *dialect.Compiled) (reads []*dialect.Compiled) {
	for i := 1; i <= 12; i++ {
		reads = append(reads, stmt(plainRead, strconv.Itoa(i)))
		if i == 5 {
			reads = append(reads, stranger)
		}
	}
	return reads
}

const strangerAt = 5

func (c crowd) requireOthers(answers []answer) {
	c.t.Helper()
	n := 0
	for i, a := range answers {
		if i == strangerAt {
			continue
		}
		n++
		require.NoError(c.t, a.err, "read %d", i)
		require.Equal(c.t, `[{"id":`+strconv.Itoa(n)+`}]`, a.rows)
	}
}

func TestReadBatch(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.warm()
	answers := c.together(plain(stmt(anyRead, ""))...)
	c.requireOthers(answers)
	require.Equal(t, answer{rows: `[{"done":0}]`}, answers[strangerAt])
}

// elsewhere keeps the rows of one read that overflow.
type elsewhere struct {
	opened, closed int
	rows           []string
}

func (o *elsewhere) Open(int, []contract.Column) (db.RowFile, error) {
	o.opened++
	return o, nil
}

func (*elsewhere) AsArrays() bool { return true }

func (o *elsewhere) Row(text []byte) error {
	o.rows = append(o.rows, string(text))
	return nil
}

func (o *elsewhere) Close() (*contract.RowsObject, error) {
	o.closed++
	return &contract.RowsObject{}, nil
}

// TestSharedOverflow puts a read among others whose rows were few until now and overflow this time: its rows go outside in
// its own round trip, once, and the others have their answers.
func TestSharedOverflow(t *testing.T) {
	t.Parallel()
	const upTo = "SELECT id FROM item WHERE id <= $1::int ORDER BY id"
	for name, own := range map[string]int{"along": strangerAt, "leads": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t)
			c.warm()
			for range 4 {
				require.NoError(t, c.ask(t.Context(), stmt(upTo, "1"), nil).err)
			}
			reads := plain(stmt(upTo, "100"))
			large := &elsewhere{}
			c.options = func(s *dialect.Compiled) db.RowOptions {
				over := &elsewhere{}
				if s.SQL == upTo {
					over = large
				}
				return db.RowOptions{Format: db.Objects, InlineBytes: 300, Overflow: over, Sets: 1}
			}
			reads[own], reads[strangerAt] = reads[strangerAt], reads[own]
			answers := c.together(reads...)
			answers[own], answers[strangerAt] = answers[strangerAt], answers[own]
			c.requireOthers(answers)
			require.Equal(t, answer{}, answers[strangerAt], "no rows in the answer")
			require.Equal(t, []int{1, 1}, []int{large.opened, large.closed})
			require.Len(t, large.rows, 100)
			for i, row := range large.rows {
				n, array := strconv.Itoa(i+1), row[0] == '['
				require.Equal(t, map[bool]string{true: "[" + n + "]", false: `{"id":` + n + "}"}[array], row)
			}
		})
	}
}

// TestSharedStrangers puts reads among others that do what could reach their neighbours.
func TestSharedStrangers(t *testing.T) {
	t.Parallel()
	// A read that held up its neighbours is run again alone, where the name is not in use.
	const taken = "DO $own$ BEGIN DEALLOCATE dbr_next; EXCEPTION WHEN invalid_sql_statement_name THEN NULL; END $own$; "
	for name, k := range map[string]struct {
		does string
		code contract.Code // empty: it succeeds
	}{
		"Fails":            {"SELECT 1/0", contract.CodeData},
		"Writes":           {"INSERT INTO effect (id) VALUES (1)", contract.CodeReadOnly},
		"MakesItselfWrite": {"SET TRANSACTION READ WRITE", contract.CodeForbiddenStatement},
		"Deallocates":      {"DEALLOCATE ALL", ""},
		"TakesTheName":     {taken + "PREPARE dbr_next AS SELECT 1", ""},
		"MakesTheNameHarm": {taken + "PREPARE dbr_next AS INSERT INTO effect (id) VALUES (2)", ""},
		"Sets":             {"SELECT set_config('search_path', 'nowhere', false)", ""},
		"SetsRole":         {"SET ROLE pg_read_all_data", ""},
		"Locks":            {"SELECT pg_advisory_lock(4711)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCrowd(t)
			c.warm()
			for range 2 {
				answers := c.together(plain(stmt(anyRead, k.does))...)
				c.requireOthers(answers)
				if k.code == "" {
					require.Equal(t, answer{rows: `[{"done":1}]`}, answers[strangerAt])
				} else {
					var e *db.Error
					require.ErrorAs(t, answers[strangerAt].err, &e)
					require.Equal(t, k.code, e.Code)
					require.Zero(t, e.Statement)
				}
				require.Zero(t, c.effects())
			}
			a := c.ask(t.Context(), &dialect.Compiled{SQL: "SELECT current_setting('search_path') AS s, current_user = session_user AS u"}, nil)
			require.NoError(t, a.err)
			require.NotContains(t, a.rows, "nowhere")
			require.Contains(t, a.rows, `"u":true`)
			eventually(t, func() bool { return c.advisoryLocks() == 0 }, "no lock is left")
		})
	}
}

// TestSharedEndsItsSession has the others run again.
func TestSharedEndsItsSession(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.warm()
	answers := c.together(plain(stmt(anyRead, "SELECT pg_terminate_backend(pg_backend_pid())"))...)
	c.requireOthers(answers)
	require.Equal(t, db.ClassLost, db.ClassOf(answers[strangerAt].err), "%v", answers[strangerAt].err)
}

func TestSharedLinkCut(t *testing.T) {
	t.Parallel()
	var proxy *cutproxy.Proxy
	c := newCrowd(t, func(o *db.Options) {
		u, err := url.Parse(o.ConnectionString)
		require.NoError(t, err)
		proxy = cutproxy.New(t, u.Host)
		o.ConnectionString = proxy.URL(o.ConnectionString)
	})
	c.warm()
	cut := proxy.CutBefore(cutproxy.Text("dbr_next"))
	lost := 0
	for _, a := range c.together(plain(stmt(anyRead, ""))...) {
		if a.err != nil {
			require.Equal(t, db.ClassLost, db.ClassOf(a.err), "%v", a.err)
			lost++
		}
	}
	<-cut
	require.LessOrEqual(t, lost, 1, "only the one whose answer was due when the link was lost has the error")
}

// TestSharedStalls has a read wait for a lock on one of two connections: those that share its round trip get their answers
// over the other one.
func TestSharedStalls(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.sql("CREATE TABLE blocked AS SELECT 1 AS id")
	c.db = c.open(func() db.Options { o := c.opts; o.Pool.Min, o.Pool.Max = 2, 2; return o }())
	eventually(t, func() bool {
		c.all(t.Context(), plain(stmt(anyRead, "")), nil)
		return c.shared()
	}, "reads share a round trip")
	c.sql("BEGIN; LOCK TABLE blocked IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := c.all(ctx, plain(stmt(anyRead, "SELECT id FROM blocked")), cancel)
	c.sql("COMMIT")
	c.requireOthers(answers)
	require.Equal(t, db.ClassCanceled, db.ClassOf(answers[strangerAt].err), "%v", answers[strangerAt].err)
}

// all runs the reads concurrently, the stranger under ctx. others is called when all but the stranger have their answers.
func (c crowd) all(ctx context.Context, reads []*dialect.Compiled, others func()) []answer {
	answers := make([]answer, len(reads))
	var stranger, rest sync.WaitGroup
	for i, s := range reads {
		if i == strangerAt {
			stranger.Go(func() { answers[i] = c.ask(ctx, s, nil) })
			continue
		}
		rest.Go(func() { answers[i] = c.ask(c.t.Context(), s, nil) })
	}
	rest.Wait()
	if others != nil {
		others()
	}
	stranger.Wait()
	return answers
}

// TestSharedGivenUp cancels one of the reads while the round trip is in progress.
func TestSharedGivenUp(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.sql("CREATE TABLE blocked AS SELECT 1 AS id")
	c.warm()
	c.sql("BEGIN; LOCK TABLE blocked IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for c.sessionsBeside("wait_event_type = 'Lock'") == 0 && ctx.Err() == nil {
			time.Sleep(time.Millisecond) // by the clock: the server does not announce that a statement waits for a lock
		}
		cancel()
	}()
	answers := c.waiting(plain(stmt(anyRead, "SELECT id FROM blocked")), func(i int) context.Context {
		if i == strangerAt {
			return ctx
		}
		return t.Context()
	}, func(int) error { return nil })
	c.requireOthers(answers)
	require.Equal(t, db.ClassCanceled, db.ClassOf(answers[strangerAt].err), "%v", answers[strangerAt].err)
	eventually(t, func() bool { return c.sessionsBeside("wait_event_type = 'Lock'") == 0 }, "the statement was stopped in the server")
	c.sql("COMMIT")
}

// sessionsBeside counts sessions over a connection of its own: for goroutines beside the test's.
func (c crowd) sessionsBeside(where string) int {
	conn := connect(c.t, c.opts.ConnectionString)
	defer func() { _ = conn.Close(context.Background()) }()
	var n int
	err := conn.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "+
		"AND application_name LIKE 'dbrunner%' AND "+where).Scan(&n)
	if err != nil {
		c.t.Error(err)
	}
	return n
}

// TestSharedRefused lets one of the reads go before anything of it is sent.
func TestSharedRefused(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.warm()
	refusal := errors.New("not any more")
	answers := c.waiting(plain(stmt(anyRead, "INSERT INTO effect (id) VALUES (1)")),
		func(int) context.Context { return t.Context() },
		func(i int) error {
			if i == strangerAt {
				return refusal
			}
			return nil
		})
	c.requireOthers(answers)
	require.Equal(t, refusal, answers[strangerAt].err)
}

// TestSharedCaps refuses one answer that is too large and keeps the others.
func TestSharedCaps(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	const some = "SELECT n FROM generate_series(1, $1::int) n"
	read := func(n string, limit int64) answer {
		set, err := c.db.Read(t.Context(), db.Call{Timeout: c.opts.Limits.StatementTimeout}, stmt(some, n), db.RowOptions{Format: db.Arrays, MaxRows: limit})
		return answer{string(set.Rows), err}
	}
	for range 5 {
		require.NoError(t, read("2", 3).err)
	}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			if i%10 == 3 {
				e := new(db.Error)
				if a := read("200", 3); !errors.As(a.err, &e) || e.Code != contract.CodeResultTooLarge {
					t.Errorf("%v", a)
				}
				return
			}
			if a := read("2", 3); a != (answer{rows: "[[1],[2]]"}) {
				t.Errorf("%v", a)
			}
		})
	}
	all.Wait()
}

// TestSharedStorm has many concurrent reads of all sorts, some of them given up at any moment, beside transactions that
// want connections too.
func TestSharedStorm(t *testing.T) {
	t.Parallel()
	c := newCrowd(t)
	c.db = c.open(func() db.Options { o := c.opts; o.Pool.Max = 3; return o }())
	var all sync.WaitGroup
	for g := range 40 {
		all.Go(func() {
			for i := range 60 {
				c.storm(g, i)
			}
		})
	}
	all.Wait()
	eventually(t, func() bool { s := c.db.Stats(); return s.InUse == 0 && s.Waiting == 0 }, "all connections are back")
}

func (c crowd) storm(g, i int) {
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	switch rand.N(20) {
	case 0:
		time.AfterFunc(rand.N(5*time.Millisecond), cancel)
	case 1:
		if a := c.ask(ctx, stmt(anyRead, "SELECT 1/0"), nil); db.ClassOf(a.err) != db.ClassPermanent {
			c.t.Errorf("%v", a)
		}
	case 2:
		_, err := c.db.Transact(ctx, call(), transaction("SELECT 1"), objects(), nil)
		if err != nil {
			c.t.Error(err)
		}
	case 3:
		a := c.ask(ctx, stmt(anyRead, "SELECT pg_sleep(0.01)"), nil)
		if a != (answer{rows: `[{"done":1}]`}) {
			c.t.Errorf("%v", a)
		}
	case 4:
		a := c.ask(ctx, stmt(anyRead, "DEALLOCATE ALL"), nil)
		if a != (answer{rows: `[{"done":1}]`}) {
			c.t.Errorf("%v", a)
		}
	}
	n := strconv.Itoa((g+i)%100 + 1)
	a := c.ask(ctx, stmt(plainRead, n), nil)
	if a != (answer{rows: `[{"id":` + n + `}]`}) && (db.ClassOf(a.err) != db.ClassCanceled || ctx.Err() == nil) {
		c.t.Errorf("read %s: %v", n, a)
	}
}
