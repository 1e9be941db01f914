package postgres_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// injector stands between the engine and the server and says something of its own before one of the server's messages,
// or before each of them.
type injector struct {
	listen net.Listener
	target string
	all    sync.WaitGroup

	mu    sync.Mutex // guards what follows
	links map[net.Conn]struct{}
	left  int    // messages that pass before the FATAL error; below zero: it is not armed
	every []byte // is sent before each message
}

func newInjector(t testing.TB, connection string) (*injector, string) {
	t.Helper()
	u, err := url.Parse(connection)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &injector{listen: l, target: u.Host, left: -1, links: map[net.Conn]struct{}{}}
	u.Host = l.Addr().String()
	p.all.Go(p.accept)
	t.Cleanup(p.close)
	return p, u.String()
}

func (p *injector) close() {
	_ = p.listen.Close()
	p.mu.Lock()
	for c := range p.links {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// kill arms a FATAL error behind so many messages of the server.
func (p *injector) kill(after int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = after
}

// disarm reports whether the FATAL error was still to come.
func (p *injector) disarm() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	armed := p.left >= 0
	p.left = -1
	return armed
}

func (p *injector) interject(messages []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.every = messages
}

// next returns what is said before a message, and whether it is the last thing. Nothing is said during a login.
func (p *injector) next(ready bool) (say []byte, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == 0 {
		p.left = -1
		return fatalMessage(), true
	}
	p.left = max(p.left-1, -1)
	if !ready {
		return nil, false
	}
	return p.every, false
}

func (p *injector) said() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.every
}

func (p *injector) accept() {
	for {
		c, err := p.listen.Accept()
		if err != nil {
			return
		}
		s, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = c.Close()
			continue
		}
		p.mu.Lock()
		p.links[c], p.links[s] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.all.Go(func() { _, _ = io.Copy(s, c); _ = s.Close() })
		p.all.Go(func() { p.answers(c, s); _ = c.Close(); _ = s.Close() })
	}
}

// answers passes the server's messages on.
func (p *injector) answers(client, server net.Conn) {
	in := bufio.NewReader(server)
	for ready := false; ; {
		head := make([]byte, 5)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		say, last := p.next(ready)
		if head[0] == 'Z' && !ready { // what is said now comes along with the end of the login
			ready = true
			body = append(body, p.said()...)
		}
		if last {
			_, _ = client.Write(say)
			return
		}
		if _, err := client.Write(slices.Concat(say, head, body)); err != nil {
			return
		}
	}
}

func message(kind byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(b, body...)
}

func fatalMessage() []byte {
	return message('E', "SFATAL\x00VFATAL\x00C57P01\x00Mterminating connection due to administrator command\x00Fpostgres.c\x00L3\x00RProcessInterrupts\x00\x00")
}

// unasked is what a server may say at any moment without being asked.
func unasked() []byte {
	return slices.Concat(
		message('N', "SNOTICE\x00VNOTICE\x00C00000\x00Msomething\x00\x00"),
		message('N', "SWARNING\x00VWARNING\x00C57P01\x00Msomething\x00Fmisc.c\x00L1\x00RElsewhere\x00\x00"),
		message('S', "application_name\x00somebody\x00"),
		message('A', "\x00\x00\x00\x07channel\x00payload\x00"),
	)
}

// operation is one call of the engine: run makes it, and check compares what it said with what is there.
type operation struct {
	run   func(b *bench, job string) error
	check func(t *testing.T, b *bench, job string, err error)
}

