package dbtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// pgTimeout bounds the start and the stop of a server.
const pgTimeout = 60 * time.Second

// StopMode is how a server is stopped.
type StopMode syscall.Signal

// The ways to stop a server.
const (
	StopFast      = StopMode(syscall.SIGINT)  // ends the sessions, each with the reason, and writes a checkpoint
	StopImmediate = StopMode(syscall.SIGQUIT) // ends without clean-up, as after a crash
)

// PostgresServer is a server of a test's own, which it may stop, kill and pause. It keeps its port and its data over restarts.
type PostgresServer struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil: as this process

	running *process
}

// process is a server process; done is closed when it has ended.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

// StartPostgres starts a server for this test alone, on a free port of 127.0.0.1, and ends it with the test.
// Settings are the server's, such as "fsync=on". Without PostgreSQL's programs the test is skipped; with
// REQUIRE_SERVICES=1 it fails.
func StartPostgres(t testing.TB, settings ...string) *PostgresServer {
	t.Helper()
	s, err := newPostgresServer(settings...)
	if err != nil {
		missing(t, err)
	}
	t.Cleanup(s.end)
	return s
}

// LaunchPostgres starts a server as StartPostgres does, for a program that is no test. The caller calls Close.
func LaunchPostgres(settings ...string) (*PostgresServer, error) {
	return newPostgresServer(settings...)
}

// Close stops the server of LaunchPostgres and removes its files.
func (s *PostgresServer) Close() { s.end() }

// Restart stops the server of LaunchPostgres and starts it again.
func (s *PostgresServer) Restart(mode StopMode) error {
	if err := s.stop(mode); err != nil {
		return err
	}
	return s.start()
}

// Await waits until the server of LaunchPostgres takes connections again after a crash of its own.
func (s *PostgresServer) Await() error { return s.awaitReady(s.running) }

// Signal signals every process of the server of LaunchPostgres: SIGSTOP holds it where it is, SIGCONT lets it go on.
func (s *PostgresServer) Signal(signal syscall.Signal) error { return signalTree(s.PID(), signal) }

// PID is the running server's process id, the parent of its backends.
func (s *PostgresServer) PID() int { return s.running.cmd.Process.Pid }

// Address is where the server listens.
func (s *PostgresServer) Address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// URL is the connection string of a database of the server, e.g. "postgres".
func (s *PostgresServer) URL(database string) string {
	return "postgres://postgres@" + s.Address() + "/" + database + "?sslmode=disable"
}

// Database creates a database that only this test uses and returns its connection string.
func (s *PostgresServer) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d", databases.Add(1))
	admin(t, s.URL("postgres"), "CREATE DATABASE "+name)
	return s.URL(name)
}

// Start starts a stopped server and waits until it takes connections.
func (s *PostgresServer) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
}

// Stop stops the server and waits for its end. A paused one goes on first.
func (s *PostgresServer) Stop(t testing.TB, mode StopMode) {
	t.Helper()
	if err := s.stop(mode); err != nil {
		t.Fatal(err)
	}
}

// Ended is closed when the server that runs now has ended, also by itself.
func (s *PostgresServer) Ended() <-chan struct{} { return s.running.done }

// Pause stops every process of the server where it is, without ending it: nothing answers any more. Resume lets them go on.
func (s *PostgresServer) Pause(t testing.TB) { s.signalAll(t, syscall.SIGSTOP) }

// Resume ends Pause.
func (s *PostgresServer) Resume(t testing.TB) { s.signalAll(t, syscall.SIGCONT) }

func newPostgresServer(settings ...string) (*PostgresServer, error) {
	bin, err := findPostgres()
	if err != nil {
		return nil, err
	}
	s := &PostgresServer{bin: bin}
	if s.as, err = serverUser(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "dbtest-pg-"); err != nil {
		return nil, err
	}
	if err := s.initialize(settings); err != nil {
		_ = os.RemoveAll(s.dir)
		return nil, err
	}
	if err := s.start(); err != nil {
		s.end()
		return nil, err
	}
	return s, nil
}

