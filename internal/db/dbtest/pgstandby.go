package dbtest

import (
	"fmt"
	"os"
	"strconv"
	"testing"
)

// StartStandby copies a running server with pg_basebackup and starts the copy: it streams what the server commits, answers queries,
// and takes writes after Promote. It ends with the test.
func (s *PostgresServer) StartStandby(t testing.TB) *PostgresServer {
	t.Helper()
	standby := &PostgresServer{bin: s.bin, as: s.as}
	var err error
	if standby.dir, err = os.MkdirTemp("", "dbtest-pg-"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(standby.end)
	if err := standby.copyOf(s); err != nil {
		t.Fatal(err)
	}
	standby.Start(t)
	return standby
}

// copyOf makes the data directory from a running server's.
func (s *PostgresServer) copyOf(primary *PostgresServer) error {
	if s.as != nil {
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return err
		}
	}
	cmd := s.command("pg_basebackup", "-D", s.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(primary.port), "-U", "postgres",
		"-X", "stream", "-c", "fast", "-R", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("pg_basebackup: %w: %s", err, out)
	}
	return nil
}

// Promote makes a standby a primary and waits until it takes writes.
func (s *PostgresServer) Promote(t testing.TB) {
	t.Helper()
	admin(t, s.URL("postgres"), "SELECT pg_promote()")
}