// operations are all ways in which the engine talks to the server.
func operations() map[string]operation {
	own := func(run func(b *bench, job string) error) operation { return operation{run, nothingUnknown} }
	return map[string]operation{
		"read": own(func(b *bench, _ string) error { _, err := b.read("SELECT 1 AS n, 'x'::effect_kind AS v"); return err }),
		"transaction": {func(b *bench, job string) error {
			_, err := b.transact(sealed(job), insertOne, "SELECT 1 AS n")
			return err
		}, effectWithRow},
		"transaction with a batch": {func(b *bench, job string) error {
			rows := rowsOf{{{Kind: dialect.Number, Text: "1"}, {Kind: dialect.String, Text: "note"}}}
			tx := transaction("SELECT 1 AS n", "INSERT INTO effect (id, note) VALUES ($1, $2)", "SELECT 2 AS n")
			tx.Statements[1].Batch = rows
			_, err := b.db.Transact(b.t.Context(), call(), tx, objects(), sealed(job))
			return err
		}, effectWithRow},
		"transaction without a ledger row": {func(b *bench, _ string) error {
			_, err := b.transact(nil, insertOne)
			return err
		}, effectOrNot},
		"transaction that fails": {func(b *bench, job string) error {
			_, err := b.transact(sealed(job), insertOne, "SELECT 1/0")
			return err
		}, effectWithRow},
		"statement at most once": {func(b *bench, job string) error {
			_, err := (&outside{b: b}).run(b.t.Context(), job, testTimeout, insertOne)
			return err
		}, statementOnce},
		"statement": {func(b *bench, _ string) error {
			_, err := b.db.Execute(b.t.Context(), call(), &dialect.Compiled{SQL: insertOne}, objects(), nil)
			return err
		}, effectOrNot},
		"Record": {func(b *bench, job string) error { _, _, err := b.db.Record(b.t.Context(), entry(job)); return err }, recorded},
		"Lookup": own(func(b *bench, job string) error { _, err := b.db.Lookup(b.t.Context(), job); return err }),
		"Conclude": {func(b *bench, job string) error {
			e := entry(job)
			e.Status = db.StatusStarted
			if _, _, err := b.open(b.direct()).Record(b.t.Context(), e); err != nil {
				return err
			}
			_, _, err := b.db.RecordEnd(b.t.Context(), entry(job), false)
			return err
		}, recorded},
		"Sweep": own(func(b *bench, _ string) error {
			_, err := b.db.Sweep(b.t.Context(), entry("x").Timestamp, 5)
			return err
		}),
		"Now":   own(func(b *bench, _ string) error { _, err := b.db.Now(b.t.Context()); return err }),
		"Probe": own(func(b *bench, _ string) error { return b.db.Probe(b.t.Context()) }),
		"Probe of a missing ledger": own(func(b *bench, _ string) error {
			b.sql("DROP SCHEMA dbrunner CASCADE")
			defer func() { require.NoError(b.t, b.open(b.direct()).Probe(b.t.Context())) }()
			return b.db.Probe(b.t.Context())
		}),
		"Check": own(func(b *bench, _ string) error { _, err := b.db.Check(b.t.Context()); return err }),
		"first use of a pool": own(func(b *bench, _ string) error {
			d := b.open(b.opts)
			_, err := d.Read(b.t.Context(), call(), &dialect.Compiled{SQL: "SELECT 1 AS n"}, objects())
			return err
		}),
	}
}

// rowsOf are a batch's rows.
type rowsOf [][]dialect.Value

func (r rowsOf) Open(context.Context) (dialect.BatchRows, error) { return &rowsReader{rest: r}, nil }

type rowsReader struct{ rest rowsOf }

func (r *rowsReader) Next() ([]dialect.Value, error) {
	if len(r.rest) == 0 {
		return nil, io.EOF
	}
	next := r.rest[0]
	r.rest = r.rest[1:]
	return next, nil
}

func (*rowsReader) Close() error { return nil }

// nothingUnknown: what changes nothing is never of an unknown end.
func nothingUnknown(t *testing.T, _ *bench, _ string, err error) {
	t.Helper()
	require.Contains(t, []db.Class{0, db.ClassLost, db.ClassUnavailable}, db.ClassOf(err), "%v", err)
}

// effectWithRow: effect and ledger row are there together, both if that was said, neither if it was said that nothing is
// committed.
func effectWithRow(t *testing.T, b *bench, job string, err error) {
	t.Helper()
	row, lookErr := b.open(b.direct()).Lookup(t.Context(), job)
	require.NoError(t, lookErr)
	require.Equal(t, b.effects() == 1, row != nil, "%v", err)
	effectOrNot(t, b, job, err)
}

func effectOrNot(t *testing.T, b *bench, _ string, err error) {
	t.Helper()
	switch {
	case err == nil:
		require.Equal(t, 1, b.effects())
	case db.ClassOf(err) != db.ClassUnknown:
		require.Zero(t, b.effects(), "%v", err)
	}
}

func statementOnce(t *testing.T, b *bench, job string, err error) {
	t.Helper()
	row, lookErr := b.open(b.direct()).Lookup(t.Context(), job)
	require.NoError(t, lookErr)
	effectOrNot(t, b, job, err)
	if err == nil {
		require.Equal(t, "succeeded", row.Status)
	}
	if b.effects() == 1 {
		require.NotNil(t, row, "nothing is executed before its row: %v", err)
	}
}

// recorded: a ledger row that may be there is not said to be absent.
func recorded(t *testing.T, b *bench, job string, err error) {
	t.Helper()
	row, lookErr := b.open(b.direct()).Lookup(t.Context(), job)
	require.NoError(t, lookErr)
	there := row != nil && row.Status == "succeeded"
	if err == nil {
		require.True(t, there)
	} else if db.ClassOf(err) != db.ClassUnknown {
		require.False(t, there, "%v", err)
	}
}

// direct are the options without the injector.
func (b *bench) direct() db.Options {
	o := b.opts
	o.ConnectionString = b.admin.Config().ConnString()
	return o
}

// injected is a database with one connection, behind an injector.
func injected(t *testing.T) (*bench, *injector) {
	t.Helper()
	var p *injector
	b := setup(t, func(o *db.Options) {
		p, o.ConnectionString = newInjector(t, o.ConnectionString)
		o.Pool.Min, o.Pool.Max = 0, 1
	})
	b.sql("CREATE TYPE effect_kind AS ENUM ('x')")
	return b, p
}

