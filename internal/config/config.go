package config

import "time"

// Config is a runner's configuration. The tags of each key are its name in the file, its default and its limits, and
// its comment describes it; Describe lists them.
type Config struct {
	// first token of all subjects; in upper case, the prefix of stream names
	Namespace string `key:"namespace" default:"dbrunner" format:"name"`
	// name of this runner, unique among running runners
	Instance string `key:"instance" auto:"<host name>-<process id>" format:"name"`
	// subject prefixes allowed for a job's reply_to in addition to the built-in ones, each ending in a dot
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

// NATS configures the connection to the NATS server. At most one authentication method may be set.
type NATS struct {
	// server URLs of the cluster, without user and password
	URLs []string `key:"urls" default:"nats://127.0.0.1:4222" format:"url"`
	// file with a user's JWT and seed (.creds)
	CredentialsFile string `key:"credentials_file" format:"file"`
	// file with a user's nkey seed
	NKeySeedFile string `key:"nkey_seed_file" format:"file"`
	// user name; requires password
	User string `key:"user"`
	// password of the user
	Password Secret `key:"password"`
	// authentication token
	Token Secret `key:"token"`
	// prefix of the runner's own inboxes; no other user may publish or subscribe there
	InboxPrefix string `key:"inbox_prefix" auto:"_INBOX_<namespace>" format:"subject"`
	// JetStream domain, if it is not the leaf node's own
	Domain string `key:"domain" format:"name"`
	// timeout of one connection attempt
	ConnectTimeout time.Duration `key:"connect_timeout" default:"5s" min:"100ms" max:"5m"`
	// delay between reconnection attempts to the same server, plus jitter
	ReconnectWait time.Duration `key:"reconnect_wait" default:"1s" min:"10ms" max:"5m"`
	// how often a silent connection is pinged; it is considered lost after two unanswered pings
	PingInterval time.Duration `key:"ping_interval" default:"3s" min:"1s" max:"10m"`

	TLS TLS `key:"tls"`
}

// TLS configures TLS for the NATS connection. Server certificates are always verified.
type TLS struct {
	// CA certificates that sign the servers' certificates (PEM); empty: the system's
	CAFile string `key:"ca_file" format:"file"`
	// the runner's own certificate (PEM); requires key_file
	CertFile string `key:"cert_file" format:"file"`
	// private key of the runner's certificate (PEM)
	KeyFile string `key:"key_file" format:"file"`
	// name expected in the server's certificate, if it is not the host of the URL
	ServerName string `key:"server_name"`
	// start TLS before the server sends INFO; the server must be configured the same way
	HandshakeFirst bool `key:"handshake_first" default:"false"`
}

// Topology configures streams and consumers. It must be the same in the whole fleet.
type Topology struct {
	// manage creates missing streams and consumers; verify creates nothing; both refuse to start on a difference
	Mode string `key:"mode" default:"manage" oneof:"manage|verify"`
	// replicas of each stream; 3 in production
	Replicas int `key:"replicas" default:"1" oneof:"1|3|5"`
	// after this long without a lease extension, a job is redelivered to another runner
	AckWait time.Duration `key:"ack_wait" default:"10s" min:"1s" max:"10m"`
	// unacknowledged jobs of one database in the whole fleet; the server's or account's limit if that is lower
	MaxAckPending int             `key:"max_ack_pending" default:"10000" min:"1" max:"1000000"`
	Jobs          JobsStream      `key:"jobs"`
	Results       ResultsStream   `key:"results"`
	Dead          DeadStream      `key:"dead"`
	Control       ControlStream   `key:"control"`
	State         StateStream     `key:"state"`
	Schedules     SchedulesStream `key:"schedules"`
	Audit         AuditStream     `key:"audit"`
	Rows          RowsBucket      `key:"rows"`
	Params        ParamsBucket    `key:"params"`
	Health        HealthStream    `key:"health"`
}

// JobsStream limits the jobs stream of each database. When it is full, publishers are refused.
type JobsStream struct {
	// maximum number of jobs of one database in the stream
	MaxMessages int64 `key:"max_messages" default:"1000000" min:"1"`
	// maximum number of jobs of one kind of one database in the stream
	MaxMessagesPerKind int64 `key:"max_messages_per_kind" default:"500000" min:"1"`
	// maximum size of one database's jobs in the stream
	MaxBytes Size `key:"max_bytes" default:"512MiB" min:"1MiB"`
	// maximum size of a job, including headers, in the whole fleet; by default, a new stream uses its server's limit and an
	// existing one keeps its size
	MaxMessageBytes Size `key:"max_message_bytes" auto:"the server's max_payload - 64 KiB, when the stream is created" min:"64KiB" max:"64MiB"`
	// how long JetStream remembers a publisher's message id; the server's limit if that is lower
	DuplicateWindow time.Duration `key:"duplicate_window" default:"2m" min:"100ms" max:"24h"`
}

// ResultsStream limits the stream of each database's stored results.
type ResultsStream struct {
	// minimum time that a result is kept; if the limits cannot hold results that long, intake stops
	MinAge time.Duration `key:"min_age" default:"2m" min:"1s"`
	// maximum time that a result is kept
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// maximum number of results of one database; each uses about 0.3 KB of the server's memory
	MaxCount int64 `key:"max_count" default:"2000000" min:"1"`
	// maximum size of the results of one database
	MaxBytes Size `key:"max_bytes" default:"2GiB" min:"1MiB"`
}

// DeadStream limits the stream of dead letters. When it is full, new ones replace the oldest.
type DeadStream struct {
	// maximum time that a dead letter is kept
	MaxAge time.Duration `key:"max_age" default:"336h" min:"1s"`
	// maximum size of all dead letters
	MaxBytes Size `key:"max_bytes" default:"512MiB" min:"1MiB"`
}

// ControlStream limits the bucket of cancel requests. When it is full, new ones are refused.
type ControlStream struct {
	// maximum time that a cancel request is kept and honored
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// maximum number of cancel requests, of all databases together
	MaxRequests int64 `key:"max_requests" default:"100000" min:"1" max:"1000000"`
	// maximum size of all cancel requests
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// StateStream limits the bucket of pauses and of the states of schedules. When it is full, new pauses are refused; the states of
// schedules leave room for them.
type StateStream struct {
	// maximum size of the bucket; above 80 % of it, health is degraded
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// AuditStream limits the stream of what operators did. When it is full, their actions are refused.
type AuditStream struct {
	// how long an entry is kept
	MaxAge time.Duration `key:"max_age" default:"8760h" min:"1h"`
	// maximum size of all entries; above 80 % of it, health is degraded
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// SchedulesStream limits the bucket of schedules. When it is full, new ones are refused.
type SchedulesStream struct {
	// maximum size of the bucket; above 80 % of it, health is degraded
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// RowsBucket limits the object store of offloaded rows. When it is full, further rows are refused.
type RowsBucket struct {
	// how long rows are kept; at least as long as results
	MaxAge time.Duration `key:"max_age" auto:"topology.results.max_age + 1h" min:"1s"`
	// maximum size of the rows of all databases
	MaxBytes Size `key:"max_bytes" default:"4GiB" min:"1MiB"`
}

// ParamsBucket limits the object store of parameters that do not fit in their jobs (params_from). When it is full,
// publishers are refused.
type ParamsBucket struct {
	// how long parameters are kept
	MaxAge time.Duration `key:"max_age" default:"24h" min:"1s"`
	// maximum size of the parameters of all databases
	MaxBytes Size `key:"max_bytes" default:"1GiB" min:"1MiB"`
}

// HealthStream limits the stream of heartbeats.
type HealthStream struct {
	// how long a runner's last heartbeat is kept
	MaxAge time.Duration `key:"max_age" default:"5m" min:"1s"`
	// maximum size of all heartbeats; new ones replace the oldest
	MaxBytes Size `key:"max_bytes" default:"64MiB" min:"1MiB"`
}

// Worker limits the concurrency and the waiting times of one runner.
type Worker struct {
	// slots of this runner, for all databases together
	MaxSlots int `key:"max_slots" default:"2048" min:"1" max:"100000"`
	// a job delivered more often than this is not decoded again and fails
	MaxDeliveries int `key:"max_deliveries" default:"20" min:"2" max:"1000000"`
	// how long a database may be unresponsive before its jobs are requeued
	UnreachableGrace time.Duration `key:"unreachable_grace" default:"30s" min:"0s" max:"1h"`
	// time for running jobs to finish after SIGTERM
	DrainTimeout time.Duration `key:"drain_timeout" default:"30s" min:"0s" max:"1h"`
	// finished jobs whose result, reply or dead letter is being published at the same time
	SettleInFlight int `key:"settle_in_flight" default:"256" min:"1" max:"100000"`
	// objects of offloaded rows written at the same time, for all databases together; each uses a few MiB of memory and several times its largest row,
	// and further jobs wait
	MaxOutputs int `key:"max_outputs" default:"8" min:"1" max:"1000"`
	// interval between this runner's heartbeats
	HeartbeatInterval time.Duration `key:"heartbeat_interval" default:"10s" min:"1s" max:"10m"`
}

// API configures the NATS service.
type API struct {
	// enables the run endpoint: requests to <namespace>.api.run.… are published as jobs and answered with their results
	Run bool `key:"run" default:"true"`
	// how long such a request waits for its result by default; must be less than the client's timeout
	Wait time.Duration `key:"wait" default:"4s" min:"1ms" max:"1h"`
	// maximum wait that a request may ask for
	MaxWait time.Duration `key:"max_wait" default:"5m" min:"1ms" max:"1h"`
	// requests that this runner answers at the same time; further ones are refused
	MaxRequests int `key:"max_requests" default:"256" min:"1" max:"100000"`
}

// Log configures logging. Logs go to standard error.
type Log struct {
	// minimum level of log lines
	Level string `key:"level" default:"info" oneof:"debug|info|warn|error"`
	// json for machines, console for people
	Format string `key:"format" default:"json" oneof:"json|console"`
}

// HTTP configures the monitoring endpoint: /metrics, /healthz and /readyz. It has no authentication: expose it only to
// monitoring.
type HTTP struct {
	// host and port to listen on, such as :8080 or 127.0.0.1:8080; empty: nothing listens
	Address string `key:"address" format:"address"`
	// also serve /loglevel: any client of the endpoint can then read and change the log level
	LogLevel bool `key:"log_level" default:"false"`
	// also serve /debug/pprof/: Go profiles of the process; taking one slows it down
	PProf bool `key:"pprof" default:"false"`
}
