package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// How many jobs a runner holds for each connection of a pool: basePerConnection at any time, of which those beyond
// the connections wait decoded, so that no connection waits for the network; by default up to slotsPerConnection
// while jobs end quickly, so that messages come and go in groups.
const (
	basePerConnection  = 4
	slotsPerConnection = 16
)

// BaseSlots is how many jobs the runner holds although they take long. More, up to Slots, it takes only as they end.
func (d *Database) BaseSlots() int { return min(d.Slots, basePerConnection*d.Pool.Max) }

// MigrationConnection is how migrations reach the database; empty where they cannot, because only a pooler in
// transaction mode is known.
func (d *Database) MigrationConnection() Secret {
	switch {
	case !d.Migrations.ConnectionString.Empty():
		return d.Migrations.ConnectionString
	case !d.DirectConnectionString.Empty():
		return d.DirectConnectionString
	case d.Pooler == PoolerTransaction:
		return Secret{}
	default:
		return d.ConnectionString
	}
}

// ledgerEffects are the effects that are promises of the ledger.
func ledgerEffects() []string { return []string{"exactly_once", "at_most_once"} }

// complete checks every value, fills in what follows from others and checks what they mean together.
func (c *Config) complete(w Words, client bool, faults *collector) {
	limits := &limiter{faults: faults, words: w, client: client}
	limits.section(reflect.ValueOf(c).Elem(), "")
	c.fill(w)
	check := &checker{cfg: c, words: w, faults: faults}
	check.nats()
	check.topology()
	check.api()
	check.replies()
	check.http()
	check.names(client)
	for _, name := range c.sortedNames() {
		check.database(join(databasesKey, name), c.Databases[name])
	}
	check.slots()
}

func (c *Config) fill(w Words) {
	if c.Instance == "" {
		c.Instance = defaultInstance()
	}
	if c.NATS.InboxPrefix == "" {
		c.NATS.InboxPrefix = "_INBOX_" + c.Namespace
	}
	if c.Topology.Rows.MaxAge == 0 {
		c.Topology.Rows.MaxAge = c.Topology.Results.MaxAge + time.Hour
	}
	c.fillQueues()
	c.fillSlots()
	for name, d := range c.Databases {
		if d.Migrations.Folder == "" {
			d.Migrations.Folder = filepath.Join("migrations", name)
		}
		if d.DeadLetters == nil {
			d.DeadLetters = slices.Clone(w.DeadLetters)
		}
	}
}

// fillSlots bounds the databases that have no bound of their own: by what worker.max_slots leaves for each connection
// and by the fleet's bound, but never below what they hold at any time.
func (c *Config) fillSlots() {
	room, connections := c.Worker.MaxSlots, 0
	for _, d := range c.Databases {
		room -= d.Slots + d.queueSlots()
		if d.Slots == 0 {
			connections += d.Pool.Max
		}
	}
	each := min(slotsPerConnection, room/max(connections, 1))
	for _, d := range c.Databases {
		if d.Slots == 0 {
			d.Slots = max(basePerConnection*d.Pool.Max, min(each*d.Pool.Max, c.Topology.MaxAckPending))
		}
	}
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// defaultInstance names a process. Two containers with one process id differ by their host names.
func defaultInstance() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "runner"
	}
	host = notInNames.ReplaceAllString(host, "-")
	pid := "-" + strconv.Itoa(os.Getpid())
	return host[:min(len(host), 64-len(pid))] + pid
}

// checker looks at settings that are right by themselves and wrong together.
type checker struct {
	cfg    *Config
	words  Words
	faults *collector
}

// want adds a fault at the first path unless ok holds. It keeps silent where one of the values is faulty itself.
func (c *checker) want(ok bool, message string, paths ...string) {
	if !ok && c.faults.sound(paths...) {
		c.faults.add(paths[0], message)
	}
}

func (c *checker) nats() {
	n := &c.cfg.NATS
	c.signIn(n)
	c.together("nats.user", n.User != "", "nats.password", !n.Password.Empty())
	c.together("nats.tls.cert_file", n.TLS.CertFile != "", "nats.tls.key_file", n.TLS.KeyFile != "")
	c.want(!mixed(n.URLs), "WebSocket URLs (ws, wss) cannot be mixed with others; write one sort", "nats.urls")
	c.want(c.ownInbox(n.InboxPrefix), "the runner's inboxes need a place of their own, outside of _INBOX, of $… and "+
		"of the namespace; leave the key out or write another", "nats.inbox_prefix", "namespace")
}

