package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/inspect"
)

// checked runs check and returns what it found.
func checked(t *testing.T, config string, args ...string) (int, *inspect.Inspection) {
	t.Helper()
	got := runCommand(t, "", append([]string{"check", "--config", config, "--json"}, args...)...)
	var found inspect.Inspection
	got.json(t, &found)
	return got.code, &found
}

// has wants a finding with that grade and text, and a remedy if it is a fault.
func has(t *testing.T, findings []inspect.Finding, grade, about, text string) {
	t.Helper()
	for _, f := range findings {
		if string(f.Grade) == grade && f.About == about && strings.Contains(f.Text, text) {
			if f.Grade == inspect.GradeFault {
				require.NotEmpty(t, f.Remedy, f.Text)
			}
			return
		}
	}
	require.Fail(t, "no such finding", "%s %s %q in %+v", grade, about, text, findings)
}

// amend adds lines to a configuration and returns the new one.
func (w *world) amend(lines string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.config)
	require.NoError(w.t, err)
	file := filepath.Join(w.t.TempDir(), "amended.yaml")
	require.NoError(w.t, os.WriteFile(file, append(text, lines...), 0o600))
	return file
}

func TestCheckWithoutConnecting(t *testing.T) {
	t.Parallel()
	w := &world{t: t, node: nil}
	file := filepath.Join(t.TempDir(), "runner.yaml")
	folder := t.TempDir()
	text := fmt.Sprintf(configText, "nats://nats.example:4222", "24h", filepath.Join(t.TempDir(), "shop.db")) + "    migrations: {folder: " + folder + "}\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__a.sql"), []byte("SELECT 1;"), 0o600))
	w.config = file

	code, found := checked(t, file)
	require.Equal(t, exitOK, code, "warnings are no failure")
	require.InDelta(t, 16667, found.SustainedRate, 1)
	require.Len(t, found.Databases, 1)
	require.Equal(t, 1, found.Databases[0].Files)
	require.Equal(t, 1, found.Databases[0].PoolMin)
	require.Contains(t, found.Databases[0].Kinds, "migration")
	has(t, found.Findings, "warning", "nats", "unencrypted")
	has(t, found.Findings, "warning", "nats", "does not sign in")
	code, _ = checked(t, file, "--strict")
	require.Equal(t, exitFailure, code)

	table := runCommand(t, "", "check", "--config", file)
	require.Equal(t, exitOK, table.code, table.err)
	require.Contains(t, table.out, "results per second")
	require.Contains(t, table.out, "→ use tls://")

	require.NoError(t, os.WriteFile(filepath.Join(folder, "V2_one_underscore.sql"), []byte("SELECT 1;"), 0o600))
	code, found = checked(t, file)
	require.Equal(t, exitFailure, code)
	require.Equal(t, 1, found.Databases[0].FileFaults)
	has(t, found.Findings, "fault", "shop", "V2_one_underscore.sql")

	wrong := runCommand(t, "", "check", "--config", w.amend("    nosuch: 1\n    slots: 0\n"))
	require.Equal(t, exitUsage, wrong.code)
	require.Contains(t, wrong.err, "nosuch")
	require.Contains(t, wrong.err, "databases.shop.slots")
	onStart := runCommand(t, "", "check", "--config", w.amend("    migrate_on_start: true\n"))
	require.Equal(t, exitUsage, onStart.code, "what the start needs is the configuration's fault")
	require.Contains(t, onStart.err, "V2_one_underscore.sql")
}

func TestCheckConnects(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	code, found := checked(t, w.config, "--connect")
	require.Equal(t, exitOK, code, "%+v", found.Findings)
	has(t, found.Findings, "ok", "nats", "connected to")
	has(t, found.Findings, "ok", "nats", "subjects are allowed")
	has(t, found.Findings, "ok", "nats", "JetStream: ")
	has(t, found.Findings, "note", "topology", "stream DBRUNNER_JOBS_shop is missing")
	has(t, found.Findings, "note", "shop", "will be created")
	require.Contains(t, runCommand(t, "", "topology", "show", "--config", w.config).out, "DBRUNNER_JOBS_shop is missing", "nothing was created")

	verify := w.amend("")
	text, err := os.ReadFile(verify)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(verify, []byte(strings.Replace(string(text), "topology:\n", "topology:\n  mode: verify\n", 1)), 0o600))
	code, found = checked(t, verify, "--connect")
	require.Equal(t, exitFailure, code)
	has(t, found.Findings, "fault", "topology", "stream DBRUNNER_JOBS_shop is missing")

	require.Equal(t, exitOK, w.run("", "topology", "apply").code)
	code, found = checked(t, verify, "--connect")
	require.Equal(t, exitOK, code, "%+v", found.Findings)
	has(t, found.Findings, "ok", "topology", "as configured")
}

func TestCheckFindsNATSAway(t *testing.T) {
	t.Parallel()
	w := prepare(t)
	w.node.Stop()
	code, found := checked(t, w.config, "--connect")
	require.Equal(t, exitFailure, code)
	has(t, found.Findings, "fault", "nats", "connection refused")
	has(t, found.Findings, "note", "shop", "will be created")
}

func TestCheckFindsJetStreamOff(t *testing.T) {
	t.Parallel()
	node := bustest.Server(t, func(o *server.Options) { o.JetStream = false })
	w := &world{t: t, node: node}
	w.config = w.write("24h")
	code, found := checked(t, w.config, "--connect")
	require.Equal(t, exitFailure, code)
	has(t, found.Findings, "fault", "topology", "JetStream")
}
