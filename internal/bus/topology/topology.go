package topology

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"dbrunner/contract"
	"dbrunner/internal/bus"
)

// maxWaiting is the number of pull requests that may wait at one lane: each runner keeps a few there, and the
// server drops what is above without a word.
const maxWaiting = 4096

// Topology is what the configuration wants of streams and consumers. Zero fields have defaults.
type Topology struct {
	Namespace string // the connection's, or empty
	Replicas  int    // of each stream, default 1
	Databases []Database
	Jobs      JobsLimits
	Results   ResultsLimits
	Dead      DeadLimits
	Control   ControlLimits
	State     StateLimits
	Audit     AuditLimits
	Schedules StateLimits
	Health    HealthLimits
	Rows      ObjectLimits  // rows that are too many for a result, default 25 h and 4 GiB
	Params    ObjectLimits  // parameters that are too many for a job, default 24 h and 1 GiB
	AckWait   time.Duration // a message that its runner shows no interest in is delivered again, default 10 s
}

// JobsLimits bound each database's queue. What is above is refused at the publisher.
type JobsLimits struct {
	MaxMsgs         int64         // default 1,000,000
	MaxBytes        int64         // default 1 GiB
	MaxMsgsPerKind  int64         // default MaxMsgs
	DuplicateWindow time.Duration // within it a repeated Nats-Msg-Id is dropped, default 2 min
	// MaxMessage is the largest job, headers included, in bytes. 0: a new stream gets what the server's largest message
	// allows, and one that is there keeps what it has.
	MaxMessage int64
}

// ResultsLimits bound each database's stored results.
type ResultsLimits struct {
	MinAge   time.Duration // never purged before, default 2 min
	MaxAge   time.Duration // default 24 h
	MaxCount int64         // default 2,000,000
	MaxBytes int64         // default 2 GiB
}

// DeadLimits bound the dead letters of all databases together; the oldest go first.
type DeadLimits struct {
	MaxAge   time.Duration // default 14 days
	MaxBytes int64         // default 1 GiB
}

// ControlLimits bound the requests to cancel jobs, of all databases together. What is above is refused.
type ControlLimits struct {
	MaxAge      time.Duration // a request is kept and honoured this long, default 24 h
	MaxRequests int64         // default 100,000
	MaxBytes    int64         // default 64 MiB
}

// StateLimits bound the pauses and the states of schedules, or the schedules, of all databases together. What is above is refused.
type StateLimits struct {
	MaxBytes int64 // default 64 MiB
}

// HealthLimits bound the heartbeats and what is known of databases, of the whole fleet. The oldest make room.
type HealthLimits struct {
	MaxAge   time.Duration // a heartbeat older than this is gone, default 1 min
	MaxBytes int64         // default 64 MiB
}

// ObjectLimits bound a bucket of the object store, of all databases together. What is above is refused.
type ObjectLimits struct {
	MaxAge   time.Duration // an object is kept this long
	MaxBytes int64
}

func (t Topology) withDefaults() Topology {
	t.Replicas = cmp.Or(t.Replicas, 1)
	t.Jobs.MaxMsgs = cmp.Or(t.Jobs.MaxMsgs, 1_000_000)
	t.Jobs.MaxBytes = cmp.Or(t.Jobs.MaxBytes, 1<<30)
	t.Jobs.MaxMsgsPerKind = cmp.Or(t.Jobs.MaxMsgsPerKind, t.Jobs.MaxMsgs)
	t.Jobs.DuplicateWindow = cmp.Or(t.Jobs.DuplicateWindow, 2*time.Minute)
	t.Results.MinAge = cmp.Or(t.Results.MinAge, 2*time.Minute)
	t.Results.MaxAge = cmp.Or(t.Results.MaxAge, 24*time.Hour)
	t.Results.MaxCount = cmp.Or(t.Results.MaxCount, 2_000_000)
	t.Results.MaxBytes = cmp.Or(t.Results.MaxBytes, 2<<30)
	t.Dead.MaxAge = cmp.Or(t.Dead.MaxAge, 14*24*time.Hour)
	t.Dead.MaxBytes = cmp.Or(t.Dead.MaxBytes, 1<<30)
	t.Control.MaxAge = cmp.Or(t.Control.MaxAge, 24*time.Hour)
	t.Control.MaxRequests = cmp.Or(t.Control.MaxRequests, 100_000)
	t.Rows = cmp.Or(t.Rows, ObjectLimits{MaxAge: t.Results.MaxAge + time.Hour, MaxBytes: 4 << 30})
	t.Params = cmp.Or(t.Params, ObjectLimits{MaxAge: 24 * time.Hour, MaxBytes: 1 << 30})
	t.Control.MaxBytes = cmp.Or(t.Control.MaxBytes, 64<<20)
	t.State.MaxBytes = cmp.Or(t.State.MaxBytes, 64<<20)
	t.Audit.MaxAge = cmp.Or(t.Audit.MaxAge, 365*24*time.Hour)
	t.Audit.MaxBytes = cmp.Or(t.Audit.MaxBytes, 64<<20)
	t.Schedules.MaxBytes = cmp.Or(t.Schedules.MaxBytes, 64<<20)
	t.Health.MaxAge = cmp.Or(t.Health.MaxAge, time.Minute)
	t.Health.MaxBytes = cmp.Or(t.Health.MaxBytes, 64<<20)
	t.AckWait = cmp.Or(t.AckWait, 10*time.Second)
	t.Databases = slices.Clone(t.Databases)
	for d := range t.Databases {
		t.Databases[d].Lanes = slices.Clone(t.Databases[d].Lanes)
		for l := range t.Databases[d].Lanes {
			t.Databases[d].Lanes[l].MaxAckPending = cmp.Or(t.Databases[d].Lanes[l].MaxAckPending, 10_000)
		}
	}
	return t
}

