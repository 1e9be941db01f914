package config

import "time"

// Config is everything that a runner is told. Each key's tags say its name in the file, its default, its limits
// and what it is; Describe lists them.
type Config struct {
	// first token of all subjects; in upper case the first word of stream names
	Namespace string `key:"namespace" default:"dbrunner" format:"name"`
	// name of this runner, unique among those that run
	Instance string `key:"instance" auto:"<host name>-<process id>" format:"name"`
	// subject prefixes that a job's reply_to may have besides the built-in ones, each ending in a dot
	ReplyPrefixes []string `key:"reply_prefixes" format:"prefix"`

	NATS     NATS     `key:"nats"`
	Topology Topology `key:"topology"`
	Worker   Worker   `key:"worker"`
	API      API      `key:"api"`
	Log      Log      `key:"log"`
	HTTP     HTTP     `key:"http"`

	Defaults  Defaults             `key:"defaults"`
	Databases map[string]*Database `key:"databases" each:"name"`
}

// NATS says how the NATS server is reached. At most one way to sign in may be given.
type NATS struct {
	// servers of the cluster; no user or password in them
	URLs []string `key:"urls" default:"nats://127.0.0.1:4222" format:"url"`
	// file with a user's JWT and seed (.creds)
	CredentialsFile string `key:"credentials_file" format:"file"`
	// file with a user's nkey seed
	NKeySeedFile string `key:"nkey_seed_file" format:"file"`
	// user name, together with password
	User string `key:"user"`
	// password of the user
	Password Secret `key:"password"`
	// token to sign in with
	Token Secret `key:"token"`
	// prefix of the runner's own inboxes; nobody else may publish or subscribe there
	InboxPrefix string `key:"inbox_prefix" auto:"_INBOX_<namespace>" format:"subject"`
	// JetStream domain, where a leaf node's is not meant
	Domain string `key:"domain" format:"name"`
	// limit of one attempt to connect
	ConnectTimeout time.Duration `key:"connect_timeout" default:"5s" min:"100ms" max:"5m"`
	// pause between two attempts to reach the same server; jitter is added
	ReconnectWait time.Duration `key:"reconnect_wait" default:"1s" min:"10ms" max:"5m"`
	// how often a silent connection is tried; it counts as lost after two pings without an answer
	PingInterval time.Duration `key:"ping_interval" default:"3s" min:"1s" max:"10m"`

	TLS TLS `key:"tls"`
}

// TLS says how the connection to NATS is secured. Server certificates are always verified.
type TLS struct {
	// certificates of the authorities that sign servers (PEM); empty: the system's
	CAFile string `key:"ca_file" format:"file"`
	// the runner's own certificate (PEM), together with key_file
	CertFile string `key:"cert_file" format:"file"`
	// private key of the runner's certificate (PEM)
	KeyFile string `key:"key_file" format:"file"`
	// name that the server's certificate must carry, where it is not the host of the URL
	ServerName string `key:"server_name"`
	// start TLS before the server's greeting; the server must be set alike
	HandshakeFirst bool `key:"handshake_first" default:"false"`
}

// Topology says what streams and consumers look like. It has to be the same in the whole fleet.
type Topology struct {
	// manage creates what is missing; verify creates nothing; both refuse to start on a difference
	Mode string `key:"mode" default:"manage" oneof:"manage|verify"`
	// servers that keep each stream; 3 in production
	Replicas int `key:"replicas" default:"1" oneof:"1|3|5"`
	// after this long without a sign of life a job goes to another runner
	AckWait time.Duration `key:"ack_wait" default:"10s" min:"1s" max:"10m"`
	// jobs of one database that the whole fleet may hold at once; the server's or the account's limit where that is lower
	MaxAckPending int           `key:"max_ack_pending" default:"10000" min:"1" max:"1000000"`
	Jobs          JobsStream    `key:"jobs"`
	Results       ResultsStream `key:"results"`
	Dead          DeadStream    `key:"dead"`
	Control       ControlStream `key:"control"`
	Rows          RowsBucket    `key:"rows"`
	Params        ParamsBucket  `key:"params"`
	Health        HealthStream  `key:"health"`
}

// JobsStream bounds the stream of each database's jobs. What does not fit is refused at the publisher.
type JobsStream struct {
	// jobs that may wait for one database
	MaxMessages int64 `key:"max_messages" default:"1000000" min:"1"`
	// jobs of one kind that may wait for one database
	MaxMessagesPerKind int64 `key:"max_messages_per_kind" default:"500000" min:"1"`
	// bytes that a database's waiting jobs may take
	MaxBytes Size `key:"max_bytes" default:"512MiB" min:"1MiB"`
	// the largest job, headers included, of the whole fleet; a new stream gets what its server allows, and one that is there
	// keeps what it has
	MaxMessageBytes Size `key:"max_message_bytes" auto:"the server's max_payload - 64 KiB, when the stream is created" min:"64KiB" max:"64MiB"`
	// how long a publisher's message id is remembered; the server's limit where that is lower
	DuplicateWindow time.Duration `key:"duplicate_window" default:"2m" min:"100ms" max:"24h"`
}

