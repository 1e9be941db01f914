package main

import (
	"context"
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/bustest"
	"dbrunner/internal/db/dbtest"
)

// startFault is a start that is refused: what provokes it, and the constant part of the message. That
// part is what the page on troubles is searched for.
type startFault struct {
	says string
	code int
	// give writes what the runner is started with. Without it the configuration is a whole one, amended by the other keys.
	give func(t *testing.T, s *start)
}

// start is what a runner is started with: the text of its configuration, of which a fault changes parts.
type start struct {
	dir      string
	nats     string // the value of the section nats
	top      string // lines at the top of the file
	database string // lines below the database shop
	kind     string // lines that configure shop
	raw      string // instead of all that; a dash: no file at all
	args     []string
	env      []string
}

func (s *start) text() string {
	if s.raw != "" {
		return s.raw
	}
	return fmt.Sprintf("instance: tester\nnats: %s\n%s\ndatabases:\n  shop:\n    %s\n    %s\n", s.nats, s.top, s.kind, s.database)
}

// with changes the text of the configuration.
func with(change func(s *start)) func(*testing.T, *start) {
	return func(_ *testing.T, s *start) { change(s) }
}

func inShop(lines string) func(*testing.T, *start) {
	return with(func(s *start) { s.database = lines })
}

func atTop(lines string) func(*testing.T, *start) {
	return with(func(s *start) { s.top = lines })
}

// shopIs makes shop another database. A strict start ends where it cannot be reached.
func shopIs(engine, connection, lines string) func(*testing.T, *start) {
	return with(func(s *start) {
		s.kind = "type: " + engine + "\n    connection_string: " + connection
		s.database = lines
		s.args = []string{"--strict"}
	})
}

func atNATS(value string) func(*testing.T, *start) {
	return with(func(s *start) { s.nats = value })
}

// served starts a NATS server for the runner.
func served(change func(*server.Options), signIn string) func(*testing.T, *start) {
	return func(t *testing.T, s *start) {
		node := bustest.Server(t, change)
		s.nats = "{urls: [\"" + node.ClientURL() + "\"]" + signIn + "}"
	}
}

// ready is a server with nothing special.
func ready(t *testing.T, s *start) { served(func(*server.Options) {}, "")(t, s) }

func both(first, second func(*testing.T, *start)) func(*testing.T, *start) {
	return func(t *testing.T, s *start) {
		first(t, s)
		second(t, s)
	}
}

const asTester = ", user: tester, password: geheim"

// tester is the only user of a server.
func tester(may *server.Permissions) func(*server.Options) {
	return func(o *server.Options) {
		o.Users = []*server.User{{Username: "tester", Password: "geheim", Permissions: may}}
	}
}

func denied(subjects ...string) *server.Permissions {
	return &server.Permissions{Publish: &server.SubjectPermission{Deny: subjects}}
}

const nowhere = "postgres://shop:geheim@127.0.0.1:1/shop?sslmode=disable"

