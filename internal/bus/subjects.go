package bus

import (
	"fmt"
	"strings"

	"dbrunner/contract"
)

// DefaultNamespace is the first token of all subjects unless the configuration names another one.
const DefaultNamespace = contract.DefaultNamespace

// maxReplyLength is far below the server's longest line of 4,096 bytes: above that it cuts the connection.
const maxReplyLength = 1024

func CheckName(what, name string) error {
	if !contract.ValidName(name) {
		return fmt.Errorf("%w: %s %q is not 1 to 64 of A-Z a-z 0-9 _ -", ErrSubject, what, name)
	}
	return nil
}

func checkID(id string) error {
	if !contract.ValidResultID(id) {
		return fmt.Errorf("%w: id is not 1 to 120 of A-Z a-z 0-9 _ -", ErrSubject)
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
type subjects struct{ contract.Subjects }

func (s subjects) controlStream() string { return bucketPrefix + s.ControlBucket() }

func (s subjects) controlKey(key string) string { return "$KV." + s.ControlBucket() + "." + key }

// forOthers reports whether a refusal, in the server's words, is about a subject that a requester or a job has chosen for
// its answer, and not about one that a runner needs for itself.
func (s subjects) forOthers(refusal, inboxPrefix string) bool {
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
	if rest, ours := strings.CutPrefix(subject+".", s.Namespace+"."); ours && (!strings.HasPrefix(rest, "replies.") || rest == "replies.") {
		return fmt.Errorf("%w: a reply may not go to the subjects of %s", ErrSubject, s.Namespace)
	}
	return nil
}
