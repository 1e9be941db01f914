package bus

import (
	"fmt"
	"strings"

	"dbrunner/contract"
)

// maxReplyLength is far below the server's longest line of 4,096 bytes: above that it cuts the connection.
const maxReplyLength = 1024

// CheckName returns ErrSubject for a name of a database, kind, lane or instance that may not be part of a subject.
func CheckName(what, name string) error {
	if !contract.ValidName(name) {
		return fmt.Errorf("%w: %s %q is not 1 to 64 of A-Z a-z 0-9 _ -", ErrSubject, what, name)
	}
	return nil
}

// CheckLane returns ErrSubject for a name that can be neither a lane's nor that of a queue's lane.
func CheckLane(name string) error {
	if queue, ok := strings.CutPrefix(name, contract.QueueConsumer("")); ok && contract.ValidQueue(queue) {
		return nil // longer than other names
	}
	return CheckName("lane", name)
}

// CheckID returns ErrSubject for an id that cannot be a job's.
func CheckID(id string) error {
	if !contract.ValidResultID(id) {
		return fmt.Errorf("%w: id is not 1 to 120 of A-Z a-z 0-9 _ -", ErrSubject)
	}
	return nil
}

// Overlapping returns the first of some subjects with wildcards that stands for a subject which one of the others stands for as
// well; empty: none does.
func Overlapping(subjects []string, others ...string) string {
	for _, subject := range subjects {
		for _, other := range others {
			if overlap(subject, other) {
				return subject
			}
		}
	}
	return ""
}

func overlap(a, b string) bool {
	for {
		first, restA, moreA := strings.Cut(a, ".")
		other, restB, moreB := strings.Cut(b, ".")
		switch {
		case first == ">" || other == ">":
			return true
		case first != other && first != "*" && other != "*" || moreA != moreB:
			return false
		case !moreA:
			return true
		}
		a, b = restA, restB
	}
}

// bucketPrefix starts the name of the stream behind a key-value bucket.
const bucketPrefix = "KV_"

// ObjectPrefix starts the name of the stream behind a bucket of the object store.
const ObjectPrefix = "OBJ_"

// ChunkSubject returns where the chunks of an object are, by the mark that its description carries (nuid).
func ChunkSubject(bucket, mark string) string { return "$O." + bucket + ".C." + mark }

// MetaSubject returns where the description of an object is, by its encoded name.
func MetaSubject(bucket, encoded string) string { return "$O." + bucket + ".M." + encoded }

// ControlStream returns the name of the stream behind the key-value bucket of cancel requests.
func ControlStream(s contract.Subjects) string { return bucketPrefix + s.ControlBucket() }

// ControlKey returns where the stream behind the bucket of cancel requests keeps a key.
func ControlKey(s contract.Subjects, key string) string {
	return "$KV." + s.ControlBucket() + "." + key
}

// StateStream returns the name of the stream behind the key-value bucket of pauses.
func StateStream(s contract.Subjects) string { return bucketPrefix + s.StateBucket() }

// StateKey returns where the stream behind the bucket of pauses keeps a key.
func StateKey(s contract.Subjects, key string) string { return "$KV." + s.StateBucket() + "." + key }

// SchedulesStream returns the name of the stream behind the key-value bucket of schedules.
func SchedulesStream(s contract.Subjects) string { return bucketPrefix + contract.SchedulesBucket(s) }

// SchedulesKey returns where the stream behind the bucket of schedules keeps a key.
func SchedulesKey(s contract.Subjects, key string) string {
	return "$KV." + contract.SchedulesBucket(s) + "." + key
}

// InNamespace reports whether a stream, also one behind a bucket, has a name of the namespace.
func InNamespace(s contract.Subjects, stream string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(stream, bucketPrefix), ObjectPrefix)
	return strings.HasPrefix(name, strings.ToUpper(s.Namespace)+"_")
}

// MetaOrdered is the key of the metadata of a consumer that is one of an ordered queue.
const MetaOrdered = "dbrunner.ordered"

// forOthers reports whether a refusal, in the server's words, is about a subject that a requester or a job has chosen for
// its answer, and not about one that a runner needs for itself.
func forOthers(s contract.Subjects, refusal, inboxPrefix string) bool {
	publish, subject, _ := strings.Cut(refusedSubject(refusal), " to ")
	if publish != "publish" {
		return false
	}
	if rest, ours := strings.CutPrefix(subject, s.Namespace+"."); ours {
		return strings.HasPrefix(rest, "replies.")
	}
	return !strings.HasPrefix(subject, "$") && !strings.HasPrefix(subject, inboxPrefix+".")
}

func noSubject(r rune) bool { return r <= ' ' || r == 0x7f || r == '*' || r == '>' }

// checkReply is the second fence before a reply is published; the first is the validation of the job. It lets
// through literal subjects outside the server's and our own names, and the publishers' replies among ours.
func checkReply(s contract.Subjects, subject, inboxPrefix string) error {
	switch {
	case len(subject) > maxReplyLength:
		return fmt.Errorf("%w: reply subject longer than %d bytes", ErrSubject, maxReplyLength)
	case subject == "" || strings.HasPrefix(subject, ".") || strings.HasSuffix(subject, ".") ||
		strings.Contains(subject, ".."):
		return fmt.Errorf("%w: empty token in the reply subject", ErrSubject)
	case strings.IndexFunc(subject, noSubject) >= 0:
		return fmt.Errorf("%w: wildcard, white space or control character in the reply subject", ErrSubject)
	case strings.HasPrefix(subject, "$"):
		return fmt.Errorf("%w: a reply must not go to the server's own subjects", ErrSubject)
	case strings.HasPrefix(subject+".", inboxPrefix+"."):
		return fmt.Errorf("%w: a reply must not go to a runner's inbox", ErrSubject)
	}
	if rest, ours := strings.CutPrefix(subject+".", s.Namespace+"."); ours && (!strings.HasPrefix(rest, "replies.") || rest == "replies.") {
		return fmt.Errorf("%w: a reply must not go to the subjects of %s", ErrSubject, s.Namespace)
	}
	return nil
}
