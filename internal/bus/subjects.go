package bus

import (
	"fmt"
	"regexp"
	"strings"
)

// DefaultNamespace is the first token of all subjects where the configuration names no other.
const DefaultNamespace = "dbrunner"

const (
	maxNameLength = 64
	maxIDLength   = 120 // derived and re-driven ids are longer than a publisher's
	// maxReplyLength is far below the server's longest line of 4,096 bytes: above that it cuts the connection.
	maxReplyLength = 1024
)

var token = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func checkName(what, name string) error {
	if len(name) > maxNameLength || !token.MatchString(name) {
		return fmt.Errorf("%w: %s %q is not 1 to %d of A-Z a-z 0-9 _ -", ErrSubject, what, name, maxNameLength)
	}
	return nil
}

func checkID(id string) error {
	if len(id) > maxIDLength || !token.MatchString(id) {
		return fmt.Errorf("%w: id is not 1 to %d of A-Z a-z 0-9 _ -", ErrSubject, maxIDLength)
	}
	return nil
}

// bucketPrefix begins the name of the stream behind a key-value bucket.
const bucketPrefix = "KV_"

// objectPrefix begins the name of the stream behind a bucket of the object store.
const objectPrefix = "OBJ_"

// chunkSubject is where the chunks of an object are, by the mark that its description carries (nuid).
func chunkSubject(bucket, mark string) string { return "$O." + bucket + ".C." + mark }

// metaSubject is where the description of an object is, by its encoded name.
func metaSubject(bucket, encoded string) string { return "$O." + bucket + ".M." + encoded }

// subjects builds the subjects and stream names of one namespace.
type subjects struct {
	namespace string
}

func (s subjects) job(database, kind string) string {
	return s.namespace + ".jobs." + database + "." + kind
}

func (s subjects) store(database, id string) string {
	return s.namespace + ".store." + database + "." + id
}

func (s subjects) result(database, id string) string {
	return s.namespace + ".results." + database + "." + id
}

func (s subjects) letter(database, kind, derivedID string) string {
	return s.namespace + ".dead." + database + "." + kind + "." + derivedID
}

func (s subjects) runnerHealth(instance string) string {
	return s.namespace + ".health.runner." + instance
}

func (s subjects) databaseHealth(database, instance string) string {
	return s.namespace + ".health.database." + database + "." + instance
}

// migration is where the progress of a database's migration goes.
func (s subjects) migration(database string) string {
	return s.namespace + ".health.migration." + database
}

// api is the subject of a request to the runners' service.
func (s subjects) api(rest string) string { return s.namespace + ".api." + rest }

// controlBucket is the key-value bucket of requests to cancel; its keys are <database>.<job id>.
func (s subjects) controlBucket() string { return s.streamName("CONTROL") }

func (s subjects) controlStream() string { return bucketPrefix + s.controlBucket() }

func (s subjects) control(key string) string { return "$KV." + s.controlBucket() + "." + key }

// controlled is where the bucket's stream re-publishes what it has stored.
func (s subjects) controlled(key string) string { return s.namespace + ".control." + key }

// rowsBucket is the bucket of the object store with rows that are too many for a result.
func (s subjects) rowsBucket() string { return s.streamName("ROWS") }

// paramsBucket is the bucket of the object store with parameters that are too many for a job.
func (s subjects) paramsBucket() string { return s.streamName("PARAMS") }

func (s subjects) jobsStream(database string) string {
	return s.streamName("JOBS_" + database)
}

func (s subjects) resultsStream(database string) string {
	return s.streamName("RESULTS_" + database)
}

func (s subjects) deadStream() string   { return s.streamName("DEAD") }
func (s subjects) healthStream() string { return s.streamName("HEALTH") }

func (s subjects) streamName(rest string) string {
	return strings.ToUpper(s.namespace) + "_" + rest
}

// splitJob takes database and kind from a job's subject; ok is false for any other subject.
func (s subjects) splitJob(subject string) (database, kind string, ok bool) {
	rest, ok := strings.CutPrefix(subject, s.namespace)
	if !ok {
		return "", "", false
	}
	rest, ok = strings.CutPrefix(rest, ".jobs.")
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, ".")
}

// forOthers reports whether a refusal, in the server's words, is about a subject that a requester or a job has chosen for
// its answer, and not about one that a runner needs for itself.
func (s subjects) forOthers(refusal, inboxPrefix string) bool {
	publish, subject, _ := strings.Cut(refusedSubject(refusal), " to ")
	if publish != "publish" {
		return false
	}
	if rest, ours := strings.CutPrefix(subject, s.namespace+"."); ours {
		return strings.HasPrefix(rest, "replies.")
	}
	return !strings.HasPrefix(subject, "$") && !strings.HasPrefix(subject, inboxPrefix+".")
}

func noSubject(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' }

// checkReply is the second fence before a reply is published; the first is the validation of the job. It lets
// through literal subjects outside the server's and our own names, and the publishers' replies among ours.
func (s subjects) checkReply(subject, inboxPrefix string) error {
	switch {
	case len(subject) > maxReplyLength:
		return fmt.Errorf("%w: reply subject longer than %d bytes", ErrSubject, maxReplyLength)
	case subject == "" || strings.HasPrefix(subject, ".") || strings.HasSuffix(subject, ".") ||
		strings.Contains(subject, ".."):
		return fmt.Errorf("%w: empty token in the reply subject", ErrSubject)
	case strings.IndexFunc(subject, noSubject) >= 0:
		return fmt.Errorf("%w: wildcard, white space or control character in the reply subject", ErrSubject)
	case strings.HasPrefix(subject, "$"):
		return fmt.Errorf("%w: a reply may not go to the server's own subjects", ErrSubject)
	case strings.HasPrefix(subject+".", inboxPrefix+"."):
		return fmt.Errorf("%w: a reply may not go to a runner's inbox", ErrSubject)
	}
	if rest, ours := strings.CutPrefix(subject+".", s.namespace+"."); ours && (!strings.HasPrefix(rest, "replies.") || rest == "replies.") {
		return fmt.Errorf("%w: a reply may not go to the subjects of %s", ErrSubject, s.namespace)
	}
	return nil
}
