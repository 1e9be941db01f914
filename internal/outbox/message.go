package outbox

import (
	"fmt"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/db/outboxtable"
	"dbrunner/internal/jsontext"
	"dbrunner/internal/report"
)

// Errors that are kept in rows. Their first words are stable.
const (
	errTarget  = "target_not_configured: %s is not one of outbox.targets; add it there, or remove the row"
	errID      = "invalid_id: the id is not 1 to 100 of A-Z a-z 0-9 _ -, or has the form of a derived id; insert a row with another one"
	errBody    = "invalid_body: the body is not one JSON object%s; insert a row with a correct one"
	errBodyID  = "invalid_body: the body has an id, which is the row's column; insert a row without it"
	errTooOld  = "too_old: the row is older than %s, half of what the ledger of %s keeps; it may have been published before: find out whether the job took effect, then retry it with --force or remove it"
	errFuture  = "invalid_created_at: the time is in the future; insert rows without created_at"
	errTooLong = "too_large: the job is larger than the stream accepts; raise topology.jobs.max_message_bytes, or insert smaller rows"
)

// clockTolerance is how far in the future created_at may be: the clock of a database may step back.
const clockTolerance = 5 * time.Minute

// Limits on a body, as jobs have them.
const (
	maxDepth  = 64
	maxValues = 200_000
)

// maxKey bounds the keys that are decoded, bytes with escapes.
const maxKey = 6 * len("id")

// maxShown bounds the text of a target in an error.
const maxShown = 200

// message makes the message of a row, or returns why it can never be published. retention is the target's.
func message(database string, row *outboxtable.Row, configured bool, of string, retention time.Duration) (*report.OutboxMessage, string) {
	switch {
	case !configured:
		return nil, fmt.Sprintf(errTarget, jsontext.Clip(row.Target, maxShown))
	case !contract.ValidID(row.ID):
		return nil, errID
	case row.Age < -clockTolerance:
		return nil, errFuture
	}
	published, stored := contract.OutboxLimits(retention)
	if row.Age > published {
		return nil, fmt.Sprintf(errTooOld, published, of)
	}
	body, problem := withID(row.Body, row.ID)
	if problem != "" {
		return nil, problem
	}
	return &report.OutboxMessage{
		Target: row.Target, ID: contract.OutboxMessageID(database, row.Token), StoredBy: row.CreatedAt.Add(stored), Body: body,
	}, ""
}

// withID puts a job's id into its body, or returns what is wrong with the body.
func withID(body, id string) (_ []byte, problem string) {
	var l jsontext.Lexer
	text := []byte(body)
	l.Reset(text, maxDepth, maxValues)
	object, empty := false, true
	for {
		tok := l.Next()
		switch {
		case tok.Kind == jsontext.Bad:
			return nil, fmt.Sprintf(errBody, " ("+l.Err.Message+")")
		case tok.Kind == jsontext.End && object:
			return inserted(text, id, empty), ""
		case tok.Kind == jsontext.End || !object && tok.Kind != jsontext.Object:
			return nil, fmt.Sprintf(errBody, "")
		case tok.Kind == jsontext.Object && l.Depth == 1:
			object = true
		case tok.Kind == jsontext.Key && l.Depth == 1:
			if string(tok.Decode(text, maxKey)) == "id" {
				return nil, errBodyID
			}
			empty = false
		}
	}
}

func inserted(body []byte, id string, empty bool) []byte {
	rest := body[strings.IndexByte(string(body), '{')+1:]
	out := make([]byte, 0, len(body)+len(id)+10)
	out = append(out, `{"id":"`...)
	out = append(out, id...)
	out = append(out, '"')
	if !empty {
		out = append(out, ',')
	}
	return append(out, rest...)
}
