package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// entry is a file with one database that has these keys beside those that must be there.
func entry(keys string) string {
	return "databases: {a: {type: sqlite, connection_string: x, " + keys + "}}"
}

func TestFaults(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	for name, c := range map[string]struct {
		text    string
		environ []string
		want    []string
	}{
		"nothing": {want: []string{
			"databases: no database is configured; write one with its type and connection_string below databases, or set " +
				"RUNNER_DATABASES=name, NAME_TYPE and NAME_CONNECTION_STRING",
		}},
		"missing settings": {text: "databases:\n  a:\n  b: {type: sqlite}", want: []string{
			"line 2: databases.a.connection_string: missing; write it here, in a file named by connection_string_file, " +
				"or in the environment as A_CONNECTION_STRING",
			"line 2: databases.a.type: missing; write one of postgres, sqlserver, sqlite; or in the environment A_TYPE",
			"line 3: databases.b.connection_string: missing; write it here, in a file named by connection_string_file, " +
				"or in the environment as B_CONNECTION_STRING",
		}},
		"unknown keys": {text: entry("pool: {mim: 1}, Slots: 3, max-rows: 5, colour: red") + "\ntopologie: {}", want: []string{
			"line 1: databases.a.Slots: unknown key; did you mean slots?",
			"line 1: databases.a.colour: unknown key; valid keys: by_kind, catalog, connection_string, connection_string_file, " +
				"dead_letters, direct_connection_string, direct_connection_string_file, effects, health, idle_in_transaction, kinds, " +
				"ledger, lock_timeout, max_affected, max_bytes, max_rows, max_timeout, migrate_on_start, migrations, " +
				"outbox, output, pool, pooler, queues, retry, settings, shared_commits, slots, timeout, type",
			"line 1: databases.a.max-rows: unknown key; did you mean max_rows?",
			"line 1: databases.a.pool.mim: unknown key; did you mean min?",
			"line 2: topologie: unknown key; did you mean topology?",
		}},
		"duplicate keys": {text: small + "    type: sqlite\ndatabases: {}", want: []string{
			"line 6: databases.rpa_db.type: duplicate key, first used on line 4; remove one of them",
			"line 7: databases: duplicate key, first used on line 2; remove one of them",
		}},
		"wrong types": {
			text: entry("pool: 5, slots: many, timeout: 30, max_rows: 1.5, max_bytes: 1TB, kinds: query, settings: [1], retry: [1]") +
				"\nnamespace: 5\nlog:\n  level: [info]\nnats: {urls: [1], user: true, tls: {handshake_first: yes}, domain: null}",
			want: []string{
				"line 1: databases.a.kinds: write a list, such as [one, two]",
				"line 1: databases.a.max_bytes: write a number of bytes, or one with a unit: 512KiB, 64MiB, 2GiB",
				"line 1: databases.a.max_rows: write a whole number",
				"line 1: databases.a.pool: expected nested keys with values",
				"line 1: databases.a.retry: expected nested keys with values",
				"line 1: databases.a.settings: write names with values, such as {one: 1, two: b}; in the environment one=1,two=b",
				"line 1: databases.a.slots: write a whole number",
				"line 1: databases.a.timeout: write a duration with its unit, such as 500ms, 30s, 2m or 24h",
				`line 2: namespace: expected text; what looks like a number, a date, true, false or null needs "quotes"`,
				`line 4: log.level: expected text; what looks like a number, a date, true, false or null needs "quotes"`,
				"line 5: nats.domain: no value; write one or remove the key",
				"line 5: nats.tls.handshake_first: write true or false",
				`line 5: nats.urls: expected text; what looks like a number, a date, true, false or null needs "quotes"`,
				`line 5: nats.user: expected text; what looks like a number, a date, true, false or null needs "quotes"`,
			},
		},
		"a limit with all kinds": {text: entry("max_affected: 10"), want: []string{
			"line 1: databases.a.kinds: max_affected does not limit jobs of kind statement, which run here; write kinds without it, such as " +
				"[query, transaction, migration, health], or remove max_affected",
		}},
		"a limit of nothing": {text: entry("kinds: [query], max_affected: 0"), want: []string{
			"line 1: databases.a.max_affected: write at least 1",
		}},
		"an address that is none": {text: small + "http: {address: 8080}", want: []string{
			`line 6: http.address: expected text; what looks like a number, a date, true, false or null needs "quotes"`,
		}},
		"an address without a port": {text: small + "http: {address: localhost, pprof: true}", want: []string{
			"line 6: http.address: write a host, or none for all, and a port, such as :8080 or 127.0.0.1:8080",
		}},
		"endpoints without a listener": {text: small + "http: {pprof: true, log_level: true}", want: []string{
			"line 6: http.log_level: nothing listens while http.address is empty; write an address there, such as 127.0.0.1:8080",
			"line 6: http.pprof: nothing listens while http.address is empty; write an address there, such as 127.0.0.1:8080",
		}},
		"a secret that is a number": {text: "databases: {a: {type: sqlite, connection_string: 0123}}", want: []string{
			"line 1: databases.a.connection_string: expected text; quote what YAML could read as another type",
		}},
		"a section that is text, with its keys in the environment": {
			text: small + "nats: nats://h:4222", environ: []string{"RUNNER_NATS_URLS=nats://h:1"},
			want: []string{"line 6: nats: expected nested keys with values"},
		},
		"wrong values": {
			text: entry("pooler: session, slots: 0, ledger: {mode: on}, retry: {attempts: 0}, kinds: [query, query], effects: [twice], "+
				"dead_letters: [failed, happy], by_kind: {quarry: {timeout: 1s}}, max_bytes: 1GiB, timeout: -1s") +
				"\ntopology: {mode: create, replicas: 2, ack_wait: 1ms}\nnamespace: a.b\ninstance: ''\nreply_prefixes: [a, 'b.*.']",
			want: []string{
				"line 1: databases.a.by_kind.quarry: unknown kind; write one of query, transaction",
				"line 1: databases.a.dead_letters: entry 2: write one of rejected, failed, unknown, too_many_deliveries, " +
					"job_id_reused, result_id_taken, stored_late",
				"line 1: databases.a.effects: entry 1: write one of read_only, exactly_once, at_least_once, at_most_once",
				"line 1: databases.a.kinds: entry 2: duplicate entry; remove it",
				"line 1: databases.a.ledger.mode: write one of manage, verify, off",
				"line 1: databases.a.max_bytes: write a value from 1KiB to 64MiB",
				"line 1: databases.a.pooler: write one of none, transaction",
				"line 1: databases.a.retry.attempts: write a value from 1 to 100",
				"line 1: databases.a.slots: write a value from 1 to 100000",
				"line 1: databases.a.timeout: write a value from 1ms to 24h",
				"line 2: topology.ack_wait: write a value from 1s to 10m",
				"line 2: topology.mode: write one of manage, verify",
				"line 2: topology.replicas: write one of 1, 3, 5",
				"line 3: namespace: write 1 to 64 of A-Z a-z 0-9 _ -",
				"line 4: instance: no value; write one or remove the key",
				"line 5: reply_prefixes: entry 1: write the first words of a NATS subject and a dot, such as flows.answers.",
			},
		},
		"a wrong default is reported once": {
			text: entry("slots: 5") + "\ndefaults: {pooler: session, by_kind: {quarry: {timeout: 1s}}}",
			want: []string{
				"line 2: defaults.by_kind.quarry: unknown kind; write one of query, transaction",
				"line 2: defaults.pooler: write one of none, transaction",
			},
		},
		"impossible combinations": {
			text: entry("pool: {min: 9, max: 3}, timeout: 1h, retry: {delay: 5s}, ledger: {retention: 1h}, slots: 600, "+
				"health: {slow: 10s}, by_kind: {query: {timeout: 30m, max_timeout: 1m}}, max_bytes: 2MiB, output: {max_bytes: 5MiB}") +
				"\ntopology: {results: {min_age: 48h, max_bytes: 1MiB}, rows: {max_age: 1h, max_bytes: 4MiB}, max_ack_pending: 500, jobs: {max_messages: 5}}" +
				"\nworker: {heartbeat_interval: 5m}",
			want: []string{
				"line 1: databases.a.by_kind.query: jobs of this kind would have a default timeout of 30m above their " +
					"max_timeout of 1m; set both here",
				"line 1: databases.a.health.slow: a check cannot take 10s when it stops after health.timeout, 5s; lower this " +
					"or raise health.timeout",
				"line 1: databases.a.ledger.retention: the ledger must remember a job as long as its result is kept: write " +
					"at least 24h, or lower topology.results.max_age",
				"line 1: databases.a.max_bytes: one result could be larger than the stream of results; lower this or raise " +
					"topology.results.max_bytes",
				"line 1: databases.a.output.max_bytes: the rows of one job could be larger than the store of rows; lower this or " +
					"raise topology.rows.max_bytes",
				"line 1: databases.a.pool.min: 9 connections cannot be kept when at most 3 may be open; lower this or raise pool.max",
				"line 1: databases.a.retry.delay: the first pause of 5s is above retry.max_delay, 1s; lower this or raise " +
					"retry.max_delay",
				"line 1: databases.a.slots: one runner cannot hold 600 jobs when the fleet may hold 500; lower this or raise " +
					"topology.max_ack_pending",
				"line 1: databases.a.timeout: the default of 1h is above max_timeout, 15m; lower this or raise max_timeout",
				"line 2: topology.health.max_age: heartbeats come every 5m and must outlive two that are lost; write at least 15m",
				"line 2: topology.jobs.max_messages_per_kind: one kind cannot have more jobs than all kinds together; lower " +
					"this or raise topology.jobs.max_messages",
				"line 2: topology.results.min_age: results cannot be kept at least 48h and at most 24h; lower this or raise " +
					"topology.results.max_age",
				"line 2: topology.rows.max_age: rows must be kept as long as the results that name them: write at least 24h, " +
					"or lower topology.results.max_age",
			},
		},
		"more slots than the bound": {
			text: "databases: {a: {type: sqlite, connection_string: x}, b: {type: sqlite, connection_string: x, slots: 40}}\n" +
				"worker: {max_slots: 99}",
			want: []string{
				"line 2: worker.max_slots: the databases together hold 100 jobs (a 60, b 40), above this bound of 99; raise it or lower slots",
			},
		},
		"no ledger and effects that need one": {
			text: entry("ledger: {mode: off}, effects: [exactly_once, at_most_once, read_only]"),
			want: []string{
				"line 1: databases.a.effects: exactly_once needs a ledger, and ledger.mode is off; remove it from the list or " +
					"write ledger.mode: manage",
			},
		},
		"names": {
			text: "databases: {rpa_db: {type: sqlite, connection_string: x}, RPA-DB: {type: sqlite, connection_string: x}, " +
				"runner-x: {type: sqlite, connection_string: x}, a.b: {}}",
			environ: []string{"RUNNER_DATABASES=ok,not.ok," + strings.Repeat("n", 65), "OK_TYPE=sqlite", "OK_CONNECTION_STRING=x"},
			want: []string{
				"RUNNER_DATABASES: name 2 in the list is not a valid database name: write 1 to 64 of A-Z a-z 0-9 _ -",
				"RUNNER_DATABASES: name 3 in the list is not a valid database name: write 1 to 64 of A-Z a-z 0-9 _ -",
				"line 1: databases: invalid key; a name has 1 to 64 characters of A-Z a-z 0-9 _ -",
				"line 1: databases.rpa_db: the name differs from RPA-DB only in case or between - and _; rename one of them",
				"line 1: databases.runner-x: names that start with runner would share environment variables with the runner's own; rename it",
			},
		},
		"names that share a variable": {
			text: "databases: {a: {type: sqlite, connection_string: x}, a_ledger: {type: sqlite, connection_string: x},\n" +
				"a_by_kind_query: {type: sqlite, connection_string: x}}",
			want: []string{
				"line 2: databases.a_by_kind_query: the environment variable A_BY_KIND_QUERY_TIMEOUT would be this database's " +
					"and that of a; rename one of them",
			},
		},
		"signing in": {
			text: small + "nats: {user: u, token: t, credentials_file: " + missing + ", tls: {key_file: /proc/self/exe}}",
			want: []string{
				"line 6: nats: there is more than one way to sign in: nats.credentials_file, nats.user, nats.token; leave one",
				"line 6: nats.credentials_file: no such file; name one that exists",
				"line 6: nats.tls.key_file: this needs nats.tls.cert_file too",
				"line 6: nats.user: this needs nats.password too",
			},
		},
		"URLs and subjects": {
			text: small + "nats: {urls: ['host:4222'], inbox_prefix: _INBOX.x}",
			want: []string{
				"line 6: nats.inbox_prefix: the runner's inboxes need a place of their own, outside of _INBOX, of $… and of the " +
					"namespace; leave the key out or write another",
				"line 6: nats.urls: entry 1: write a URL such as nats://host:4222, tls://host:4222 or wss://host:443",
			},
		},
		"replies": {
			text: small + "reply_prefixes: [dbrunner.replies., a.b., $JS.API.]",
			want: []string{
				"line 6: reply_prefixes: entry 3 would let a job publish into the runners' own subjects or into $…; write a prefix " +
					"outside of them",
			},
		},
		"replies into the namespace": {
			text: small + "reply_prefixes: [dbrunner.]",
			want: []string{
				"line 6: reply_prefixes: entry 1 would let a job publish into the runners' own subjects or into $…; write a prefix " +
					"outside of them",
			},
		},
		"replies into inboxes of runners": {
			text: small + "reply_prefixes: [_INBOX_dbrunner.x.]",
			want: []string{
				"line 6: reply_prefixes: entry 1 would let a job publish into the runners' own subjects or into $…; write a prefix " +
					"outside of them",
			},
		},
		"more URLs": {text: small + "nats: {urls: ['nats://a:1', 'wss://b:2']}", want: []string{
			"line 6: nats.urls: WebSocket URLs (ws, wss) cannot be mixed with others; write one sort",
		}},
		"secret files": {
			text: small + "nats: {user: u, password_file: " + missing + "}", environ: []string{"RPA_DB_CONNECTION_STRING_FILE=/"},
			want: []string{
				"databases.rpa_db.connection_string_file (RPA_DB_CONNECTION_STRING_FILE): the file cannot be read: is a directory",
				"line 6: nats.password_file: no such file; name one that exists",
			},
		},
		"the environment": {
			text: small,
			environ: []string{
				"RUNNER_NATS_URL=x", "RUNNER_WORKER_SLEEP=x", "RUNNER_DATABASE=a", "RPA_DB_SLOT=3", "RPA_DB_CONECTION_STRING=x",
				"RPA_DB_POOL_MIN=many", "RUNNER_LOG_FORMAT=yaml", "RPA_DB_SETTINGS=a", "RUNNER_TOPOLOGY_ACK_WAIT=10",
			},
			want: []string{
				"RPA_DB_CONECTION_STRING: unknown setting; did you mean RPA_DB_CONNECTION_STRING?",
				"RPA_DB_SLOT: unknown setting; did you mean RPA_DB_SLOTS?",
				"RUNNER_DATABASE: unknown setting; did you mean RUNNER_DATABASES?",
				"RUNNER_NATS_URL: unknown setting; did you mean RUNNER_NATS_URLS?",
				"RUNNER_WORKER_SLEEP: unknown setting",
				"databases.rpa_db.pool.min (RPA_DB_POOL_MIN): write a whole number",
				"databases.rpa_db.settings (RPA_DB_SETTINGS): write names with values, such as {one: 1, two: b}; in the " +
					"environment one=1,two=b",
				"log.format (RUNNER_LOG_FORMAT): write one of json, console",
				"topology.ack_wait (RUNNER_TOPOLOGY_ACK_WAIT): write a duration with its unit, such as 500ms, 30s, 2m or 24h",
			},
		},
		"variables in the file": {
			text: "databases: {a: {type: '${TYPE}', connection_string: 'postgres://u:${PASSWORD}@h/d'}}",
			want: []string{
				"line 1: databases.a.connection_string: ${…} is not expanded in this file; remove the key and set the " +
					"environment variable A_CONNECTION_STRING",
				"line 1: databases.a.type: ${…} is not expanded in this file; remove the key and set the environment variable A_TYPE",
			},
		},
		"anchors and tags": {
			text: "databases:\n  a: &base {type: sqlite, connection_string: x}\n  b: *base\n  c: {type: !x sqlite, connection_string: y}",
			want: []string{
				"line 2: databases.a: anchors and aliases are not supported; write what databases share once, under defaults",
				"line 3: databases.b: anchors and aliases are not supported; write what databases share once, under defaults",
				"line 4: databases.c.type: tags such as !name are not supported; write the plain value",
			},
		},
		"no YAML":       {text: "a: [1\nb: 2", want: []string{"line 1: invalid YAML: did not find expected ',' or ']'"}},
		"no anchor":     {text: "a: *b", want: []string{"invalid YAML: alias without an anchor"}},
		"a list":        {text: "- a", want: []string{`line 1: write keys with values, such as "namespace: dbrunner"`}},
		"two documents": {text: small + "---\na: 1", want: []string{"line 2: more than one YAML document; remove the line --- and what follows"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, strings.Join(c.want, "\n"), strings.Join(faultsOf(t, c.text, c.environ...), "\n"))
		})
	}
}

func TestTheErrorHasALineForEachFault(t *testing.T) {
	t.Parallel()
	_, err := load(t, entry("slots: 0, timeout: 1"))
	require.EqualError(t, err, `the configuration has 2 faults:
  line 1: databases.a.slots: write a value from 1 to 100000
  line 1: databases.a.timeout: write a duration with its unit, such as 500ms, 30s, 2m or 24h`)
	require.EqualError(t, &config.Faults{List: []config.Fault{{Message: "x"}}}, "the configuration has 1 fault:\n  x")
}