func (c *checker) signIn(n *NATS) {
	ways := []struct {
		path  string
		given bool
	}{
		{"nats.credentials_file", n.CredentialsFile != ""},
		{"nats.nkey_seed_file", n.NKeySeedFile != ""},
		{"nats.user", n.User != ""},
		{"nats.token", !n.Token.Empty()},
	}
	var given []string
	for _, way := range ways {
		if way.given {
			given = append(given, way.path)
		}
	}
	c.want(len(given) < 2, "there is more than one way to sign in: "+strings.Join(given, ", ")+"; leave one", "nats")
}

// together wants both keys or neither.
func (c *checker) together(a string, hasA bool, b string, hasB bool) {
	c.want(!hasA || hasB, "this needs "+b+" too", a, b, b+fileSuffix)
	c.want(!hasB || hasA, "this needs "+a+" too", b, a, b+fileSuffix)
}

func mixed(urls []string) bool {
	sockets := 0
	for _, u := range urls {
		if strings.HasPrefix(u, "ws") {
			sockets++
		}
	}
	return sockets > 0 && sockets < len(urls)
}

func (c *checker) ownInbox(prefix string) bool {
	first, _, _ := strings.Cut(prefix, ".")
	return first != "_INBOX" && first != c.cfg.Namespace && !strings.HasPrefix(first, "$")
}

func (c *checker) topology() {
	t, r := &c.cfg.Topology, &c.cfg.Topology.Results
	c.want(c.cfg.Topology.Rows.MaxAge >= r.MaxAge, fmt.Sprintf("rows must be kept as long as the results that name them: write "+
		"at least %s, or lower topology.results.max_age", short(r.MaxAge)), "topology.rows.max_age", "topology.results.max_age")
	c.want(r.MinAge <= r.MaxAge, fmt.Sprintf("results cannot be kept at least %s and at most %s; lower this or raise "+
		"topology.results.max_age", short(r.MinAge), short(r.MaxAge)), "topology.results.min_age", "topology.results.max_age")
	c.want(t.Jobs.MaxMessagesPerKind <= t.Jobs.MaxMessages, "one kind cannot have more jobs than all kinds together; "+
		"lower this or raise topology.jobs.max_messages", "topology.jobs.max_messages_per_kind", "topology.jobs.max_messages")
	beat := c.cfg.Worker.HeartbeatInterval
	c.want(t.Health.MaxAge >= 3*beat, fmt.Sprintf("heartbeats come every %s and must outlive two that are lost; "+
		"write at least %s", short(beat), short(3*beat)), "topology.health.max_age", "worker.heartbeat_interval")
}

func (c *checker) api() {
	a := &c.cfg.API
	c.want(a.Wait <= a.MaxWait, fmt.Sprintf("the default of %s is above api.max_wait, %s; lower this or raise "+
		"api.max_wait", short(a.Wait), short(a.MaxWait)), "api.wait", "api.max_wait")
}

// replies keeps jobs from having answers published where they would do harm.
func (c *checker) replies() {
	namespace := c.cfg.Namespace + "."
	inbox := c.cfg.NATS.InboxPrefix + "."
	for i, prefix := range c.cfg.ReplyPrefixes {
		inside := strings.HasPrefix(prefix, namespace) && !strings.HasPrefix(prefix, namespace+"replies.")
		over := strings.HasPrefix(prefix, inbox) || strings.HasPrefix(inbox, prefix)
		c.want(!inside && !over && !strings.HasPrefix(prefix, "$"), "entry "+strconv.Itoa(i+1)+
			" would let a job publish into the runners' own subjects or into $…; write a prefix outside of them",
			"reply_prefixes", "namespace", "nats.inbox_prefix")
	}
}

// http requires an address where an HTTP endpoint is enabled.
func (c *checker) http() {
	h := &c.cfg.HTTP
	const silent = "nothing listens while http.address is empty; write an address there, such as 127.0.0.1:8080"
	c.want(h.Address != "" || !h.LogLevel, silent, "http.log_level", "http.address")
	c.want(h.Address != "" || !h.PProf, silent, "http.pprof", "http.address")
}

