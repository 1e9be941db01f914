package app_test

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/bus/topology"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dbtest"
	"dbrunner/internal/inspect"
	"dbrunner/internal/manager"
)

// findings connects and returns what is found.
func findings(t *testing.T, cfg *config.Config) []inspect.Finding {
	t.Helper()
	inspector, err := inspect.New(cfg)
	require.NoError(t, err)
	defer func() { require.NoError(t, inspector.Close()) }()
	found := inspector.Inspect(cfg).Findings
	inspector.Connect(t.Context(), func(f inspect.Finding) { found = append(found, f) })
	return found
}

// faults are the texts of what is at fault, each with a remedy.
func faults(t *testing.T, found []inspect.Finding) []string {
	t.Helper()
	var out []string
	for _, f := range found {
		if f.Grade == inspect.GradeFault {
			require.NotEmpty(t, f.Remedy, f.Text)
			out = append(out, f.About+": "+f.Text)
		}
	}
	return out
}

// TestCheckKnowsTheSecurityPage tries the runner of docs/security.md as it stands there, and without each of its lines
// at a time: nothing is missed, and whatever is missing is named.
func TestCheckKnowsTheSecurityPage(t *testing.T) {
	t.Parallel()
	guardedBy := func(t *testing.T, lack func(own *server.Permissions)) []string {
		w := guarded(t, func(users []*server.User) { lack(find(users, "runner").Permissions) })
		shop := withSQLite(t, "shop")
		maker, cfg := w.client("topology", shop)
		_, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
		require.NoError(t, err)
		return faults(t, findings(t, w.signedIn("r1", "runner", shop, func(cfg *config.Config) { cfg.Topology.Mode = config.TopologyVerify })))
	}
	var publish, subscribe []string
	require.Empty(t, guardedBy(t, func(own *server.Permissions) {
		publish, subscribe = slices.Clone(own.Publish.Allow), slices.Clone(own.Subscribe.Allow)
	}))
	require.Greater(t, len(publish), 15)
	for _, line := range publish {
		found := guardedBy(t, func(own *server.Permissions) {
			own.Publish.Allow = slices.DeleteFunc(own.Publish.Allow, func(s string) bool { return s == line })
		})
		require.True(t, slices.ContainsFunc(found, func(text string) bool {
			return strings.Contains(text, "refuses to publish "+fixedPart(line))
		}), "without %s: %v", line, found)
	}
	for _, line := range subscribe {
		found := guardedBy(t, func(own *server.Permissions) {
			own.Subscribe.Allow = slices.DeleteFunc(own.Subscribe.Allow, func(s string) bool { return s == line })
		})
		require.True(t, slices.ContainsFunc(found, func(text string) bool {
			return strings.Contains(text, "refuses to subscribe "+fixedPart(line))
		}), "without %s: %v", line, found)
	}
}

// fixedPart is a line of permissions up to its first wildcard.
func fixedPart(line string) string {
	if i := strings.IndexAny(line, "*>"); i >= 0 {
		return line[:i]
	}
	return line
}

// TestCheckOfARunnerThatMayNotCreate has a fault while something is missing, and a note afterwards.
func TestCheckOfARunnerThatMayNotCreate(t *testing.T) {
	t.Parallel()
	w := guarded(t)
	shop := withSQLite(t, "shop")
	missing := findings(t, w.signedIn("r1", "runner", shop))
	require.Contains(t, strings.Join(faults(t, missing), "\n"), "refuses to create streams or consumers")
	maker, cfg := w.client("topology", shop)
	_, err := topology.Apply(t.Context(), maker, manager.Topology(cfg), topology.ApplyOptions{})
	require.NoError(t, err)
	require.Empty(t, faults(t, findings(t, w.signedIn("r1", "runner", shop))))
}

// TestCheckOfDatabases reports the errors of several databases together, without secrets.
func TestCheckOfDatabases(t *testing.T) {
	t.Parallel()
	w := &world{t: t, node: bustest.Server(t)}
	pg := dbtest.StartPostgres(t)
	good := pg.Database(t)
	with := func(change func(*url.URL)) string {
		u, err := url.Parse(good)
		require.NoError(t, err)
		change(u)
		return u.String()
	}
	folder := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__a.sql"), []byte("CREATE TABLE a (n INTEGER);"), 0o600))
	broken := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(broken, "V1_a.sql"), []byte("SELECT 1;"), 0o600))
	at := func(folder string) func(*config.Database) {
		return func(d *config.Database) { d.Migrations.Folder = folder }
	}
	cfg := w.config("r1",
		withDatabase("good", "postgres", good, at(folder)),
		withDatabase("misnamed", "postgres", good, at(broken)),
		withDatabase("verified", "postgres", good, func(d *config.Database) { d.Ledger.Mode = config.LedgerVerify }),
		withDatabase("login", "postgres", with(func(u *url.URL) { u.User = url.UserPassword("stranger", "geheim") })),
		withDatabase("away", "postgres", with(func(u *url.URL) { u.Host = "127.0.0.1:1" })),
		withDatabase("unknown", "postgres", with(func(u *url.URL) { u.Host = "no-such-host.invalid:5432" })),
	)
	found := findings(t, cfg)
	all := strings.Join(faults(t, found), "\n")
	for _, says := range []string{
		"misnamed: the migrations in " + broken, "verified: database verified: the table dbrunner.ledger is missing",
		"login: connection: database login cannot be reached: the server refused the login", "away: connection: database away cannot be reached: the connection was refused",
		"unknown: connection: database unknown cannot be reached: its host name is not known",
	} {
		require.Contains(t, all, says)
	}
	require.NotContains(t, all, "good:")
	require.NotContains(t, all, "geheim")
	require.True(t, slices.ContainsFunc(found, func(f inspect.Finding) bool {
		return f.About == "good" && f.Grade == inspect.GradeWarning && strings.Contains(f.Text, "1 pending, up to version 1")
	}), "%+v", found)

	pg.Stop(t, dbtest.StopFast)
	require.Contains(t, strings.Join(faults(t, findings(t, cfg)), "\n"), "good: connection: database good cannot be reached")
}

