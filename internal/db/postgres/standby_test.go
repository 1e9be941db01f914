package postgres_test

import (
	"context"
	"fmt"
	osexec "os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

const standbyName = "standby_of_this_test"

// awaiting is a server whose COMMIT waits for a standby that is not there yet.
func awaiting(t *testing.T) *bench {
	t.Helper()
	_, b := own(t, "wal_level=replica", "max_wal_senders=4")
	b.sql("SET synchronous_commit = local")
	b.sql("ALTER SYSTEM SET synchronous_standby_names = '" + standbyName + "'")
	b.sql("SELECT pg_reload_conf()")
	for !commitWaits(t, b) { // the server's sessions and its checkpointer, which has them wait, read the setting in their own time
	}
	return b
}

// commitWaits reports whether a COMMIT waits for a standby, and ends that wait.
func commitWaits(t *testing.T, b *bench) bool {
	t.Helper()
	other := connect(t, b.opts.ConnectionString)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = other.Exec(t.Context(), "SELECT pg_logical_emit_message(true, '', 'something to commit')")
	}()
	for {
		select {
		case <-done:
			return false
		case <-time.After(time.Millisecond):
			if b.look("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'SyncRep'", int(other.PgConn().PID())) == 1 {
				<-done
				return true
			}
		}
	}
}

// stream is a standby that confirms what it has of the log.
func stream(t *testing.T, b *bench) {
	t.Helper()
	c := b.admin.Config()
	dir := t.TempDir()
	cmd := osexec.Command("pg_receivewal", "--synchronous", "-D", dir, "-d",
		"host="+c.Host+" port="+strconv.Itoa(int(c.Port))+" user="+c.User+" application_name="+standbyName)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	eventually(t, func() bool {
		return b.look("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == 1
	}, "the standby streams")
}

// TestUnconfirmedCommit has the wait for a standby ended in every way: nothing is said to be committed, nor is its ledger
// row taken for a proof, until the standby has it.
func TestUnconfirmedCommit(t *testing.T) {
	t.Parallel()
	cancelWaiters := func(b *bench, how string) {
		eventually(b.t, func() bool {
			return b.look("SELECT count(*) FROM (SELECT "+how+"(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'SyncRep') x") > 0
		}, "a COMMIT waits")
	}
	for name, c := range map[string]struct {
		timeout time.Duration
		end     func(b *bench)
	}{
		"time limit":    {time.Second, nil},
		"cancelled":     {testTimeout, func(b *bench) { cancelWaiters(b, "pg_cancel_backend") }},
		"terminated":    {testTimeout, func(b *bench) { cancelWaiters(b, "pg_terminate_backend") }},
		"by the job":    {time.Second, nil},
		"without a row": {time.Second, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := awaiting(t)
			sql := []string{insertOne}
			if name == "by the job" {
				sql = append(sql, "SET statement_timeout = '300ms'")
			}
			seal := sealed("job")
			if name == "without a row" {
				seal = nil
			}
			end := make(chan error, 1)
			go func() {
				_, err := b.db.Transact(t.Context(), db.Call{Timeout: c.timeout}, transaction(sql...), objects(), seal)
				end <- err
			}()
			if c.end != nil {
				c.end(b)
			}
			err := <-end
			require.Equal(t, db.ClassUnknown, db.ClassOf(err), "%v", err)
			if seal == nil {
				require.Equal(t, 1, b.effects(), "it is in force on this server")
				return
			}
			eventually(t, func() bool { return b.effects() == 1 }, "it is in force on this server")
			short, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			row, err := b.db.Lookup(short, "job")
			require.Error(t, err)
			require.Nil(t, row, "no standby has the row")
			stream(t, b)
			row, err = b.db.Lookup(t.Context(), "job")
			require.NoError(t, err)
			require.Equal(t, "succeeded", row.Status)
			_, err = b.transact(sealed("next"), "DELETE FROM effect")
			require.NoError(t, err)
		})
	}
}

// TestUnconfirmedCommitThatIsCutOff ends the session behind each of the server's messages while no standby has what it
// commits: nothing is said to be committed.
func TestUnconfirmedCommitThatIsCutOff(t *testing.T) {
	t.Parallel()
	b, p := injected(t)
	for at, over := 0, false; !over; at++ {
		require.Less(t, at, 200)
		_, err := b.transact(sealed(fmt.Sprint("warm-up", at)), "SELECT 1 AS n")
		require.NoError(t, err)
		p.interject(message('N', "SWARNUNG\x00VWARNING\x00C01000\x00Mcanceling wait\x00Fsyncrep.c\x00L1\x00RSyncRepWaitForLSN\x00\x00"))
		p.kill(at)
		_, err = b.transact(sealed(fmt.Sprint("job", at)), fmt.Sprintf("INSERT INTO effect (id) VALUES (%d)", at))
		over = p.disarm()
		p.interject(nil)
		require.Contains(t, []db.Class{db.ClassUnknown, db.ClassLost}, db.ClassOf(err), "%d: %v", at, err)
	}
}

// TestUnconfirmedLedger does the same to the ledger's own calls and to statements outside of transactions.
func TestUnconfirmedLedger(t *testing.T) {
	t.Parallel()
	for name, work := range map[string]func(b *bench, ctx context.Context) error{
		"Record": func(b *bench, ctx context.Context) error { _, _, err := b.db.Record(ctx, entry("job")); return err },
		"statement once": func(b *bench, ctx context.Context) error {
			_, err := (&outside{b: b}).run(ctx, "job", testTimeout, insertOne)
			return err
		},
		"statement": func(b *bench, ctx context.Context) error {
			_, err := b.db.Execute(ctx, call(), &dialect.Compiled{SQL: insertOne}, objects(), nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := awaiting(t)
			stop := make(chan struct{})
			ended := make(chan struct{})
			side := connect(t, b.opts.ConnectionString)
			go func() {
				defer close(ended)
				for {
					select {
					case <-stop:
						return
					default:
						_, _ = side.Exec(context.Background(), "SELECT pg_cancel_backend(pid), pg_sleep(0.05) FROM pg_stat_activity "+
							"WHERE datname = current_database() AND wait_event = 'SyncRep'")
					}
				}
			}()
			err := work(b, t.Context())
			close(stop)
			<-ended
			require.Equal(t, db.ClassUnknown, db.ClassOf(err), "%v", err)
			if name == "statement once" {
				require.Zero(t, b.effects(), "it is not executed before a standby has its begin")
			}
			stream(t, b)
			if name == "Record" {
				row, inserted, err := b.db.Record(t.Context(), entry("job"))
				require.NoError(t, err)
				require.False(t, inserted)
				require.Equal(t, "succeeded", row.Status)
			}
		})
	}
}
