package postgres_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/postgres"
)

// hostile accepts a login as a server does, and answers each request after it with what the test wants.
type hostile struct {
	listen net.Listener
	all    sync.WaitGroup

	mu     sync.Mutex // guards what follows
	answer func(request string, to io.Writer) bool
	links  []net.Conn
}

// newHostile returns the server and the engine on it. An answer that is false is left to the usual, which lets logins succeed.
func newHostile(t testing.TB, answer func(request string, to io.Writer) bool) (*hostile, db.Database) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	h := &hostile{listen: l, answer: answer}
	h.all.Go(h.accept)
	t.Cleanup(h.close)
	d, err := postgres.Open(db.Options{
		Name: "test_db", Namespace: "dbrunner", Runner: "runner-1", Ledger: db.LedgerVerify,
		ConnectionString: "postgres://app:canary@" + l.Addr().String() + "/x?sslmode=disable",
		Pool:             db.PoolOptions{Max: 2, ConnectTimeout: testTimeout},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return h, d
}

func (h *hostile) close() {
	_ = h.listen.Close()
	h.mu.Lock()
	for _, c := range h.links {
		_ = c.Close()
	}
	h.mu.Unlock()
	h.all.Wait()
}

func (h *hostile) accept() {
	for {
		c, err := h.listen.Accept()
		if err != nil {
			return
		}
		h.mu.Lock()
		h.links = append(h.links, c)
		h.mu.Unlock()
		h.all.Go(func() { h.serve(c); _ = c.Close() })
	}
}

func (h *hostile) serve(c net.Conn) {
	in := bufio.NewReader(c)
	if start, err := body(in); err != nil || binary.BigEndian.Uint32(start) != 3<<16 { // a request to cancel is not answered
		return
	}
	_, _ = io.WriteString(c, string(message('R', "\x00\x00\x00\x00"))+string(message('S', "server_encoding\x00UTF8\x00"))+
		string(message('K', "\x00\x00\x00\x01\x00\x00\x00\x02"))+ready)
	for request := ""; ; {
		kind, err := in.ReadByte()
		if err != nil || kind == 'X' {
			return
		}
		text, err := body(in)
		if err != nil {
			return
		}
		request += string(text)
		if kind != 'S' && kind != 'Q' {
			continue
		}
		if !h.answer(request, c) && !usual(request, c) {
			return
		}
		request = ""
	}
}

func body(in io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(head)-4)
	_, err := io.ReadFull(in, b)
	return b, err
}

const ready = "Z\x00\x00\x00\x05I"

// usual answers the question about synchronous_commit, and to everything else that it was done.
func usual(request string, to io.Writer) bool {
	out := "1\x00\x00\x00\x042\x00\x00\x00\x04"
	if strings.Contains(request, "'synchronous_commit'") {
		out += rowMessage("on")
	}
	_, err := io.WriteString(to, out+string(message('C', "SELECT 1\x00"))+ready)
	return err == nil
}

func rowMessage(value string) string {
	return string(message('D', "\x00\x01"+string(binary.BigEndian.AppendUint32(nil, uint32(len(value))))+value))
}

// forever writes as long as the other side reads.
func forever(to io.Writer, before, what string) bool {
	_, err := io.WriteString(to, before)
	for chunk := strings.Repeat(what, 1+(64<<10)/len(what)); err == nil; {
		_, err = io.WriteString(to, chunk)
	}
	return true
}

// hostileCalls are calls of the engine: each ends in time, with an error or without one.
func hostileCalls(d db.Database, timeout time.Duration) map[string]func(context.Context) error {
	c, rows := db.Call{Label: "job-1", Timeout: timeout}, db.RowOptions{Format: db.Objects, MaxRows: 1000, MaxBytes: 1 << 20}
	return map[string]func(context.Context) error{
		"read": func(ctx context.Context) error {
			_, err := d.Read(ctx, c, &dialect.Compiled{SQL: "SELECT 1 AS n"}, rows)
			return err
		},
		"transact": func(ctx context.Context) error {
			_, err := d.Transact(ctx, c, transaction("SELECT 1 AS n"), rows, sealed("job"))
			return err
		},
		"lookup": func(ctx context.Context) error { _, err := d.Lookup(ctx, "job"); return err },
		"record": func(ctx context.Context) error { _, _, err := d.Record(ctx, entry("job")); return err },
		"now":    func(ctx context.Context) error { _, err := d.Now(ctx); return err },
		"probe":  d.Probe,
		"check":  func(ctx context.Context) error { _, err := d.Check(ctx); return err },
	}
}

const columnOfInt = "\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00"