// findPostgres returns the folder of PostgreSQL's programs, the newest version first.
func findPostgres() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			if dir := filepath.Dir(path); isExecutable(filepath.Join(dir, "initdb")) {
				return dir, nil
			}
		}
	}
	var found []string
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/usr/local/opt/postgresql*/bin",
		"/opt/homebrew/opt/postgresql*/bin", "/usr/libexec/postgresql*",
	} {
		dirs, _ := filepath.Glob(pattern)
		slices.Sort(dirs)
		slices.Reverse(dirs)
		found = append(found, dirs...)
	}
	for _, dir := range found {
		if isExecutable(filepath.Join(dir, "initdb")) && isExecutable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("its programs initdb and postgres are not found; install the server package "+
		"(Debian: apt-get install postgresql) or set %s", postgresURL)
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}

// initialize makes the data directory. Tests do not survive a power cut: nothing is synced.
func (s *PostgresServer) initialize(settings []string) error {
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "--no-instructions")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	lines := append([]string{
		"listen_addresses='127.0.0.1'", "unix_socket_directories=''", "max_connections=200", "fsync=off",
		"full_page_writes=off", "shared_buffers=32MB", "max_prepared_transactions=10", "logging_collector=off",
		"autovacuum_naptime=1h", "log_min_messages=fatal",
	}, settings...)
	return appendFile(filepath.Join(s.data(), "postgresql.conf"), lines)
}

func appendFile(path string, lines []string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err = fmt.Fprintln(f, line); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

func (s *PostgresServer) data() string { return filepath.Join(s.dir, "data") }

func (s *PostgresServer) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(s.bin, program), args...)
	cmd.Dir = s.dir
	cmd.Env = []string{"PATH=" + s.bin, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = childAttributes(s.as)
	return cmd
}

// start runs the server. A port that was free may be taken by the time the server wants it: then another one
// is tried, unless clients know it already.
func (s *PostgresServer) start() error {
	known := s.port != 0
	var err error
	for range 5 {
		if !known {
			if s.port, err = freePort(); err != nil {
				return err
			}
		}
		if err = s.run(); err == nil {
			return nil
		}
	}
	return err
}

func (s *PostgresServer) run() error {
	var log bytes.Buffer
	cmd := s.command("postgres", "-D", s.data(), "-p", strconv.Itoa(s.port))
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.WaitDelay = 5 * time.Second // a backend that outlives the server keeps the pipe open
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.run(started)
	if err := <-started; err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.running = p
	if err := s.awaitReady(p); err != nil {
		_ = s.stop(StopImmediate)
		return fmt.Errorf("%w: %s", err, log.String())
	}
	return nil
}

// run starts the process and waits for its end, on one thread: the kernel ends the server when the thread that
// started it ends, which is how it goes along with a killed test process.
func (p *process) run(started chan<- error) {
	defer close(p.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		_ = p.cmd.Wait()
	}
}

func (s *PostgresServer) awaitReady(p *process) error {
	ctx, cancel := context.WithTimeout(context.Background(), pgTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-p.done:
			return errors.New("postgres ended immediately")
		case <-ctx.Done():
			return fmt.Errorf("postgres does not answer: %w", err)
		case <-tick.C:
		}
	}
}

func (s *PostgresServer) stop(mode StopMode) error {
	p := s.running
	if p == nil {
		return nil
	}
	s.running = nil
	_ = signalTree(p.cmd.Process.Pid, syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.Signal(mode))
	select {
	case <-p.done:
		return nil
	case <-time.After(pgTimeout):
		_ = p.cmd.Process.Kill()
		<-p.done
		return errors.New("postgres did not stop and was killed")
	}
}

// end stops the server and removes its files.
func (s *PostgresServer) end() {
	_ = s.stop(StopImmediate)
	_ = os.RemoveAll(s.dir)
}

func (s *PostgresServer) signalAll(t testing.TB, signal syscall.Signal) {
	t.Helper()
	if s.running == nil {
		t.Fatal("the server is not running")
	}
	if err := signalTree(s.running.cmd.Process.Pid, signal); err != nil {
		t.Fatal(err)
	}
}

// signalTree signals a server and its backends. The server goes first when it is stopped, so that it starts no
// further ones, and its children are looked up afterwards.
func signalTree(pid int, signal syscall.Signal) error {
	if err := syscall.Kill(pid, signal); err != nil {
		return err
	}
	for _, child := range children(pid) {
		_ = syscall.Kill(child, signal)
	}
	return nil
}

// children lists the processes of a parent.
func children(pid int) []int {
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		return nil
	}
	var list []int
	for line := range bytes.Lines(out) {
		var child, parent int
		if _, err := fmt.Sscan(string(line), &child, &parent); err == nil && parent == pid {
			list = append(list, child)
		}
	}
	return list
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