func (t *Topology) validate() error {
	var errs []error
	seen := make(map[string]bool)
	for i := range t.Databases {
		d := &t.Databases[i]
		if seen[d.Name] {
			errs = append(errs, fmt.Errorf("database %s is duplicate", d.Name))
		}
		seen[d.Name] = true
		errs = append(errs, bus.CheckName("database", d.Name), d.validate())
	}
	if t.Replicas < 1 || t.Replicas > 5 {
		errs = append(errs, fmt.Errorf("replicas %d: from 1 to 5", t.Replicas))
	}
	if t.Results.MinAge > t.Results.MaxAge {
		errs = append(errs, fmt.Errorf("results: minimum age %s above maximum age %s", t.Results.MinAge, t.Results.MaxAge))
	}
	if t.Rows.MaxAge < t.Results.MaxAge {
		errs = append(errs, fmt.Errorf("rows: maximum age %s below that of results, %s", t.Rows.MaxAge, t.Results.MaxAge))
	}
	return errors.Join(errs...)
}

func (d *Database) validate() error {
	var errs []error
	owner := make(map[string]string)
	lanes := make(map[string]bool)
	for _, lane := range d.Lanes {
		errs = append(errs, bus.CheckLane(lane.Name))
		if lanes[lane.Name] {
			errs = append(errs, fmt.Errorf("database %s: lane %s is duplicate", d.Name, lane.Name))
		}
		lanes[lane.Name] = true
		if len(lane.Kinds) == 0 {
			errs = append(errs, fmt.Errorf("database %s: lane %s has no kinds", d.Name, lane.Name))
		}
		for _, kind := range lane.Kinds {
			errs = append(errs, bus.CheckName("kind", kind))
			at := lane.Queue + "." + kind
			if other, taken := owner[at]; taken {
				errs = append(errs, fmt.Errorf("database %s: kind %s is in lanes %s and %s", d.Name, kind, other, lane.Name))
			}
			owner[at] = lane.Name
		}
	}
	if len(d.Lanes) == 0 {
		errs = append(errs, fmt.Errorf("database %s has no lanes", d.Name))
	}
	return errors.Join(errs...)
}

// stream is a wanted stream.
type stream struct {
	config   jetstream.StreamConfig
	database string // empty: of all databases

	followsServer   bool // its largest message follows from the server's
	messageIDs      bool // publishers' message ids mean something in it
	unboundedBefore bool // earlier releases made it without a limit of bytes
	rollupBefore    bool // earlier releases let publishers roll it up
	missingBefore   bool // earlier releases did without it: so do runners, with less, until it is there
	fills           bool // it refuses what is above its size, and only time empties it: that it fills is reported

	optional []string // of its subjects, those without which a runner starts
	features []string // subjects, or what they begin with and ">", that another configuration may name
}

// consumer is a wanted consumer and the stream that it belongs to.
type consumer struct {
	stream   string
	config   jetstream.ConsumerConfig
	database string
	optional bool // a runner starts without it
}

// wanted is the topology as the server's settings.
type wanted struct {
	streams   []stream
	consumers []consumer
}