// ResultsStream bounds the stream of each database's stored results.
type ResultsStream struct {
	// a result is kept at least this long; where even that does not fit, intake stops
	MinAge time.Duration `key:"min_age" default:"2m" min:"1s"`
	// a result is kept at most this long
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// results kept for one database; each costs the server about 0.3 KB of memory
	MaxCount int64 `key:"max_count" default:"2000000" min:"1"`
	// bytes that the kept results of one database may take
	MaxBytes Size `key:"max_bytes" default:"2GiB" min:"1MiB"`
}

// DeadStream bounds the stream of dead letters. The oldest make room for new ones.
type DeadStream struct {
	// a dead letter is kept at most this long
	MaxAge time.Duration `key:"max_age" default:"336h" min:"1s"`
	// bytes that all dead letters may take
	MaxBytes Size `key:"max_bytes" default:"512MiB" min:"1MiB"`
}

// ControlStream bounds the bucket of requests to cancel jobs. What does not fit is refused.
type ControlStream struct {
	// a request to cancel is kept, and honoured, at most this long
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// requests to cancel that may be kept at once, all databases together
	MaxRequests int64 `key:"max_requests" default:"100000" min:"1" max:"1000000"`
	// bytes that all requests to cancel may take
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// RowsBucket bounds the object store of rows that have no room in their results. What does not fit is refused.
type RowsBucket struct {
	// rows are kept this long, which is at least as long as results are
	MaxAge time.Duration `key:"max_age" auto:"topology.results.max_age + 1h" min:"1s"`
	// bytes that the rows of all databases may take
	MaxBytes Size `key:"max_bytes" default:"4GiB" min:"1MiB"`
}

// ParamsBucket bounds the object store of parameters that have no room in their jobs. What does not fit is refused at
// the publisher.
type ParamsBucket struct {
	// parameters are kept this long
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// bytes that the parameters of all databases may take
	MaxBytes Size `key:"max_bytes" default:"1GiB" min:"1MiB"`
}

// HealthStream bounds the stream of heartbeats.
type HealthStream struct {
	// a heartbeat is kept this long after a runner's last one
	MaxAge time.Duration `key:"max_age" default:"5m" min:"1s"`
	// bytes that all heartbeats may take; the oldest make room for new ones
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// Worker bounds what one runner does at once and how long it waits.
type Worker struct {
	// jobs that this runner may hold at once, all databases together
	MaxSlots int `key:"max_slots" default:"2048" min:"1" max:"100000"`
	// a job delivered more often is not decoded any more but answered failed
	MaxDeliveries int `key:"max_deliveries" default:"20" min:"2" max:"1000000"`
	// jobs of a database that does not answer are handed back after this long
	UnreachableGrace time.Duration `key:"unreachable_grace" default:"30s" min:"0s" max:"1h"`
	// time that running jobs have to end after SIGTERM
	DrainTimeout time.Duration `key:"drain_timeout" default:"30s" min:"0s" max:"1h"`
	// jobs done whose result, reply or dead letter may be on its way at once
	SettleInFlight int `key:"settle_in_flight" default:"256" min:"1" max:"100000"`
	// objects of rows that may be written at once, all databases together; each takes some MiB of memory, and what is
	// above waits
	MaxOutputs int `key:"max_outputs" default:"8" min:"1" max:"1000"`
	// how often this runner says that it lives
	HeartbeatInterval time.Duration `key:"heartbeat_interval" default:"10s" min:"1s" max:"10m"`
}

// API says how the runner answers requests to the NATS service.
type API struct {
	// whether requests to <namespace>.api.run.… are published as jobs and answered with their results
	Run bool `key:"run" default:"true"`
	// how long such a request waits for its result where it does not say so itself; less than its client waits
	Wait time.Duration `key:"wait" default:"4s" min:"1ms" max:"1h"`
	// how long a request may ask to wait at most
	MaxWait time.Duration `key:"max_wait" default:"5m" min:"1ms" max:"1h"`
	// requests that this runner answers at once; what is above is refused
	MaxRequests int `key:"max_requests" default:"256" min:"1" max:"100000"`
}

// Log says what is logged and how. Logs go to standard error.
type Log struct {
	// least severe entries that are written
	Level string `key:"level" default:"info" oneof:"debug|info|warn|error"`
	// json for machines, console for people
	Format string `key:"format" default:"json" oneof:"json|console"`
}

// HTTP shows how the runner is, on one port without sign-in: /metrics, /healthz and /readyz. Open it to those who
// watch the runner, and to nobody else.
type HTTP struct {
	// host and port to listen on, such as :8080 or 127.0.0.1:8080; empty: nothing listens
	Address string `key:"address" format:"address"`
	// /loglevel too: whoever reaches the port may read and change the least severe level that is logged
	LogLevel bool `key:"log_level" default:"false"`
	// /debug/pprof/ too: profiles of the process, which cost it time
	PProf bool `key:"pprof" default:"false"`
}
