package contract

import (
	"errors"
	"fmt"
	"strings"
)

// MaxReplySubject bounds a reply subject, bytes: what NATS recommends as the longest subject.
const MaxReplySubject = 255

// inboxPrefix is where stock NATS clients await answers.
const inboxPrefix = "_INBOX."

// ValidReply returns what is wrong with the subject on which a publisher wants its answer; nil if nothing is. A runner
// publishes there with its own rights, so that a subject is taken only inside `_INBOX.`,
// `<namespace>.replies.<database>.` or one of the configured prefixes (each ending in a dot), has a token behind the
// prefix, and no wildcard, empty token, `$`, blank, control or non-ASCII character. The text never repeats the subject.
func ValidReply(namespace, database, subject string, prefixes []string) error {
	if len(subject) > MaxReplySubject {
		return fmt.Errorf("the subject is longer than %d bytes", MaxReplySubject)
	}
	if err := plainSubject(subject); err != nil {
		return err
	}
	if !replyAllowed(namespace, database, subject, prefixes) {
		return fmt.Errorf("the subject must begin with %s", replyPlaces(namespace, database, prefixes))
	}
	return nil
}

// plainSubject refuses what NATS or its servers give a meaning of its own.
func plainSubject(subject string) error {
	if subject == "" {
		return errors.New("the subject is empty")
	}
	previous := byte('.')
	for _, c := range []byte(subject) {
		switch {
		case c <= ' ' || c >= 0x7f:
			return errors.New("the subject may have printable ASCII characters only, no blanks")
		case c == '*' || c == '>':
			return errors.New("the subject may have no wildcards")
		case c == '$':
			return errors.New("the subject may have no $: such subjects belong to the server")
		case c == '.' && previous == '.':
			return errors.New("the subject has an empty token")
		}
		previous = c
	}
	if previous == '.' {
		return errors.New("the subject has an empty token")
	}
	return nil
}

func replyAllowed(namespace, database, subject string, prefixes []string) bool {
	if strings.HasPrefix(subject, inboxPrefix) {
		return true
	}
	if rest, ok := strings.CutPrefix(subject, namespace); ok && namespace != "" {
		if rest, ok = strings.CutPrefix(rest, ".replies."); ok {
			if rest, ok = strings.CutPrefix(rest, database); ok && database != "" && strings.HasPrefix(rest, ".") {
				return true
			}
		}
	}
	for _, prefix := range prefixes {
		if strings.HasSuffix(prefix, ".") && strings.HasPrefix(subject, prefix) {
			return true
		}
	}
	return false
}

func replyPlaces(namespace, database string, prefixes []string) string {
	places := inboxPrefix + " or " + namespace + ".replies." + database + "."
	for _, prefix := range prefixes {
		places += " or " + prefix
	}
	return places
}