func wantedFrom(c *bus.Conn, t Topology) (wanted, error) {
	t = t.withDefaults()
	if t.Namespace != "" && t.Namespace != c.Subjects().Namespace {
		return wanted{}, fmt.Errorf("topology: namespace %s, but the connection's is %s", t.Namespace, c.Subjects().Namespace)
	}
	if err := t.validate(); err != nil {
		return wanted{}, fmt.Errorf("topology: %w", err)
	}
	b := builder{subjects: c.Subjects(), topology: t, maxJob: c.MaxJob()}
	var w wanted
	for _, d := range t.Databases {
		w.streams = append(w.streams,
			b.jobsStream(d),
			stream{config: b.results(d.Name), database: d.Name})
		for _, lane := range d.Lanes {
			w.consumers = append(w.consumers, consumer{c.Subjects().JobsStream(d.Name), b.lane(d.Name, lane), d.Name, lane.Optional})
		}
	}
	params := b.objects(c.Subjects().ParamsBucket(), "parameters that are too many for a job", t.Params)
	params.AllowRollup = true // every client library's put replaces the description of an object by it
	w.streams = append(w.streams, stream{config: b.dead()}, stream{config: b.health(), unboundedBefore: true},
		stream{config: b.control(), unboundedBefore: true, rollupBefore: true},
		stream{config: b.objects(c.Subjects().RowsBucket(), "rows that are too many for a result", t.Rows), rollupBefore: true},
		stream{config: params},
		// last: where room is short, what runners cannot do without has it
		b.lasting(bus.StateStream(b.subjects), bus.StateKey(b.subjects, ">"), b.subjects.State(">"), 32<<10, t.State),
		b.lasting(bus.SchedulesStream(b.subjects), bus.SchedulesKey(b.subjects, ">"), contract.SchedulesSubject(b.subjects, ">"), contract.MaxScheduleRecord+4<<10, t.Schedules),
		b.audit())
	return w, nil
}

// builder turns the topology into settings.
type builder struct {
	subjects contract.Subjects
	topology Topology
	maxJob   int
}

func (b *builder) stream(name, purpose string) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:         name,
		Description:  purpose,
		Storage:      jetstream.FileStorage,
		Replicas:     b.topology.Replicas,
		MaxMsgs:      -1,
		MaxBytes:     -1,
		MaxMsgSize:   -1,
		MaxConsumers: -1,
		Duplicates:   2 * time.Minute,
		Metadata:     map[string]string{metaNamespace: b.subjects.Namespace},
	}
}

// jobsStream is a database's queue, and what of it may be missing.
func (b *builder) jobsStream(d Database) stream {
	s := stream{config: b.jobs(d), database: d.Name, followsServer: b.topology.Jobs.MaxMessage == 0, messageIDs: true}
	for i := range d.Lanes {
		if d.Lanes[i].Optional {
			s.optional = append(s.optional, b.jobSubjects(d.Name, d.Lanes[i].Queue, d.Lanes[i].subjects())...)
		}
	}
	s.features = append(b.jobSubjects(d.Name, "", d.Features), b.subjects.Queue(d.Name, ">"))
	return s
}

// jobSubjects are the subjects of jobs with these ends, behind a database or one of its queues.
func (b *builder) jobSubjects(database, queue string, ends []string) []string {
	out := make([]string, len(ends))
	for i, end := range ends {
		out[i] = b.subjects.Of(contract.JobSubject{Database: database, Queue: queue, Kind: end})
	}
	return out
}

// jobs is a database's queue. Its kinds are listed one by one, so that a publish to another kind is refused.
func (b *builder) jobs(d Database) jetstream.StreamConfig {
	limits := b.topology.Jobs
	s := b.stream(b.subjects.JobsStream(d.Name), "jobs for database "+d.Name)
	for i := range d.Lanes {
		s.Subjects = append(s.Subjects, b.jobSubjects(d.Name, d.Lanes[i].Queue, d.Lanes[i].subjects())...)
	}
	slices.Sort(s.Subjects)
	s.Retention = jetstream.WorkQueuePolicy
	s.Discard, s.DiscardNewPerSubject = jetstream.DiscardNew, true
	s.MaxMsgs, s.MaxBytes, s.MaxMsgsPerSubject = limits.MaxMsgs, limits.MaxBytes, limits.MaxMsgsPerKind
	s.MaxMsgSize = int32(b.maxJob) //nolint:gosec // max_payload is an int32 in the server
	if limits.MaxMessage > 0 {
		s.MaxMsgSize = int32(limits.MaxMessage) //nolint:gosec // the configuration bounds it
	}
	s.Duplicates = limits.DuplicateWindow
	return s
}

// results takes what runners publish under store, keeps it under results and re-publishes only what it kept: a
// subscriber to results never sees a second, refused result.
func (b *builder) results(database string) jetstream.StreamConfig {
	limits := b.topology.Results
	s := b.stream(b.subjects.ResultsStream(database), "results of database "+database)
	stored := b.subjects.Result(database, "{{wildcard(1)}}")
	s.Subjects = []string{b.subjects.Store(database, "*")}
	s.SubjectTransform = &jetstream.SubjectTransformConfig{Source: s.Subjects[0], Destination: stored}
	s.RePublish = &jetstream.RePublish{Source: b.subjects.Result(database, "*"), Destination: stored}
	s.Discard, s.DiscardNewPerSubject, s.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
	s.MaxAge, s.MaxMsgs, s.MaxBytes = limits.MaxAge, limits.MaxCount, limits.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.AllowDirect = true
	return s
}