func configurationFaults() []startFault {
	list := []startFault{
		{says: "the configuration file", give: with(func(s *start) { s.args = []string{"--config", s.dir + "/nosuch.yaml"} })},
		{says: "invalid YAML", give: with(func(s *start) { s.raw = "a: [" })},
		{says: "unknown key", give: inShop("pol: {max: 3}")},
		{says: "duplicate key", give: inShop("slots: 4\n    slots: 5")},
		{says: "write a duration with its unit", give: inShop("timeout: 30")},
		{says: "write a value from", give: inShop("slots: 0")},
		{says: "write one of", give: inShop("kinds: [querry]")},
		{says: "is not expanded in this file", give: with(func(s *start) { s.kind = "type: sqlite\n    connection_string: ${SHOP}" })},
		{says: "no database is configured", give: with(func(s *start) { s.raw = "instance: tester" })},
		{says: "missing; write it here", give: with(func(s *start) { s.kind = "type: sqlite" })},
		{says: "missing; write one of", give: with(func(s *start) { s.kind = "connection_string: shop.db" })},
		{says: "are set; remove one of them", give: inShop("connection_string_file: /nosuch")},
		{says: "no such file; name one that exists", give: with(func(s *start) { s.kind = "type: sqlite\n    connection_string_file: /nosuch" })},
		{says: "the file is empty", give: with(func(s *start) { s.kind = "type: sqlite\n    connection_string_file: /dev/null" })},
		{says: "unknown setting", give: with(func(s *start) { s.env = []string{"RUNNER_NATS_URL=nats://127.0.0.1:1"} })},
		{says: "only in case or between - and _", give: inShop("slots: 8\n  Shop: {type: sqlite, connection_string: b.db}")},
		{says: "there is more than one way to sign in", give: atNATS("{user: a, password: b, token: c}")},
		{says: "write no user, password or token in the URL", give: atNATS(`{urls: ["nats://a:geheim@127.0.0.1:1"]}`)},
		{says: "the ledger must remember a job as long as its result is kept", give: inShop("ledger: {retention: 1h}")},
		{says: "needs a ledger, and ledger.mode is off", give: inShop("effects: [exactly_once]\n    ledger: {mode: \"off\"}")},
		{says: "invalid queue name", give: inShop("queues: {Bulk: {}}")},
		{says: "could take all", give: inShop("queues: {bulk: {slots: 15}}")},
		{says: "jobs of the queue in flight when the fleet may have", give: inShop("queues: {bulk: {slots: 3, fleet_slots: 2}}")},
		{says: "an ordered queue runs one job at a time", give: inShop("queues: {feed: {ordered: true, slots: 1}}")},
		{says: "jobs of an ordered queue need a ledger", give: inShop("ledger: {mode: \"off\"}\n    queues: {feed: {ordered: true}}")},
		{says: "an ordered queue takes only jobs", give: inShop("kinds: [query]\n    queues: {feed: {ordered: true}}")},
		{says: "queues; write at most 16", give: inShop("queues: {a: {}, b: {}, c: {}, d: {}, e: {}, f: {}, g: {}, h: {}, i: {}, j: {}, k: {}, l: {}, m: {}, n: {}, o: {}, p: {}, q: {}}")},
		{says: "the databases together hold", give: atTop("worker: {max_slots: 1}")},
		{says: "heartbeats come every", give: atTop("topology: {health: {max_age: 5s}}")},
		{says: "nothing listens while http.address is empty", give: atTop("http: {pprof: true}")},
		{says: "migrations need a session of their own", give: shopIs("postgres", nowhere, "pooler: transaction\n    migrate_on_start: true")},
		{says: "and a pooler in transaction mode gives none", give: shopIs("postgres", nowhere, "pooler: transaction\n    kinds: [statement]")},
		{says: "the connection string cannot be read", give: shopIs("postgres", "postgres://:x:y", "")},
		{says: "unknown setting", give: inShop("settings: {nosuch: \"1\"}")},
		{says: "the connection string does not ask for encryption", give: shopIs("sqlserver", "sqlserver://a:geheim@127.0.0.1:1?database=x", "")},
		{says: "the connection string turns encryption off", give: shopIs("sqlserver", "sqlserver://a:geheim@127.0.0.1:1?database=x&encrypt=disable", "")},
		{says: "the connection string trusts any certificate", give: shopIs("sqlserver", "sqlserver://a:geheim@127.0.0.1:1?database=x&encrypt=true&TrustServerCertificate=true", "")},
		{says: "the connection string names no database", give: shopIs("sqlserver", "sqlserver://a:geheim@127.0.0.1:1?encrypt=true", "")},
		{says: "one writes, the others read", give: inShop("pool: {min: 1, max: 1}")},
		{says: "has no pooler", give: inShop("pooler: transaction")},
		{says: "catalog.folder is missing", give: inShop("kinds: [call, health]")},
		{says: "catalog.folder has no use", give: inShop("catalog: {folder: .}")},
		{says: "is no folder that can be read", give: inShop("kinds: [call]\n    catalog: {folder: /nosuch}")},
		{says: "invalid catalog", give: func(t *testing.T, s *start) {
			_ = empty(t, s, "pay.yaml")
			inShop("kinds: [call]\n    catalog: {folder: "+s.dir+"}")(t, s)
		}},
		{says: "the folder of migrations", give: inShop("migrate_on_start: true")},
		{says: "OTEL_EXPORTER_OTLP_PROTOCOL: write", give: with(func(s *start) {
			s.env = []string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"}
		})},
		{says: "address already in use", give: portTaken()},
	}
	for i := range list {
		list[i].code = exitUsage
	}
	return list
}

