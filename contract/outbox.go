package contract

import "time"

// OutboxMessageID returns the Nats-Msg-Id of a row of a database's outbox. It is no valid job id, so that no message of another
// publisher is taken for its copy.
func OutboxMessageID(database, token string) string { return "outbox." + database + "." + token }

// OutboxReply returns where a relay has answers about a database sent, which its runners do not send to their own inboxes. word
// is random.
func OutboxReply(s Subjects, database, word string) string {
	return s.Replies(database, "outbox."+word)
}

// storedByMargin is what the clocks of a source, a target and NATS may differ by at most.
const storedByMargin = time.Hour

// OutboxLimits returns how old a row of an outbox may be when it is published, and how old when the target's stream stores it,
// for a target whose ledger keeps a row for retention: a copy that is stored later could find the ledger row gone.
func OutboxLimits(retention time.Duration) (published, stored time.Duration) {
	return retention / 2, retention - min(storedByMargin, retention/4)
}
