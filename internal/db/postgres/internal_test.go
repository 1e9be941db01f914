package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/engine"
)

// TestEveryCondition has a class and a code for every error of the manual's Appendix A.
func TestEveryCondition(t *testing.T) {
	t.Parallel()
	require.Greater(t, len(conditions), 245)
	for code, name := range conditions {
		require.Len(t, code, 5)
		require.NotEmpty(t, name)
		_, one := byCode[code]
		_, all := byClass[code[:2]]
		require.True(t, one || all, "%s %s has no class", code, name)
		v := judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"})
		require.NotZero(t, v.class, code)
		require.NotEmpty(t, v.code, code)
		v = judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"})
		require.NotContains(t, []db.Class{db.ClassPermanent, db.ClassTransient}, v.class, "%s ended the session", code)
	}
	for code := range byCode {
		require.Contains(t, conditions, code)
	}
	for code := range remedies {
		require.Contains(t, conditions, code)
	}
	require.Equal(t, verdict{db.ClassPermanent, contract.CodeDatabase}, judge(&pgconn.PgError{Code: "ZZ999"}))
	require.Equal(t, verdict{db.ClassPermanent, contract.CodeDatabase}, judge(&pgconn.PgError{}))
}

// TestClasses fixes what repeating depends on.
func TestClasses(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]db.Class{
		"40001": db.ClassTransient, "40P01": db.ClassTransient, "55P03": db.ClassTransient,
		"08000": db.ClassTransient, "08001": db.ClassTransient, "08006": db.ClassTransient, "57P01": db.ClassTransient,
		"57P02": db.ClassTransient, "25P03": db.ClassTransient, "57P05": db.ClassTransient,
		"57P03": db.ClassTransient, "53300": db.ClassTransient, "57P04": db.ClassTransient,
		"40003": db.ClassPermanent, "08007": db.ClassPermanent, "08P01": db.ClassPermanent, "57014": db.ClassTimeout,
		"22P02": db.ClassPermanent, "23505": db.ClassPermanent, "42601": db.ClassPermanent, "0A000": db.ClassPermanent,
		"28000": db.ClassPermanent, "3D000": db.ClassPermanent, "54000": db.ClassPermanent, "25006": db.ClassPermanent,
		"XX000": db.ClassPermanent, "P0001": db.ClassPermanent,
	} {
		require.Equal(t, want, judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "ERROR"}).class, code)
	}
	for _, code := range []string{"08000", "08006", "57P01", "57P02", "57P05", "25P03", "40003", "XX000"} {
		require.Equal(t, db.ClassLost, judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"}).class, code)
	}
	for _, code := range []string{"57P03", "53300", "57P04"} { // as errors they are raised by a job's function: see above
		require.Equal(t, db.ClassUnavailable, judge(&pgconn.PgError{Code: code, SeverityUnlocalized: "FATAL"}).class, code)
	}
}

// TestDescribe never lets the server's text through, only names.
func TestDescribe(t *testing.T) {
	t.Parallel()
	e := &pgconn.PgError{
		Code: "23505", Message: "canary", Detail: "Key (a)=(canary)", Hint: "canary", Where: "canary", InternalQuery: "canary",
		ConstraintName: "c", TableName: "t", SchemaName: "s",
	}
	require.Equal(t, `unique violation, constraint "c", table "s.t"`, describe(e, ""))
	require.Equal(t, "insufficient privilege, table accounts",
		describe(&pgconn.PgError{Code: "42501", Message: "permission denied for table accounts"}, ""))
	require.Equal(t, "insufficient privilege",
		describe(&pgconn.PgError{Code: "42501", Message: "permission denied for table 'canary'"}, ""))
	for _, c := range []struct {
		sql      string
		position int32
		want     string
	}{
		{"SELECT x", 8, "x"},
		{"SELECT 'canary'", 8, ""},
		{"SELECT E'canary'", 8, ""},
		{"SELECT U&'canary'", 8, ""},
		{"SELECT 4711", 8, ""},
		{"SELECT $$canary$$", 8, ""},
		{`SELECT "canary"`, 8, ""},
		{"SELECT a.b", 8, "a.b"},
		{"SELECT ü FROM", 10, "FROM"},
		{"SELECT x", 99, ""},
		{"SELECT x", -1, ""},
		{"a <> 'x'", 3, "<>"},
		{"", 1, ""},
	} {
		require.Equal(t, c.want, wordAt(c.sql, c.position), c.sql)
	}
}

func TestLinkLost(t *testing.T) {
	t.Parallel()
	require.False(t, linkLost(errOutOfOrder))
	require.False(t, linkLost(errors.New("x")))
}

