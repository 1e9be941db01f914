package contract

import "strings"

// DefaultNamespace is the first token of all subjects unless the configuration names another one.
const DefaultNamespace = "dbrunner"

// Subjects builds the subjects and the names of streams and buckets of one namespace. Their parts are not checked.
type Subjects struct{ Namespace string }

// Job returns where jobs are published.
func (s Subjects) Job(database, kind string) string {
	return s.Namespace + ".jobs." + database + "." + kind
}

// Queue returns what the subjects of a queue's jobs begin with: a kind, or a kind and a name, follow after a dot.
func (s Subjects) Queue(database, queue string) string {
	return s.Namespace + ".queues." + database + "." + queue
}

// QueueConsumer returns the name of the consumer and the lane that deliver a queue's jobs.
func QueueConsumer(queue string) string { return "queue_" + queue }

// Of returns where a job is published.
func (s Subjects) Of(job JobSubject) string {
	subject := s.Job(job.Database, job.Kind)
	if job.Queue != "" {
		subject = s.Queue(job.Database, job.Queue) + "." + job.Kind
	}
	if job.Name != "" {
		subject += "." + job.Name
	}
	return subject
}

// Store returns where runners publish a result. Its stream re-publishes what it stored to Result.
func (s Subjects) Store(database, id string) string {
	return s.Namespace + ".store." + database + "." + id
}

// Result returns where a result is stored and announced.
func (s Subjects) Result(database, id string) string {
	return s.Namespace + ".results." + database + "." + id
}

// Replies returns where a publisher may have replies sent besides its inbox.
func (s Subjects) Replies(database, rest string) string {
	return s.Namespace + ".replies." + database + "." + rest
}

// DeadLetter returns where a dead letter is stored. key is the derived id of the job's message.
func (s Subjects) DeadLetter(database, kind, key string) string {
	return s.Namespace + ".dead." + database + "." + kind + "." + key
}

// RunnerHealth returns where a runner's heartbeats are.
func (s Subjects) RunnerHealth(instance string) string {
	return s.Namespace + ".health.runner." + instance
}

// DatabaseHealth returns where a runner's heartbeats for a database are.
func (s Subjects) DatabaseHealth(database, instance string) string {
	return s.Namespace + ".health.database." + database + "." + instance
}

// Migration returns where the progress of a database's migration is.
func (s Subjects) Migration(database string) string {
	return s.Namespace + ".health.migration." + database
}

// API returns the subject of a request to the runners' service, such as databases or run.shop.query.
func (s Subjects) API(path string) string { return s.Namespace + ".api." + path }

// Control returns where the stream behind ControlBucket re-publishes a key that it stored.
func (s Subjects) Control(key string) string { return s.Namespace + ".control." + key }

// JobsStream returns the name of the stream with a database's jobs.
func (s Subjects) JobsStream(database string) string { return s.Prefix() + "JOBS_" + database }

// ResultsStream returns the name of the stream with a database's results.
func (s Subjects) ResultsStream(database string) string { return s.Prefix() + "RESULTS_" + database }

// DeadStream returns the name of the stream with all dead letters.
func (s Subjects) DeadStream() string { return s.Prefix() + "DEAD" }

// HealthStream returns the name of the stream with all heartbeats.
func (s Subjects) HealthStream() string { return s.Prefix() + "HEALTH" }

// ControlBucket returns the name of the key-value bucket of cancel requests, with keys <database>.<job id>.
func (s Subjects) ControlBucket() string { return s.Prefix() + "CONTROL" }

// State returns where the stream behind StateBucket re-publishes the headers of a key that it stored.
func (s Subjects) State(key string) string { return s.Namespace + ".state." + key }

// StateBucket returns the name of the key-value bucket of pauses, with keys of PauseKey,
// and of the states of schedules, with keys of ScheduleStateKey.
func (s Subjects) StateBucket() string { return s.Prefix() + "STATE" }

// Audit returns where entries about an action on a database are published. Without a database it is an action on the whole fleet.
func (s Subjects) Audit(database, action string) string {
	if database == "" {
		return s.Namespace + ".audit.fleet." + action
	}
	return s.Namespace + ".audit.database." + database + "." + action
}

// AuditStream returns the name of the stream with what operators did.
func (s Subjects) AuditStream() string { return s.Prefix() + "AUDIT" }

// RowsBucket returns the name of the object store's bucket with rows that have no room in their results.
func (s Subjects) RowsBucket() string { return s.Prefix() + "ROWS" }

// ParamsBucket returns the name of the object store's bucket with parameters that have no room in their jobs.
func (s Subjects) ParamsBucket() string { return s.Prefix() + "PARAMS" }

// Prefix returns what the names of all streams and buckets begin with.
func (s Subjects) Prefix() string { return strings.ToUpper(s.Namespace) + "_" }

// JobSubject is what a job's subject says of it.
type JobSubject struct {
	Database string
	Queue    string // that the job waits in; empty: it is a job of no queue
	Kind     string
	Name     string // of what the job runs; empty for kinds whose jobs name nothing
}

// SplitJob returns what a job's subject says; ok is false for any other subject.
func (s Subjects) SplitJob(subject string) (of JobSubject, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.Namespace)
	if !ok {
		return JobSubject{}, false
	}
	queued, inQueue := strings.CutPrefix(rest, ".queues.")
	if inQueue {
		rest = queued
	} else if rest, ok = strings.CutPrefix(rest, ".jobs."); !ok {
		return JobSubject{}, false
	}
	if of.Database, rest, ok = strings.Cut(rest, "."); !ok {
		return JobSubject{}, false
	}
	if inQueue {
		if of.Queue, rest, ok = strings.Cut(rest, "."); !ok {
			return JobSubject{}, false
		}
	}
	of.Kind, of.Name, _ = strings.Cut(rest, ".")
	return of, true
}
