package sqlserver_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// scripted answers a text by the first part that it holds, and all others as a server does that executes a statement
// outside of a transaction.
func scripted(parts map[string]reply) func(string) reply {
	usual := map[string]int64{"sp_getapplock": 0, "@dbr_open": 0, "UPDATE dbrunner.ledger": 1}
	return func(text string) reply {
		for part, r := range parts {
			if strings.Contains(text, part) {
				return r
			}
		}
		for part, n := range usual {
			if strings.Contains(text, part) {
				return reply{tokens: number(n)}
			}
		}
		return reply{}
	}
}

const backup = "BACKUP DATABASE shop TO DISK = 'nul'"

// executed runs a statement at most once and returns how often its End was called, and with what.
func executed(t *testing.T, d db.Database, timeout time.Duration) (ended int, reported, err error) {
	t.Helper()
	row := func(status string) *db.Entry {
		return &db.Entry{JobID: "job", Status: status, Answer: []byte("{}"), Sequence: 7, Timestamp: time.Unix(1, 2), Runner: "r"}
	}
	_, err = d.Execute(t.Context(), db.Call{Timeout: timeout}, &dialect.Compiled{SQL: backup}, db.RowOptions{Format: db.Arrays}, &db.Once{
		Start: row(db.StatusStarted),
		End: func(_ db.ResultSet, err error) *db.Entry {
			ended++
			reported = err
			return row("succeeded")
		},
	})
	return ended, reported, err
}

func TestPeerOutsideAllIsWell(t *testing.T) {
	t.Parallel()
	p := newPeer(t, scripted(nil))
	d := p.open()
	ended, reported, err := executed(t, d, testTimeout)
	require.NoError(t, err)
	require.NoError(t, reported)
	require.Equal(t, 1, ended)
	p.mu.Lock()
	defer p.mu.Unlock()
	at := -1
	for _, part := range []string{
		"@LockOwner = 'Session', @LockTimeout = 0", "INSERT INTO dbrunner.ledger", backup, "@dbr_open", "status = 'started'", "sp_releaseapplock",
	} {
		next := at + 1
		for next < len(p.texts) && !strings.Contains(p.texts[next], part) {
			next++
		}
		require.Less(t, next, len(p.texts), "not sent, or out of order: %s", part)
		at = next
	}
	for _, text := range p.texts {
		require.NotContains(t, text, "BEGIN TRANSACTION")
	}
}

func TestPeerOutside(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		part     string
		reply    reply
		deaf     bool
		class    db.Class // of what Execute returns
		reported db.Class // of what End was called with; zero: it was not called, or of a success
		ended    int
	}{
		"held":              {"sp_getapplock", reply{tokens: number(-1)}, false, db.ClassLocked, 0, 0},
		"taken":             {"INSERT INTO dbrunner", reply{tokens: failure(2627, 14, "canary", false)}, false, db.ClassAlreadyRecorded, 0, 0},
		"begin cut":         {"INSERT INTO dbrunner", reply{hangUp: true}, false, db.ClassUnknown, 0, 0},
		"refused":           {"BACKUP", reply{tokens: failure(3201, 16, "canary", false)}, false, db.ClassPermanent, db.ClassPermanent, 1},
		"statement cut":     {"BACKUP", reply{hangUp: true}, false, db.ClassUnknown, 0, 0},
		"session ended":     {"BACKUP", reply{tokens: failure(596, 21, "canary", true)}, false, db.ClassUnknown, 0, 0},
		"stopped":           {"BACKUP", reply{silent: true}, false, db.ClassTimeout, db.ClassTimeout, 1},
		"deaf":              {"BACKUP", reply{silent: true}, true, db.ClassUnknown, 0, 0},
		"transaction open":  {"@dbr_open", reply{tokens: number(1)}, false, db.ClassPermanent, db.ClassPermanent, 1},
		"end overtaken":     {"UPDATE dbrunner", reply{tokens: number(0)}, false, db.ClassAlreadyRecorded, 0, 1},
		"end cut":           {"UPDATE dbrunner", reply{hangUp: true}, false, db.ClassUnknown, 0, 1},
		"end refused":       {"UPDATE dbrunner", reply{tokens: failure(229, 14, "canary", false)}, false, db.ClassUnknown, 0, 1},
		"lock not released": {"sp_releaseapplock", reply{hangUp: true}, false, 0, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPeer(t, scripted(map[string]reply{c.part: c.reply}))
			p.deaf = c.deaf
			d := p.open()
			timeout := testTimeout
			if c.reply.silent {
				timeout = 2 * time.Second // also a busy machine has started the statement by then
			}
			ended, reported, err := executed(t, d, timeout)
			require.Equal(t, c.class, db.ClassOf(err), "%v", err)
			require.Equal(t, c.class == 0, err == nil)
			require.Equal(t, c.reported, db.ClassOf(reported), "%v", reported)
			require.Equal(t, c.ended, ended)
			if err != nil {
				require.NotContains(t, err.Error(), "canary")
			}
			if c.class == db.ClassLocked {
				require.False(t, p.said("INSERT INTO dbrunner"))
				require.False(t, p.said(backup))
			}
			if c.class == db.ClassAlreadyRecorded && ended == 0 {
				require.False(t, p.said(backup))
				require.True(t, p.said("sp_releaseapplock"))
			}
			require.Eventually(t, func() bool { return d.Stats().InUse == 0 }, testTimeout, time.Millisecond)
		})
	}
}

// What a job of kind statement may begin with, no other may.
func TestPeerOutsideTexts(t *testing.T) {
	t.Parallel()
	d := newPeer(t, scripted(nil)).open()
	for sql, allowed := range map[string]bool{
		backup: true, "DBCC CHECKDB": true, "RESTORE DATABASE shop FROM DISK = 'nul'": false, "SHUTDOWN": false,
		backup + "; COMMIT": false, backup + "\nGO": false,
	} {
		_, faults := dialect.CompileAutocommit(d.Dialect(), dialect.Statement{SQL: sql})
		require.Equal(t, allowed, len(faults) == 0, sql)
		_, err := d.Execute(t.Context(), db.Call{Timeout: testTimeout}, &dialect.Compiled{SQL: sql}, db.RowOptions{Format: db.Arrays}, nil)
		require.Equal(t, allowed, err == nil, sql)
		_, faults = dialect.Compile(d.Dialect(), dialect.Statement{SQL: sql})
		require.NotEmpty(t, faults, sql)
	}
}