// portTaken has the port of http.address taken by another process.
func portTaken() func(*testing.T, *start) {
	return func(t *testing.T, s *start) {
		var listen net.ListenConfig
		listener, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = listener.Close() })
		s.top = "http: {address: \"" + listener.Addr().String() + "\"}"
	}
}

func natsFaults() []startFault {
	other := func(o *server.Options) { o.Users = []*server.User{{Username: "other", Password: "other"}} }
	small := func(o *server.Options) { o.JetStreamMaxStore = 1 << 20 }
	list := []startFault{
		{says: "connection refused; check the port", give: atNATS(`{urls: ["nats://127.0.0.1:1"]}`)},
		{says: "cannot be resolved", give: atNATS(`{urls: ["nats://nosuch.invalid:4222"]}`)},
		{says: "the server refused the credentials", give: served(other, asTester)},
		{says: "the server's certificate is not trusted", give: func(t *testing.T, s *start) {
			certified := httptest.NewTLSServer(nil) // signed by a CA that no system knows
			t.Cleanup(certified.Close)
			s.nats = `{urls: ["` + bustest.Server(t, func(o *server.Options) { o.TLSConfig = certified.TLS }).ClientURL() + `"]}`
		}},
		{says: "failed to parse root certificate", give: func(t *testing.T, s *start) {
			s.nats = `{tls: {ca_file: "` + empty(t, s, "ca.pem") + `"}}`
		}},
		{says: "read the nkey seed file", give: func(t *testing.T, s *start) {
			s.nats = `{nkey_seed_file: "` + empty(t, s, "x.nk") + `"}`
		}},
		{says: "only one side uses TLS", give: func(t *testing.T, s *start) {
			s.nats = `{urls: ["` + strings.Replace(bustest.Server(t).ClientURL(), "nats://", "tls://", 1) + `"]}`
		}},
		{says: "no answer in time; check address and firewall", give: func(t *testing.T, s *start) {
			var listen net.ListenConfig
			silent, err := listen.Listen(t.Context(), "tcp", "127.0.0.1:0") // takes the connection and says nothing
			require.NoError(t, err)
			t.Cleanup(func() { _ = silent.Close() })
			s.nats = `{connect_timeout: 200ms, urls: ["nats://` + silent.Addr().String() + `"]}`
		}},
		{says: "JetStream is not enabled for this account", give: served(func(o *server.Options) { o.JetStream = false }, "")},
		{says: "denied by NATS permissions", give: served(tester(denied("$JS.API.STREAM.CREATE.>")), asTester)},
		{says: "insufficient storage resources available", give: served(small, "")},
		{says: "streams and consumers differ from the configuration", give: both(ready, atTop("topology: {mode: verify}"))},
		{says: "replicas > 1 not supported in non-clustered mode", give: both(ready, atTop("topology: {replicas: 3}"))},
		{says: "no answer from JetStream within", give: served(func(o *server.Options) { // one of a cluster, without a leader
			o.Cluster = server.ClusterOpts{Name: "incomplete", Host: "127.0.0.1", Port: server.RANDOM_PORT}
			o.Routes = []*url.URL{{Scheme: "nats", Host: "127.0.0.1:1"}}
		}, "")},
		{says: "the server refuses to subscribe", give: served(tester(&server.Permissions{
			Subscribe: &server.SubjectPermission{Deny: []string{"_INBOX_dbrunner.>"}},
		}), asTester)},
	}
	for i := range list {
		list[i].code = exitFailure
	}
	return list
}

// empty is a file with nothing in it that could be read.
func empty(t *testing.T, s *start, name string) string {
	t.Helper()
	file := filepath.Join(s.dir, name)
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	return file
}