// TestDiagnoseUnderLoad reads with as many callers as the pool has connections.
func TestDiagnoseUnderLoad(t *testing.T) {
	t.Parallel()
	w := &world{t: t, node: bustest.Server(t)}
	cfg := w.config("r1", withDatabase("shop", "postgres", dbtest.Postgres(t)))
	var found []inspect.Finding
	require.NoError(t, inspect.Diagnose(t.Context(), cfg, "shop", inspect.DiagnoseOptions{Load: 1}, func(f inspect.Finding) { found = append(found, f) }))
	require.Empty(t, faults(t, found))
	require.True(t, slices.ContainsFunc(found, func(f inspect.Finding) bool { return strings.Contains(f.Text, "4 callers on 4 connections") }), "%+v", found)
	require.True(t, slices.ContainsFunc(found, func(f inspect.Finding) bool { return strings.Contains(f.Text, "runners fit") }), "%+v", found)

	err := inspect.Diagnose(context.Background(), cfg, "nosuch", inspect.DiagnoseOptions{}, func(inspect.Finding) {})
	_, isConfig := errors.AsType[*manager.ConfigError](err)
	require.True(t, isConfig)
}

// Promise: check warns of a login with which SQL of publishers reaches what no transaction takes back, names the role and what to write, which mends it;
// it is silent where publishers send no SQL, and what every login may do is a note where the configuration limits SQL.
func TestCheckOfALogin(t *testing.T) {
	t.Parallel()
	w := &world{t: t, node: bustest.Server(t)}
	dsn := dbtest.Postgres(t)
	admin := callerOf(t, "pgx", dsn)
	exec := func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			_, err := admin.ExecContext(t.Context(), text)
			require.NoError(t, err, text)
		}
	}
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	role := strings.ToLower(rand.Text())
	login, group := `"Login `+role+`"`, "group_"+role
	exec("CREATE ROLE "+login+" LOGIN PASSWORD 'x'", "CREATE ROLE "+group, "GRANT "+group+" TO "+login)
	t.Cleanup(func() {
		for _, text := range []string{"DROP ROLE " + login, "DROP ROLE " + group} {
			_, err := admin.ExecContext(context.WithoutCancel(t.Context()), text)
			require.NoError(t, err)
		}
	})
	look := func(user *url.Userinfo, maxAffected int64, kinds ...string) (out []inspect.Finding) {
		t.Helper()
		own := *u
		own.User = user
		found := findings(t, w.config("r1", withDatabase("shop", "postgres", own.String(), func(d *config.Database) {
			d.Kinds, d.MaxAffected, d.Ledger.Mode = kinds, maxAffected, config.LedgerOff
			if slices.Contains(kinds, "call") {
				catalogOf(t, t.TempDir(), map[string]string{"one": "sql: SELECT 1 AS n\n"}, kinds...)(d)
			}
		})))
		for _, f := range found {
			if f.About == "shop" && f.Part == "login" {
				out = append(out, f)
			}
		}
		return out
	}
	user := url.UserPassword("Login "+role, "x")

	found := look(u.User, 0, "query")
	require.Len(t, found, 1)
	require.Equal(t, inspect.GradeWarning, found[0].Grade)
	require.Contains(t, found[0].Text, "is a superuser")
	require.Contains(t, found[0].Remedy, "without SUPERUSER")
	require.Empty(t, look(u.User, 0, "call", "health"), "no SQL of publishers")

	note := look(user, 0, "query", "health")
	require.Len(t, note, 1)
	require.Equal(t, inspect.GradeNote, note[0].Grade)
	for _, name := range []string{"pg_logical_emit_message(boolean,text,text", "pg_terminate_backend(integer", "pg_cancel_backend(integer)"} {
		require.Contains(t, note[0].Text, name)
	}
	require.Equal(t, note, look(user, 10, "query", "transaction"), "a number of rows is a limit, too")
	require.Empty(t, look(user, 0, "query", "transaction"), "without a limit, jobs may write whatever the login may")
	require.Empty(t, look(user, 0, "call", "health"))

	exec("GRANT pg_read_server_files TO "+login, "GRANT pg_execute_server_program, pg_signal_backend TO "+group)
	require.Empty(t, look(user, 0, "call", "health"))
	for _, kinds := range [][]string{{"query"}, {"query", "transaction"}, {"dry_run"}} {
		var warned []string
		for _, f := range look(user, 0, kinds...) {
			if f.Grade == inspect.GradeWarning {
				warned = append(warned, f.Remedy)
			}
		}
		require.Equal(t, []string{
			"REVOKE pg_execute_server_program FROM " + group, "REVOKE pg_read_server_files FROM " + login, "REVOKE pg_signal_backend FROM " + group,
		}, warned, "%v", kinds)
	}
	for _, f := range look(user, 0, "query") {
		_, mends, found := strings.Cut(f.Remedy, "REVOKE ")
		require.True(t, found)
		exec("REVOKE " + mends) // the functions of this database alone
	}
	require.Empty(t, look(user, 0, "query"))
}