// TestFatalAtEveryMessage ends the session at each message of the server, in each call: the end of the call is true, and
// the connection and the turn to lead the reads are free again.
func TestFatalAtEveryMessage(t *testing.T) {
	t.Parallel()
	for name, op := range operations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, p := injected(t)
			for at := 0; ; at++ {
				require.Less(t, at, 200)
				job := "job-" + string(rune('a'+at%26)) + string(rune('a'+at/26))
				b.sql("DELETE FROM effect")
				_, err := b.read("SELECT 1 AS n")
				require.NoError(t, err)
				p.kill(at)
				err = op.run(b, job)
				over := p.disarm()
				op.check(t, b, job, err)
				b.requireAtRest()
				if over {
					break
				}
			}
		})
	}
}

// requireAtRest: no connection is in use, and reads and transactions find one.
func (b *bench) requireAtRest() {
	b.t.Helper()
	eventually(b.t, func() bool { return b.db.Stats().InUse == 0 }, "the connection is free")
	_, err := b.read("SELECT 1 AS n")
	if db.ClassOf(err) == db.ClassLost { // a FATAL error behind the end of the call before
		_, err = b.read("SELECT 1 AS n")
	}
	require.NoError(b.t, err)
	_, err = b.transact(nil, "SELECT 1 AS n")
	require.NoError(b.t, err)
}

// TestUnaskedMessages has the server send unrequested messages before each of its messages, also while it connects.
func TestUnaskedMessages(t *testing.T) {
	t.Parallel()
	for name, op := range operations() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, p := injected(t)
			fails := op.run(b, "warm-up")
			for _, job := range []string{"first", "second"} {
				b.sql("DELETE FROM effect")
				p.interject(unasked())
				err := op.run(b, job)
				require.Equal(t, db.ClassOf(fails), db.ClassOf(err), "%v", err)
				op.check(t, b, job, err)
				b.requireAtRest()
			}
			d := b.open(b.opts)
			_, err := d.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT 1 AS n"}, objects())
			require.NoError(t, err)
		})
	}
}

// TestFatalAtEveryMessageOfAReadBatch: reads that share a round trip have their rows, or an error that is theirs to repeat.
func TestFatalAtEveryMessageOfAReadBatch(t *testing.T) {
	t.Parallel()
	var p *injector
	c := newCrowd(t, func(o *db.Options) { p, o.ConnectionString = newInjector(t, o.ConnectionString) })
	for at := 0; ; at++ {
		require.Less(t, at, 200)
		c.warm()
		var once sync.Once
		reads := []*dialect.Compiled{stmt(plainRead, "1"), stmt(anyRead, ""), stmt(plainRead, "2"), stmt(plainRead, "3")}
		answers := c.waiting(reads, func(int) context.Context { return t.Context() }, func(int) error {
			once.Do(func() { p.kill(at) }) // now the connection is the reads'
			return nil
		})
		over := p.disarm()
		for i, a := range answers {
			if a.err != nil {
				require.Equal(t, db.ClassLost, db.ClassOf(a.err), "read %d: %v", i, a.err)
				continue
			}
			require.Equal(t, []string{`[{"id":1}]`, `[{"done":0}]`, `[{"id":2}]`, `[{"id":3}]`}[i], a.rows)
		}
		c.requireAtRest()
		if over {
			break
		}
	}
}

// TestPanicOfACallback: a panic in what the caller has the engine call costs the session and nothing else.
func TestPanicOfACallback(t *testing.T) {
	t.Parallel()
	b := setup(t, func(o *db.Options) { o.Pool.Min, o.Pool.Max = 1, 1 })
	boom := errors.New("boom")
	begin := db.Call{Timeout: testTimeout, Begin: func() error { panic(boom) }}
	for name, work := range map[string]func(){
		"seal": func() {
			_, _ = b.transact(func(context.Context, []db.ResultSet) (*db.Entry, error) { panic(boom) }, insertOne)
		},
		"begin of a read": func() {
			_, _ = b.db.Read(t.Context(), begin, &dialect.Compiled{SQL: "SELECT 1 AS n"}, objects())
		},
		"begin of a transaction": func() {
			_, _ = b.db.Transact(t.Context(), begin, transaction(insertOne), objects(), nil)
		},
		"rows elsewhere": func() {
			opts := db.RowOptions{Format: db.Objects, InlineBytes: 300, Overflow: panics{}, Sets: 1}
			_, _ = b.db.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT n FROM generate_series(1, 1000) n"}, opts)
		},
	} {
		require.PanicsWithError(t, "boom", work, name)
		require.Zero(t, b.effects(), name)
		b.requireAtRest()
	}
}

type panics struct{}

func (panics) Open(int, []contract.Column) (db.RowFile, error) { panic(errors.New("boom")) }
