package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// rotated is a runner whose secret is in a file, and its HTTP endpoint.
type rotated struct {
	*process
	secret, address string
}

// serveRotated starts a runner. The configuration names the file with its secret by %s.
func serveRotated(t *testing.T, secret, config string) *rotated {
	t.Helper()
	dir := t.TempDir()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &rotated{secret: filepath.Join(dir, "secret"), address: listener.Addr().String()}
	r.write(t, secret)
	file := filepath.Join(dir, "runner.yaml")
	text := strings.ReplaceAll(config, "%s", r.secret) + "\nhttp: {address: '" + r.address + "'}\n"
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	r.process = newProcess(t, "serve", "--config", file)
	require.NoError(t, listener.Close())
	r.start()
	r.becomes(t, exitOK, "ok")
	return r
}

// write replaces the file as secret stores do: by another one of its name.
func (r *rotated) write(t *testing.T, secret string) {
	t.Helper()
	require.NoError(t, os.WriteFile(r.secret+".new", []byte(secret+"\n"), 0o600))
	require.NoError(t, os.Rename(r.secret+".new", r.secret))
}

// becomes waits for what /readyz says.
func (r *rotated) becomes(t *testing.T, code int, words string) {
	t.Helper()
	var got outcome
	defer func() {
		if t.Failed() {
			t.Log(got.out, got.err, r.output())
		}
	}()
	require.Eventually(t, func() bool {
		got = runCommand(t, "", "healthcheck", "--ready", "--address", r.address)
		return got.code == code && strings.Contains(got.out+got.err, words)
	}, testTimeout, pollEvery)
}

// A runner whose user's password, token or key is replaced reports that NATS refuses it, and works again with the new one.
func TestRotatedNATSSecrets(t *testing.T) {
	t.Parallel()
	newKey := func() (seed, public string) {
		pair, err := nkeys.CreateUser()
		require.NoError(t, err)
		s, err := pair.Seed()
		require.NoError(t, err)
		public, err = pair.PublicKey()
		require.NoError(t, err)
		return string(s), public
	}
	oneSeed, onePublic := newKey()
	twoSeed, twoPublic := newKey()
	user := func(password string) func(*server.Options) {
		return func(o *server.Options) { o.Users = []*server.User{{Username: "runner", Password: password}} }
	}
	token := func(text string) func(*server.Options) { return func(o *server.Options) { o.Authorization = text } }
	nkey := func(public string) func(*server.Options) {
		return func(o *server.Options) { o.Nkeys = []*server.NkeyUser{{Nkey: public}} }
	}
	for name, tt := range map[string]struct {
		keys                 string
		one, two             string
		serverOne, serverTwo func(*server.Options)
	}{
		"password": {"user: runner, password_file: %s", "geheim-1", "geheim-2", user("geheim-1"), user("geheim-2")},
		"token":    {"token_file: %s", "geheim-1", "geheim-2", token("geheim-1"), token("geheim-2")},
		"nkey":     {"nkey_seed_file: %s", oneSeed, twoSeed, nkey(onePublic), nkey(twoPublic)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			configure := tt.serverOne
			node := bustest.Server(t, func(o *server.Options) { configure(o) })
			r := serveRotated(t, tt.one, fmt.Sprintf("nats: {urls: [%q], reconnect_wait: 50ms, %s}\ndatabases: {shop: {type: sqlite, connection_string: %q}}",
				node.ClientURL(), tt.keys, filepath.Join(t.TempDir(), "shop.db")))
			configure = tt.serverTwo // by a restart: the options of a server that runs are its own
			node.Restart()
			r.becomes(t, exitFailure, "the server refuses the runner's credentials")
			r.write(t, tt.two)
			r.becomes(t, exitOK, "ok")
			require.Equal(t, exitOK, r.terminate(), "%s", r.output())
			require.NotContains(t, r.output(), "geheim")
		})
	}
}

// The same of a role of PostgreSQL: sessions that are there go on, new ones sign in with what the file has now.
func TestRotatedPostgresPassword(t *testing.T) {
	t.Parallel()
	pg := dbtest.StartPostgres(t)
	admin, err := pgx.Connect(t.Context(), pg.URL("postgres"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, admin.Close(context.Background())) })
	do := func(sql string) {
		t.Helper()
		_, err := admin.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, sql)
	}
	var hba string
	require.NoError(t, admin.QueryRow(t.Context(), "SHOW hba_file").Scan(&hba))
	before, err := os.ReadFile(hba)
	require.NoError(t, err)
	rules := "host all by_scram 127.0.0.1/32 scram-sha-256\nhost all by_md5 127.0.0.1/32 md5\n"
	require.NoError(t, os.WriteFile(hba, append([]byte(rules), before...), 0o600))
	do("SELECT pg_reload_conf()")
	for role, encryption := range map[string]string{"by_scram": "scram-sha-256", "by_md5": "md5"} {
		password := func(text string) string {
			return fmt.Sprintf("SET password_encryption = '%s'; ALTER ROLE %s PASSWORD '%s'", encryption, role, text)
		}
		do("CREATE ROLE " + role + " LOGIN")
		do(password("geheim-1"))
		do("CREATE DATABASE " + role + " OWNER " + role)
		node := bustest.Server(t)
		connection := func(password string) string {
			return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", role, password, pg.Address(), role)
		}
		r := serveRotated(t, connection("geheim-1"), fmt.Sprintf("nats: {urls: [%q]}\ndatabases: {shop: {type: postgres, connection_string_file: %%s, "+
			"health: {interval: 1s}, pool: {min: 1, max: 2}}}", node.ClientURL()))
		submit := func(id string) outcome {
			return runCommand(t, "", "submit", "--server", node.ClientURL(), "-d", "shop", "--id", id, "--sql", "SELECT 1 AS n", "--timeout", testTimeout.String())
		}
		require.Equal(t, exitOK, submit("first").code)
		do(password("geheim-2"))
		do("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '" + role + "'")
		sent := runCommand(t, "", "submit", "--server", node.ClientURL(), "-d", "shop", "--id", "held", "--sql", "SELECT 1 AS n", "--no-wait")
		require.Equal(t, exitOK, sent.code, sent.err)
		r.becomes(t, exitFailure, "the server refused the login")
		r.write(t, connection("geheim-2"))
		r.becomes(t, exitOK, "ok")
		for _, id := range []string{"held", "second"} {
			got := submit(id)
			require.Equal(t, exitOK, got.code, got.err)
		}
		require.Equal(t, exitOK, r.terminate(), "%s", r.output())
		require.NotContains(t, r.output(), "geheim")
	}
}