func (c *checker) database(path string, d *Database) {
	at := func(key string) string { return join(path, key) }
	c.want(d.Pool.Min <= d.Pool.Max, fmt.Sprintf("%d connections cannot be kept when at most %d may be open; lower "+
		"this or raise pool.max", d.Pool.Min, d.Pool.Max), at("pool.min"), at("pool.max"))
	c.want(d.Timeout <= d.MaxTimeout, fmt.Sprintf("the default of %s is above max_timeout, %s; lower this or raise "+
		"max_timeout", short(d.Timeout), short(d.MaxTimeout)), at("timeout"), at("max_timeout"))
	c.want(d.Retry.Delay <= d.Retry.MaxDelay, fmt.Sprintf("the first pause of %s is above retry.max_delay, %s; lower "+
		"this or raise retry.max_delay", short(d.Retry.Delay), short(d.Retry.MaxDelay)), at("retry.delay"), at("retry.max_delay"))
	c.want(d.MaxBytes <= c.cfg.Topology.Results.MaxBytes, "one result could be larger than the stream of results; "+
		"lower this or raise topology.results.max_bytes", at("max_bytes"), "topology.results.max_bytes")
	c.want(!d.Output.Enabled || d.Output.MaxBytes <= c.cfg.Topology.Rows.MaxBytes, "the rows of one job could be larger than the "+
		"store of rows; lower this or raise topology.rows.max_bytes", at("output.max_bytes"), "topology.rows.max_bytes")
	c.want(d.Slots <= c.cfg.Topology.MaxAckPending, fmt.Sprintf("one runner cannot hold %d jobs when the fleet may "+
		"hold %d; lower this or raise topology.max_ack_pending", d.Slots, c.cfg.Topology.MaxAckPending),
		at("slots"), at("pool.max"), "topology.max_ack_pending")
	c.want(!d.MigrateOnStart || !d.MigrationConnection().Empty() || d.ConnectionString.Empty(), "migrations need a session of their own, "+
		"which a pooler in transaction mode does not give: write direct_connection_string too", at("migrate_on_start"), at("pooler"))
	c.want(d.Health.Slow <= d.Health.Timeout, fmt.Sprintf("a check cannot take %s when it stops after health.timeout, %s; "+
		"lower this or raise health.timeout", short(d.Health.Slow), short(d.Health.Timeout)), at("health.slow"), at("health.timeout"))
	c.want(d.MaxAffected == 0 || len(d.Kinds) > 0 && !slices.Contains(d.Kinds, "statement"), "max_affected does not limit jobs of kind "+
		"statement, which run here; write kinds without it, such as [query, transaction, migration, health], or remove max_affected",
		at("kinds"), at("max_affected"))
	c.queues(path, d)
	c.ledger(path, d)
	c.outbox(path, d)
	for kind, limits := range d.ByKind {
		c.kind(path, kind, d, limits)
	}
}

func (c *checker) ledger(path string, d *Database) {
	oldest := c.cfg.Topology.Results.MaxAge
	effects, mode, retention := join(path, "effects"), join(path, "ledger.mode"), join(path, "ledger.retention")
	c.want(!d.HasLedger() || d.Ledger.Retention >= oldest, fmt.Sprintf("the ledger must remember a job as long as its "+
		"result is kept: write at least %s, or lower topology.results.max_age", short(oldest)),
		retention, mode, "topology.results.max_age")
	for _, effect := range ledgerEffects() {
		c.want(d.HasLedger() || !slices.Contains(d.Effects, effect), effect+" needs a ledger, and ledger.mode is off; "+
			"remove it from the list or write ledger.mode: manage", effects, mode)
	}
}

func (c *checker) kind(database, kind string, d *Database, k *KindLimits) {
	if k.Timeout == 0 && k.MaxTimeout == 0 {
		return
	}
	path := join(database, "by_kind."+kind)
	timeout, ceiling := k.Timeout, k.MaxTimeout
	from := []string{path, join(path, "timeout"), join(path, "max_timeout")}
	if timeout == 0 {
		timeout, from = d.Timeout, append(from, join(database, "timeout"))
	}
	if ceiling == 0 {
		ceiling, from = d.MaxTimeout, append(from, join(database, "max_timeout"))
	}
	c.want(timeout <= ceiling, fmt.Sprintf("jobs of this kind would have a default timeout of %s above their "+
		"max_timeout of %s; set both here", short(timeout), short(ceiling)), from...)
}

// slots keeps the jobs that a runner may hold under one bound, and so its memory.
func (c *checker) slots() {
	sum := 0
	parts := make([]string, 0, len(c.cfg.Databases))
	for _, name := range c.cfg.sortedNames() {
		path := join(databasesKey, name)
		if !c.faults.sound(join(path, "slots"), join(path, "pool.max")) {
			return
		}
		d := c.cfg.Databases[name]
		slots := d.Slots
		if slices.ContainsFunc(c.words.OwnSlots, func(kind string) bool { return slices.Contains(d.Kinds, kind) }) {
			slots *= 2
		}
		slots += d.queueSlots()
		sum += slots
		parts = append(parts, name+" "+strconv.Itoa(slots))
	}
	c.want(sum <= c.cfg.Worker.MaxSlots, fmt.Sprintf("the databases together hold %d jobs (%s), above this bound of "+
		"%d; raise it or lower slots", sum, strings.Join(parts, ", "), c.cfg.Worker.MaxSlots), "worker.max_slots")
}