// databaseFaults end a strict start; without --strict the database's jobs wait.
func databaseFaults() []startFault {
	list := []startFault{
		{says: "cannot be reached: the connection was refused", give: shopIs("postgres", nowhere, "")},
		{says: "its host name is not known", give: shopIs("postgres", "postgres://shop@nosuch.invalid/shop?sslmode=disable", "")},
		{says: "the server does not offer TLS", give: postgres(func(u *url.URL) { u.RawQuery = "sslmode=require" }, "")},
		{says: "the server refused the login", give: postgres(func(u *url.URL) { u.User = url.UserPassword("nosuch", "geheim") }, "")},
		{says: "the server has no database of the name in the connection string", give: postgres(func(u *url.URL) { u.Path = "/nosuch" }, "")},
		{says: "is missing; `runner ledger ddl` prints the statements that create it", give: postgres(func(*url.URL) {}, "ledger: {mode: verify}")},
		{says: "transactions are read-only by default here", give: postgres(func(u *url.URL) { addQuery(u, "default_transaction_read_only", "on") }, "")},
		{says: "is missing or wrong", give: shopIs("sqlite", "shop.db", "ledger: {mode: verify}")},
		{says: "migrate_on_start", give: broken},
	}
	for i := range list {
		list[i].code, list[i].give = exitFailure, both(ready, list[i].give)
	}
	return list
}

func addQuery(u *url.URL, name, value string) {
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
}

// postgres makes shop a database on a real server, reached in another way.
func postgres(change func(*url.URL), lines string) func(*testing.T, *start) {
	return func(t *testing.T, s *start) {
		u, err := url.Parse(dbtest.Postgres(t))
		require.NoError(t, err)
		change(u)
		shopIs("postgres", `"`+u.String()+`"`, lines)(t, s)
	}
}

// broken has a migration that the database refuses.
func broken(t *testing.T, s *start) {
	folder := filepath.Join(s.dir, "files")
	require.NoError(t, os.Mkdir(folder, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "V1__a.sql"), []byte("INSERT INTO nosuch VALUES (1);"), 0o600))
	s.database, s.args = "migrate_on_start: true\n    migrations: {folder: "+folder+"}", []string{"--strict"}
}

const troubleshootingPage = "docs/troubleshooting.md"

// firstCells are the texts in backticks in the first cells of the tables of a part of the page.
func firstCells(t *testing.T, from, to string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, troubleshootingPage))
	require.NoError(t, err)
	_, part, found := strings.Cut(string(text), "\n## "+from+"\n")
	require.True(t, found, from)
	part, _, _ = strings.Cut(part, "\n## "+to+"\n")
	var out []string
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \| `).FindAllStringSubmatch(part, -1) {
		for _, m := range regexp.MustCompile("``[^`].*?``|`[^`]+`").FindAllString(row[1], -1) {
			out = append(out, strings.Trim(strings.Trim(m, "`"), " "))
		}
	}
	return out
}

// TestTroubleshootingKnowsStartFaults provokes every start fault that the page lists, by a process that is started as an
// operator would, and wants its exit code, its text, no secret, and a row of the page; and no other row there.
func TestTroubleshootingKnowsStartFaults(t *testing.T) {
	t.Parallel()
	var listed []string
	for _, f := range slices.Concat(configurationFaults(), natsFaults(), databaseFaults()) {
		listed = append(listed, strings.ReplaceAll(f.says, "`", ""))
		t.Run(f.says, func(t *testing.T) {
			t.Parallel()
			s := &start{dir: t.TempDir(), nats: `{urls: ["nats://127.0.0.1:1"]}`, kind: "type: sqlite\n    connection_string: shop.db"}
			f.give(t, s)
			code, out := s.run(t)
			require.Contains(t, out, f.says)
			require.Equal(t, f.code, code, "%s", out)
			require.NotContains(t, out, "geheim")
			require.NotContains(t, out, "runner started")
		})
	}
	var rows []string
	for _, row := range firstCells(t, "A runner does not start", "Error codes") {
		rows = append(rows, strings.ReplaceAll(row, "`", ""))
	}
	require.ElementsMatch(t, listed, rows)
}

// run starts the runner and returns its exit code and all that it printed.
func (s *start) run(t *testing.T) (int, string) {
	t.Helper()
	file := filepath.Join(s.dir, "runner.yaml")
	require.NoError(t, os.WriteFile(file, []byte(s.text()), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 2*testTimeout) // one that starts all the same would run indefinitely
	defer cancel()
	cmd := command(ctx, t, append([]string{"serve", "--config", file}, s.args...)...)
	cmd.Dir, cmd.Env = s.dir, append(cmd.Env, s.env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.NotNil(t, cmd.ProcessState, "%v", err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}