// TestBuiltins checks the tables against each other.
func TestBuiltins(t *testing.T) {
	t.Parallel()
	for _, b := range builtins {
		require.Equal(t, b.shown, builtinName(b.oid))
		got, ok := typeOf(b.shown)
		require.True(t, ok, b.shown)
		require.Equal(t, b.oid, got.oid, b.shown)
		if b.array == 0 {
			continue
		}
		require.Equal(t, b.shown+"[]", builtinName(b.array))
		got, ok = typeOf(b.shown + "[]")
		require.True(t, ok)
		require.Equal(t, paramType{oid: b.array, elem: b.oid, array: true, delim: delimOf(b.oid)}, got)
	}
	for _, alias := range []string{"int", "decimal", "float", "char", "CHAR(3)", "Character Varying(10)", "timestamp(3)", "_int4", " integer [] "} {
		got, ok := typeOf(alias)
		require.True(t, ok, alias)
		require.NotZero(t, got.oid, alias)
	}
	for _, bad := range []string{"", "a b c", "x; y", "a.b.c", "int4[", strings.Repeat("x", 300), "\xff", "a'b"} {
		_, ok := typeOf(bad)
		require.False(t, ok, bad)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s, err := parseSettings(map[string]string{"label_sessions": "true", "show_raised_messages": "1"})
	require.NoError(t, err)
	require.Equal(t, settings{label: true, showMessages: true}, s)
	_, err = parseSettings(map[string]string{"label_sessions": "maybe", "other": "x"})
	require.ErrorContains(t, err, "label_sessions must be true or false")
	require.ErrorContains(t, err, `unknown setting "other"`)
}

// TestOldServer leaves the parameter out that servers before 14 do not know.
func TestOldServer(t *testing.T) {
	t.Parallel()
	d := &Database{}
	require.False(t, d.checkIntervalRefused(&pgconn.PgError{Code: "42704", Message: `unrecognized configuration parameter "x"`}))
	require.False(t, d.noCheckInterval.Load())
	require.True(t, d.checkIntervalRefused(&pgconn.PgError{
		Code: "42704", Message: `unrecognized configuration parameter "client_connection_check_interval"`,
	}))
	require.True(t, d.noCheckInterval.Load())
}

// FuzzArray turns JSON arrays into literals: never a panic, never an unbalanced literal.
func FuzzArray(f *testing.F) {
	for _, seed := range []string{`[1,null]`, `[[1,2],[3,4]]`, `["a\"b\\","\u00fc",""]`, `[ ]`, `[{"a":[1,"}"]}]`, `[true , false]`} {
		f.Add(seed, uint32(oidText))
		f.Add(seed, uint32(oidJSONB))
	}
	f.Fuzz(func(t *testing.T, text string, elem uint32) {
		if text == "" || text[0] != '[' || !json.Valid([]byte(text)) {
			return
		}
		out, wrong := appendArray(nil, text, paramType{elem: elem})
		if wrong != "" {
			return
		}
		depth, quoted := 0, false
		for i := 0; i < len(out); i++ {
			switch c := out[i]; {
			case quoted && c == '\\':
				i++
			case c == '"':
				quoted = !quoted
			case !quoted && c == '{':
				depth++
			case !quoted && c == '}':
				depth--
				if depth == 0 && i != len(out)-1 {
					t.Fatalf("%q: the literal ends early: %q", text, out)
				}
			}
		}
		if depth != 0 || quoted {
			t.Fatalf("%q: not balanced: %q", text, out)
		}
	})
}

// FuzzValue writes any text of any kind that is a string as valid JSON.
func FuzzValue(f *testing.F) {
	f.Add([]byte("NaN"), byte(asFloat))
	f.Add([]byte(`\x00ff`), byte(asBytes))
	f.Add([]byte(`a\\b\001`), byte(asBytes))
	f.Add([]byte("\xff\""), byte(asText))
	f.Fuzz(func(t *testing.T, v []byte, k byte) {
		if k := kind(k); k != asText && k != asBytes && k != asBool {
			return
		}
		if out, _ := appendValue(nil, kind(k), v); !json.Valid(out) {
			t.Fatalf("%q as %d: %q", v, k, out)
		}
	})
}

// BenchmarkBind appends the messages of a statement that the session has prepared: two parameters without a type, and two
// with one.
func BenchmarkBind(b *testing.B) {
	plain := []dialect.Value{{Kind: dialect.Number, Text: "4711"}, {Kind: dialect.String, Text: "some text"}}
	typed := []dialect.Value{{Kind: dialect.String, Type: "uuid", Text: "8f14e45f-ceea-467f-a8d2-7d3a2b1c0d9e"}, {Kind: dialect.Array, Type: "integer[]", Text: "[1,2,3]"}}
	for name, args := range map[string][]dialect.Value{"Plain": plain, "Typed": typed} {
		b.Run(name, func(b *testing.B) {
			s := &session{statement: newCache(true)}
			stmt := &dialect.Compiled{SQL: "SELECT $1, $2", Args: args}
			b.ReportAllocs()
			for b.Loop() {
				s.buf, s.sent = s.buf[:0], s.sent[:0]
				if err := s.appendStatement(stmt, true); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkEncodeRow encodes rows of five columns as they come from the wire.
func BenchmarkEncodeRow(b *testing.B) {
	kinds := []kind{asNumber, asText, asFloat, asText, asBool}
	columns := []contract.Column{{Name: "id"}, {Name: "name"}, {Name: "score"}, {Name: "at"}, {Name: "flag"}}
	body := []byte{0, 5}
	for _, v := range []string{"4711", "item 4711", "4711.25", "2026-01-04 06:31:00+00", "t"} {
		body = appendTextArg(body, v)
	}
	const rows = 1000
	s := &session{encoder: engine.NewRowEncoder(db.RowOptions{}, new(db.Buffers))}
	b.ReportAllocs()
	for b.Loop() {
		s.encoder.Reset(db.RowOptions{Format: db.Objects})
		s.encoder.Expect(100 << 10)
		if err := s.encoder.Start(columns); err != nil {
			b.Fatal(err)
		}
		for range rows {
			if err := s.encodeRow(columns, kinds, body); err != nil {
				b.Fatal(err)
			}
		}
		set, err := s.encoder.Finish()
		if err != nil {
			b.Fatal(err)
		}
		set.Free()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
}

// FuzzFrames: whatever the server sends, reading it ends, and never beyond what was sent.
func FuzzFrames(f *testing.F) {
	f.Add([]byte{'D', 0, 0, 0, 11, 0, 1, 0, 0, 0, 1, 'x', 'Z', 0, 0, 0, 5, 'I'})
	f.Add([]byte{'D', 0, 0, 0, 3})
	f.Add([]byte{'D', 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, sent []byte) {
		in := newFrames(iotest.OneByteReader(bytes.NewReader(sent)))
		in.limit = 1 << 20
		read := 0
		for {
			_, body, err := in.next()
			if err != nil {
				return
			}
			read += frameHead + len(body)
			require.LessOrEqual(t, read, len(sent))
			values, ok := rowOf(body)
			for i := 0; ok && i < values.count; i++ {
				_, ok = values.value()
			}
			copyRow(body)
			require.Error(t, errorOf(body))
		}
	})
}

// pauses delivers its parts one by one, with a deadline's error between any two of them.
type pauses struct {
	parts [][]byte
	late  bool
}

func (p *pauses) Read(b []byte) (int, error) {
	if p.late = !p.late; p.late {
		return 0, os.ErrDeadlineExceeded
	}
	n := copy(b, p.parts[0])
	if p.parts[0] = p.parts[0][n:]; len(p.parts[0]) == 0 {
		p.parts = p.parts[1:]
	}
	return n, nil
}

// TestFramesGoOnAfterADeadline: nothing is lost when reading stops in the middle of a message, and a large message's
// memory is given up.
func TestFramesGoOnAfterADeadline(t *testing.T) {
	t.Parallel()
	large := bytes.Repeat([]byte("x"), 3*frameBuffer)
	message := func(kind byte, body []byte) []byte {
		b, at := beginMessage(nil, kind)
		return endMessage(append(b, body...), at)
	}
	all := slices.Concat(message('D', large), message('C', []byte("SELECT 1\x00")), message('Z', []byte("I")))
	in := newFrames(&pauses{parts: slices.Collect(slices.Chunk(all, 1000))})
	next := func() (byte, []byte) {
		for {
			kind, body, err := in.next()
			if err == nil {
				return kind, body
			}
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		}
	}
	kind, body := next()
	require.Equal(t, byte('D'), kind)
	require.Equal(t, large, body)
	kind, body = next()
	require.Equal(t, byte('C'), kind)
	require.Equal(t, "SELECT 1", string(tagOf(body)))
	kind, body = next()
	require.Equal(t, byte('Z'), kind)
	require.Equal(t, "I", string(body))
}

// slowLink is a link whose first write returns long after the server has answered it.
type slowLink struct {
	net.Conn
	once sync.Once
}

func (l *slowLink) Write(b []byte) (int, error) {
	n, err := l.Conn.Write(b)
	l.once.Do(func() { time.Sleep(200 * time.Millisecond) }) // by the clock: the driver takes a write for slow after 15 ms
	return n, err
}

// TestLoginOverASlowLink has the answers of the session's first query, whatever the driver read during the login.
func TestLoginOverASlowLink(t *testing.T) {
	t.Parallel()
	config, err := poolConfig(&db.Options{Name: "test_db", ConnectionString: dbtest.Postgres(t)})
	require.NoError(t, err)
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &slowLink{Conn: conn}, err
	}
	conn, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	require.NoError(t, err)
	s := newSession(conn, false, new(db.Buffers))
	s.watch(t.Context(), time.Now().Add(10*time.Second))
	defer s.hangUp(t.Context())
	rows, err := s.query(checkSQL)
	require.NoError(t, err)
	require.Len(t, rows, 1)
}

// TestClosedConnectionsAreLost: what database/sql meets on a connection that was closed before is no refusal, and a job with it is run again.
func TestClosedConnectionsAreLost(t *testing.T) {
	t.Parallel()
	closed := fmt.Errorf("write the history: %w", pgconn.ErrConnClosed)
	require.Equal(t, db.ClassLost, new(migrations).Explain(closed, nil).Class)
	require.Equal(t, db.ClassLost, new(migrations).Explain(&database.Error{OrigErr: closed, Err: "failed"}, nil).Class)
	var e *db.Error
	require.ErrorAs(t, outboxError("shop", closed), &e)
	require.Equal(t, db.ClassLost, e.Class)
}
