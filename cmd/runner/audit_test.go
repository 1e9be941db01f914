package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"dbrunner/client"
	"dbrunner/internal/bus/bustest"
)

// entries returns what the audit stream has.
func (w *world) entries(args ...string) []client.StoredAudit {
	w.t.Helper()
	got := w.run("", append([]string{"audit", "ls", "--json"}, args...)...)
	require.Equal(w.t, exitOK, got.code, got.err)
	var list []client.StoredAudit
	got.json(w.t, &list)
	return list
}

// TestActionsAreRecorded holds that each command that acts has written who, what and why.
func TestActionsAreRecorded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.Equal(t, "no entries\n", w.run("", "audit", "ls").out)
	ok := func(args ...string) {
		t.Helper()
		got := w.run("", args...)
		require.Equal(t, exitOK, got.code, "%v: %s", args, got.err)
	}
	ok("pause", "shop", "--reason", "upgrade", "--by", "ada")
	ok("pause", "shop", "--reason", "longer", "--by", "grace")
	ok("resume", "shop", "--by", "grace", "--reason", "done")
	ok("resume", "shop") // it is not paused: nothing is done
	require.Equal(t, exitTimeout, w.run("", "cancel", "shop", "nowhere", "--wait", "10ms", "--by", "ada", "--reason", "a typo").code)
	for _, id := range []string{"a", "b", "c"} {
		require.Equal(t, exitJob, w.run("", "submit", "-d", "shop", "--sql", "SELECT * FROM nowhere", "--id", id).code)
	}
	require.Eventually(t, func() bool { return len(w.deadLetters()) == 3 }, testTimeout, pollEvery)
	dead := w.deadLetters()
	ok("dead", "redrive", dead["a"].DeadLetter, "--by", "ada", "--why", "the table is there")
	ok("dead", "rm", "--all", "--reason", "failed", "--database", "shop", "--yes", "--by", "ada")
	ok("topology", "apply", "--by", "grace")
	require.Equal(t, exitOK, w.run("", "topology", "apply", "--dry-run").code)
	require.Equal(t, exitOK, w.run("", "topology", "prune", "--dry-run").code)
	ok("topology", "prune", "--by", "grace", "--reason", "old databases")

	var got []string
	for _, e := range w.entries() {
		require.Equal(t, 1, e.Version)
		require.WithinDuration(t, time.Now(), e.Stored, time.Minute)
		require.WithinDuration(t, e.Stored, e.At, time.Minute)
		got = append(got, fmt.Sprint(e.Tool, " | ", e.Action, " ", e.Database, " | ", e.By, " | ", e.Reason))
	}
	require.Equal(t, []string{
		"runner pause | pause shop | ada | upgrade",
		"runner pause | pause shop | grace | longer",
		"runner resume | resume shop | grace | done",
		"runner cancel | cancel shop | ada | a typo",
		"runner dead redrive | redrive shop | ada | the table is there",
		"runner dead rm | remove shop | ada | ",
		"runner topology apply | topology  | grace | ",
		"runner topology prune | topology  | grace | old databases",
	}, got)
	second := w.entries("--action", "pause", "--newest", "1")
	require.Equal(t, map[string]string{"reason": "upgrade", "by": "ada", "revision": "1"}, second[0].Before)
	require.Equal(t, map[string]string{"reason": "longer", "by": "grace"}, second[0].After)
	require.Equal(t, []string{"nowhere"}, w.entries("--action", "cancel")[0].Targets)
	require.Equal(t, []string{dead["a"].DeadLetter}, w.entries("--action", "redrive")[0].Targets)
	require.GreaterOrEqual(t, w.entries("--action", "remove", "--database", "shop", "--since", "1h")[0].Count, 2)
	require.Empty(t, w.entries("--database", "other"))
	shown := w.run("", "audit", "ls", "--newest", "7").out
	require.Contains(t, shown, "was by: ada, was reason: upgrade")
	require.Contains(t, shown, "now command: prune")
	for _, args := range [][]string{{"--action", "nothing"}, {"--since", "-1s"}, {"--newest", "0"}, {"--database", "a.b"}} {
		require.Equal(t, exitUsage, w.run("", append([]string{"audit", "ls"}, args...)...).code, "%v", args)
	}
}

// TestWithoutAnAuditStream holds that commands warn and go on, and that apply creates the stream before it records itself.
func TestWithoutAnAuditStream(t *testing.T) {
	t.Parallel()
	w := setup(t)
	require.NoError(t, w.js.DeleteStream(t.Context(), "DBRUNNER_AUDIT"))
	got := w.run("", "pause", "shop", "--reason", "upgrade")
	require.Equal(t, exitOK, got.code, got.err)
	require.Equal(t, "runner: warning: not recorded, because the stream DBRUNNER_AUDIT is missing; runner topology apply creates it\n", got.err)
	require.Equal(t, exitOK, w.run("", "resume", "shop", "--no-audit").code)
	none := w.run("", "audit", "ls")
	require.Equal(t, exitFailure, none.code)
	require.Contains(t, none.err, "the stream DBRUNNER_AUDIT is missing; runner topology apply creates it")
	require.Equal(t, "stream DBRUNNER_AUDIT: created\n", w.run("", "topology", "apply").out)
	require.Len(t, w.entries("--action", "topology"), 1)
}