// TestHostileServer: a server that answers anything must neither end the runner, nor keep a call beyond its time, nor have an error show the
// password. What it says of a COMMIT has to be believed.
func TestHostileServer(t *testing.T) {
	t.Parallel()
	columns := "1\x00\x00\x00\x042\x00\x00\x00\x04" + string(message('T', columnOfInt))
	done := string(message('C', "SELECT 1\x00")) + ready
	for name, answer := range map[string]func(io.Writer) bool{
		"endless rows":            func(to io.Writer) bool { return forever(to, columns, rowMessage(strings.Repeat("1", 8000))) },
		"endless empty rows":      func(to io.Writer) bool { return forever(to, columns, string(message('D', "\x00\x00"))) },
		"endless ends":            func(to io.Writer) bool { return forever(to, columns, string(message('C', "SELECT 1\x00"))) },
		"a row of 2 GiB":          says(columns + "D\x7f\xff\xff\xff"),
		"a row within the limit":  says(columns + "D\x0f\x00\x00\x00"),
		"a negative length":       says(columns + "D\x00\x00\x00\x00"),
		"no rows":                 says("1\x00\x00\x00\x042\x00\x00\x00\x04" + done),
		"rows without values":     says(columns + string(message('D', "\x00\x00")) + done),
		"rows with other columns": says(columns + string(message('D', "\xff\xff\x00\x00")) + done),
		"empty values":            says(columns + strings.Repeat(rowMessage(""), 3) + done),
		"more rows than there are": says(columns + rowMessage("1") + string(message('C', "SELECT 99999999999999999999\x00")) +
			string(message('C', "INSERT 0 -5\x00")) + ready),
		"columns without end":     says("T\x00\x00\x00\x06\xff\xff" + done),
		"only that it is ready":   says(strings.Repeat(ready, 50)),
		"an error without a code": says(string(message('E', "\x00")) + ready),
		"a login in the middle":   says(string(message('R', "\x00\x00\x00\x03")) + ready),
		"copy":                    says(string(message('G', "\x00\x00\x00")) + ready),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, d := newHostile(t, func(request string, to io.Writer) bool {
				return !strings.Contains(request, "'synchronous_commit'") && answer(to)
			})
			endless := strings.HasPrefix(name, "endless")
			for call, run := range hostileCalls(d, testTimeout) {
				ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
				if endless { // as when the job is cancelled
					cancel()
					ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
				}
				requireHarmless(t, call, run(ctx), !endless)
				cancel()
			}
			if !endless {
				_, d = newHostile(t, func(_ string, to io.Writer) bool { return answer(to) }) // from the first request of a session on
				requireHarmless(t, "probe", d.Probe(t.Context()), true)
			}
		})
	}
}

func says(text string) func(io.Writer) bool {
	return func(to io.Writer) bool {
		_, err := io.WriteString(to, text)
		if c, ok := to.(net.Conn); ok && !strings.HasSuffix(text, ready) {
			_ = c.Close() // what it has announced does not come
		}
		return err == nil
	}
}

// requireHarmless: an error holds no secret, and is not the end of the test's own time.
func requireHarmless(t *testing.T, call string, err error, inTime bool) {
	t.Helper()
	if err == nil {
		return
	}
	require.NotContains(t, err.Error(), "canary", call)
	if inTime {
		require.NotErrorIs(t, err, context.DeadlineExceeded, call)
	}
}

// TestHostileServerIsLate: a server that never answers costs a call its time, and what it says afterwards is no answer to the next call.
func TestHostileServerIsLate(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	_, d := newHostile(t, func(request string, to io.Writer) bool {
		switch {
		case strings.Contains(request, "late"):
			asked <- struct{}{}
			_, _ = to.(net.Conn).Read(make([]byte, 1)) // until the engine gives the link up
			return says("1\x00\x00\x00\x042\x00\x00\x00\x04" + string(message('T', columnOfInt)) + rowMessage("666") + string(message('C', "SELECT 1\x00")) + ready)(to)
		case strings.Contains(request, "early"):
			return says("1\x00\x00\x00\x04t\x00\x00\x00\x06\x00\x00" + string(message('C', "BEGIN\x00")) + ready)(to)
		}
		return false
	})
	started := time.Now()
	_, err := d.Read(t.Context(), db.Call{Timeout: 300 * time.Millisecond}, &dialect.Compiled{SQL: "SELECT 1 AS late"}, objects())
	require.Equal(t, contract.CodeTimeout, err.(*db.Error).Code, "%v", err) //nolint:errorlint // the engine returns it unwrapped
	require.Less(t, time.Since(started), testTimeout)
	<-asked
	set, err := d.Read(t.Context(), call(), &dialect.Compiled{SQL: "SELECT 1 AS early"}, objects())
	require.Error(t, err)
	require.NotContains(t, string(set.Rows), "666")
}

// FuzzHostileServer: whatever a server answers after a login, a call ends, with an error or without one, takes little memory, and
// panics in no goroutine.
func FuzzHostileServer(f *testing.F) {
	columns := string(message('T', columnOfInt))
	for _, seed := range []string{
		columns + rowMessage("1") + string(message('C', "SELECT 1\x00")) + ready, ready, "D\x0f\xff\xff\xff", columns + string(message('D', "\xff\xff")),
		string(message('E', "SFATAL\x00VFATAL\x00C57P01\x00Mx\x00\x00")), string(message('t', "\x00\x02\x00\x00\x00\x17")) + columns + ready,
		"1\x00\x00\x00\x042\x00\x00\x00\x04" + string(message('C', "BEGIN\x00")) + columns + rowMessage("1") + string(message('C', "ROLLBACK\x00")) + ready,
	} {
		f.Add([]byte(seed), byte(0), false)
		f.Add([]byte(seed), byte(1), true)
	}
	f.Fuzz(func(t *testing.T, sent []byte, which byte, atLogin bool) {
		_, d := newHostile(t, func(request string, to io.Writer) bool {
			if !atLogin && strings.Contains(request, "'synchronous_commit'") {
				return false
			}
			_, _ = io.Copy(to, bytes.NewReader(sent))
			_ = to.(io.Closer).Close()
			return true
		})
		names := []string{"read", "transact", "lookup", "record", "now", "probe", "check"}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		name := names[int(which)%len(names)]
		requireHarmless(t, name, hostileCalls(d, 2*time.Second)[name](t.Context()), false)
		runtime.ReadMemStats(&after)
		require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(64<<20))
	})
}