func (b *builder) dead() jetstream.StreamConfig {
	s := b.stream(b.subjects.DeadStream(), "dead letters")
	s.Subjects = []string{b.subjects.Namespace + ".dead.>"}
	s.Discard, s.MaxMsgsPerSubject = jetstream.DiscardOld, 1
	s.MaxAge, s.MaxBytes = b.topology.Dead.MaxAge, b.topology.Dead.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.AllowDirect = true
	return s
}

func (b *builder) health() jetstream.StreamConfig {
	s := b.stream(b.subjects.HealthStream(), "heartbeats and health")
	s.Subjects = []string{b.subjects.Namespace + ".health.>"}
	s.Discard, s.MaxMsgsPerSubject = jetstream.DiscardOld, 1
	s.MaxAge, s.MaxBytes = b.topology.Health.MaxAge, b.topology.Health.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.AllowDirect = true
	return s
}

// control is a key-value bucket, set up as every client library knows them, whose stream re-publishes what it has
// stored: that wakes the runners, which then read it. It takes no roll-up, with which a user who may write one key could
// remove all others: put and delete of stock clients work, purge is refused.
func (b *builder) control() jetstream.StreamConfig {
	s := b.stream(bus.ControlStream(b.subjects), "requests to cancel jobs")
	s.Subjects = []string{bus.ControlKey(b.subjects, ">")}
	s.RePublish = &jetstream.RePublish{Source: bus.ControlKey(b.subjects, ">"), Destination: b.subjects.Control(">"), HeadersOnly: true}
	s.Discard, s.MaxMsgsPerSubject = jetstream.DiscardNew, 1
	s.MaxAge, s.MaxMsgs, s.MaxBytes = b.topology.Control.MaxAge, b.topology.Control.MaxRequests, b.topology.Control.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.DenyDelete, s.AllowDirect = true, true
	return s
}

// stateHistory is how many entries of each key a bucket without an age keeps.
const stateHistory = 5

// lasting is a bucket as control is, whose entries have no age. The largest one is bounded, so that who may write one key cannot fill it.
func (b *builder) lasting(name, keys, announced string, largest int32, limits StateLimits) stream {
	s := b.stream(name, "pauses and schedules")
	s.Subjects = []string{keys}
	s.RePublish = &jetstream.RePublish{Source: keys, Destination: announced, HeadersOnly: true}
	s.Discard, s.MaxMsgsPerSubject, s.MaxMsgSize, s.MaxBytes = jetstream.DiscardNew, stateHistory, largest, limits.MaxBytes
	s.DenyDelete, s.AllowDirect = true, true
	return stream{config: s, missingBefore: true}
}

// objects is a bucket of the object store, set up as every client library knows them but for roll-up: with it, whoever
// may publish one chunk could remove all objects.
func (b *builder) objects(bucket, purpose string, limits ObjectLimits) jetstream.StreamConfig {
	s := b.stream(bus.ObjectPrefix+bucket, purpose)
	s.Subjects = []string{bus.ChunkSubject(bucket, ">"), bus.MetaSubject(bucket, ">")}
	s.Discard = jetstream.DiscardNew
	s.MaxAge, s.MaxBytes = limits.MaxAge, limits.MaxBytes
	s.Duplicates = min(s.Duplicates, s.MaxAge)
	s.AllowDirect = true
	return s
}

// lane is a durable consumer. It has no BackOff, which would override AckWait and delay hand-backs, and unlimited
// deliveries: above a limit the server would leave the message in the stream and never deliver it.
func (b *builder) lane(database string, lane Lane) jetstream.ConsumerConfig {
	c := jetstream.ConsumerConfig{
		Name:          lane.Name,
		Durable:       lane.Name,
		Description:   "lane " + lane.Name + " of database " + database,
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		ReplayPolicy:  jetstream.ReplayInstantPolicy,
		AckWait:       b.topology.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: lane.MaxAckPending,
		MaxWaiting:    maxWaiting,
		Metadata:      map[string]string{metaNamespace: b.subjects.Namespace},
	}
	if lane.Ordered {
		c.Metadata[bus.MetaOrdered] = "yes"
	}
	c.FilterSubjects = b.jobSubjects(database, lane.Queue, lane.filters())
	slices.Sort(c.FilterSubjects)
	return c
}

// metaNamespace marks streams and consumers as ours: the names alone may be another namespace's.
const metaNamespace = "dbrunner.namespace"

// carriesMark reports whether the metadata of a stream or consumer carries our mark.
func carriesMark(c *bus.Conn, metadata map[string]string) bool {
	return metadata[metaNamespace] == c.Subjects().Namespace
}