// TestAFullAuditStreamRefuses holds that nothing is done that cannot be recorded, and that the remedy helps.
func TestAFullAuditStreamRefuses(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	small := strings.Replace(string(text), "topology:\n", "topology:\n  audit: {max_bytes: 1MiB}\n", 1)
	require.NoError(t, os.WriteFile(w.config, []byte(small), 0o600))
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	for _, size := range []int{1024, 1} { // down to the last byte
		for err = nil; err == nil; {
			_, err = w.js.Publish(t.Context(), "dbrunner.audit.database.shop.pause", make([]byte, size))
		}
		require.ErrorContains(t, err, "maximum bytes exceeded")
	}
	for _, args := range [][]string{{"pause", "shop", "--reason", "x"}, {"topology", "prune"}, {"dead", "rm", "shop.query.s1_a"}} {
		refused := w.run("", args...)
		require.Equal(t, exitFailure, refused.code, "%v", args)
		require.Contains(t, refused.err, "nothing was done, because it could not be recorded: the stream DBRUNNER_AUDIT is full; "+
			"raise topology.audit.max_bytes and run runner topology apply", "%v", args)
		require.Contains(t, refused.err, "--no-audit acts without an entry")
	}
	require.Equal(t, "database shop is not paused\n", strings.SplitAfter(w.run("", "resume", "shop").out, "\n")[0])
	require.Equal(t, exitOK, w.run("", "pause", "shop", "--reason", "x", "--no-audit").code)
	require.NoError(t, os.WriteFile(w.config, text, 0o600))
	require.Contains(t, w.run("", "topology", "apply").out, "stream DBRUNNER_AUDIT: changed max_bytes")
	require.Equal(t, exitOK, w.run("", "resume", "shop").code)
	require.Len(t, w.entries("--action", "resume"), 1)
}

// TestADeniedEntryIsReported within two seconds, with its subject, and nothing is done.
func TestADeniedEntryIsReported(t *testing.T) {
	t.Parallel()
	all := &server.SubjectPermission{Allow: []string{">"}, Deny: []string{"dbrunner.audit.database.shop.pause"}}
	node := bustest.Server(t, bustest.Users(
		&server.User{Username: "admin", Password: "x"},
		&server.User{Username: "half", Password: "x", Permissions: &server.Permissions{Publish: all}}))
	_, js := bustest.Plain(t, node.ClientURL(), nats.UserInfo("admin", "x"))
	w := &world{t: t, node: node, js: js}
	w.config = w.write("24h")
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	as := func(user string) {
		named := strings.Replace(string(text), "nats:\n", "nats:\n  user: "+user+"\n  password: x\n", 1)
		require.NoError(t, os.WriteFile(w.config, []byte(named), 0o600))
	}
	as("admin")
	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	as("half")
	started := time.Now()
	denied := w.run("", "pause", "shop", "--reason", "x")
	require.Less(t, time.Since(started), 4*time.Second, "the time limit of an entry is 5 s")
	require.Equal(t, exitFailure, denied.code)
	require.Contains(t, denied.err, "nothing was done, because it could not be recorded: publish to dbrunner.audit.database.shop.pause: "+
		"denied by NATS permissions; grant the permission (docs/security.md)")
	bucket, err := js.KeyValue(t.Context(), "DBRUNNER_STATE")
	require.NoError(t, err)
	_, err = bucket.Get(t.Context(), "pause.shop")
	require.Error(t, err, "it is not paused")
	require.Equal(t, exitOK, w.run("", "pause", "shop", "--reason", "x", "--no-audit").code)
	require.Equal(t, exitOK, w.run("", "resume", "shop").code, "each action has a subject")
	require.Len(t, w.entries(), 2)
}

// TestMigrationsByHandAreRecorded holds that they need NATS, unless they shall not be recorded.
func TestMigrationsByHandAreRecorded(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	folder := filepath.Join(t.TempDir(), "shop")
	require.NoError(t, os.MkdirAll(folder, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__item.sql"), []byte("CREATE TABLE item (id INTEGER);"), 0o600))
	text, err := os.ReadFile(w.config)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(w.config, append(text, "    migrations: {folder: "+folder+"}\n"...), 0o600))
	require.Equal(t, exitOK, w.run("", "topology", "apply", "--no-audit").code)
	up := w.run("", "migrate", "up", "shop", "1", "--by", "ada", "--reason", "release 7")
	require.Equal(t, exitOK, up.code, up.err)
	require.Equal(t, exitOK, w.run("", "migrate", "status", "shop").code)
	found := w.entries()
	require.Len(t, found, 1, "what changes nothing has no entry")
	require.Equal(t, "migration", found[0].Action)
	require.Equal(t, "release 7", found[0].Reason)
	require.Equal(t, map[string]string{"action": "up", "target": "1"}, found[0].After)

	w.node.Stop()
	refused := w.run("", "migrate", "repair", "shop", "none", "--yes")
	require.Equal(t, exitFailure, refused.code)
	require.Contains(t, refused.err, "nothing was done, because it could not be recorded: ")
	require.Contains(t, refused.err, "--no-audit acts without an entry")
	require.Equal(t, exitOK, w.run("", "migrate", "repair", "shop", "none", "--yes", "--no-audit").code)
}
