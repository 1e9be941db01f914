package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// PgBouncer is a pooler in transaction mode before a server, of a test's own.
type PgBouncer struct {
	program string
	port    int
	dir     string
	as      *syscall.Credential // nil: as this process
	running *process
	log     bytes.Buffer
}

// StartPgBouncer starts PgBouncer in transaction mode before the server that a connection string names, for all of its
// databases, on a free port of 127.0.0.1, and ends it with the test. Settings are PgBouncer's, such as
// "max_client_conn = 10". Without its program the test is skipped; with REQUIRE_SERVICES=1 it fails.
func StartPgBouncer(t testing.TB, server string, settings ...string) *PgBouncer {
	t.Helper()
	program, err := findPgBouncer()
	if err != nil {
		absent(t, "PgBouncer", err)
	}
	b, err := newPgBouncer(program, server, settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.end)
	return b
}

// URL is the connection string that leads through the pooler to the database of another one.
func (b *PgBouncer) URL(t testing.TB, direct string) string {
	t.Helper()
	u, err := url.Parse(direct)
	if err != nil {
		t.Fatal(err)
	}
	u.Host, u.User, u.RawQuery = b.address(), url.User("anybody"), "sslmode=disable"
	return u.String()
}

// Restart ends the pooler without ado and starts it again, at its port.
func (b *PgBouncer) Restart(t testing.TB) {
	t.Helper()
	b.stop()
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
}

func (b *PgBouncer) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(b.port)) }

// findPgBouncer looks where packages put it: the folder is often not in the PATH of those who are not root.
func findPgBouncer() (string, error) {
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer", "/opt/homebrew/bin/pgbouncer"} {
		if isExecutable(path) {
			return path, nil
		}
	}
	return "", errors.New("its program is not found; install it (Debian: apt-get install pgbouncer)")
}

func newPgBouncer(program, server string, settings []string) (*PgBouncer, error) {
	b := &PgBouncer{program: program}
	var err error
	if b.as, err = serverUser(); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "dbtest-pgbouncer-"); err != nil {
		return nil, err
	}
	for range 5 { // a port that was free may be taken by the time that it is wanted
		if b.port, err = freePort(); err != nil {
			break
		}
		if err = b.configure(server, settings); err != nil {
			break
		}
		if err = b.start(); err == nil {
			return b, nil
		}
	}
	b.end()
	return nil, err
}

func (b *PgBouncer) file() string { return filepath.Join(b.dir, "pgbouncer.ini") }

func (b *PgBouncer) start() error {
	cmd := exec.Command(b.program, b.file())
	cmd.Dir, cmd.Env = b.dir, []string{"LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = childAttributes(b.as)
	b.log.Reset()
	cmd.Stdout, cmd.Stderr = &b.log, &b.log
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return fmt.Errorf("start pgbouncer: %w", err)
	}
	b.running = p
	if err := b.awaitReady(); err != nil {
		b.stop()
		return fmt.Errorf("%w: %s", err, b.log.String())
	}
	return nil
}

// configure writes what PgBouncer reads. Clients come without a password, and under the server's own login.
func (b *PgBouncer) configure(server string, settings []string) error {
	config, err := pgx.ParseConfig(server)
	if err != nil {
		return errors.New("the server's connection string cannot be read")
	}
	login := "user=" + config.User
	if config.Password != "" { // an empty one is a syntax error
		login += " password='" + strings.ReplaceAll(config.Password, "'", "''") + "'"
	}
	lines := append([]string{
		"[databases]", fmt.Sprintf("* = host=%s port=%d %s", config.Host, config.Port, login),
		"[pgbouncer]", "listen_addr = 127.0.0.1", fmt.Sprintf("listen_port = %d", b.port), "unix_socket_dir =",
		"auth_type = any", "pool_mode = transaction", "max_client_conn = 1000", "default_pool_size = 4",
		"server_tls_sslmode = prefer", "log_connections = 0", "log_disconnections = 0", "log_stats = 0",
	}, settings...)
	if err := os.WriteFile(b.file(), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil || b.as == nil {
		return err
	}
	return errors.Join(os.Chown(b.dir, int(b.as.Uid), int(b.as.Gid)), os.Chown(b.file(), int(b.as.Uid), int(b.as.Gid)))
}

func (b *PgBouncer) awaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), pgTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, "postgres://anybody@"+b.address()+"/postgres?sslmode=disable")
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-b.running.done:
			return errors.New("pgbouncer ended immediately")
		case <-ctx.Done():
			return fmt.Errorf("pgbouncer does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func (b *PgBouncer) stop() {
	if p := b.running; p != nil {
		b.running = nil
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// end stops the pooler and removes its files.
func (b *PgBouncer) end() {
	b.stop()
	_ = os.RemoveAll(b.dir)
}
