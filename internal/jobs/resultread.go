package jobs

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"dbrunner/internal/jsontext"
)

// ResultHead is what a stored result says about the job that it answers.
type ResultHead struct {
	JobID     string
	Kind      string
	Database  string
	Effect    Effect // empty if it could not be read
	Status    Status
	Hash      []byte // the request hash; nil if the body could not be understood
	Sequence  uint64
	QueuedAt  time.Time // the message's timestamp in the jobs stream, exact to the nanosecond
	ErrorCode string    // empty on success
	Duplicate bool
}

// SameMessage reports whether the result answers the message with this sequence and timestamp.
func (h *ResultHead) SameMessage(sequence uint64, timestamp time.Time) bool {
	return h.Sequence == sequence && h.QueuedAt.Equal(timestamp)
}

// ReadResult reads the head of an encoded result, of this runner's making or another's. A text that is not one JSON
// object with all that a comparison needs is an error.
func ReadResult(body []byte) (ResultHead, error) {
	h := resultHead{body: body}
	h.lexer.Reset(body, 0, 0)
	h.lexer.Lenient = true
	if err := h.read(); err != nil {
		return ResultHead{}, fmt.Errorf("read a result: %w", err)
	}
	return h.ResultHead, nil
}

// resultHead is a head while it is read.
type resultHead struct {
	ResultHead
	body  []byte
	lexer jsontext.Lexer
	key   [2][]byte // of the result, and of an object in it
	seen  int       // required keys found
}

// requiredHead is the number of keys that every result has: job_id, kind, database, status, sequence, queued_at.
const requiredHead = 6

func (h *resultHead) read() error {
	for first := true; ; first = false {
		tok := h.lexer.Next()
		switch {
		case tok.Kind == jsontext.Bad:
			return h.lexer.Err
		case tok.Kind == jsontext.End && h.seen != requiredHead:
			return errors.New("a key that every result has is missing or there twice")
		case tok.Kind == jsontext.End:
			return nil
		case first && tok.Kind != jsontext.Object:
			return errors.New("not a JSON object")
		case tok.Kind == jsontext.Key && h.lexer.Depth <= len(h.key):
			h.key[h.lexer.Depth-1] = tok.Decode(h.body, maxScannedText)
		case h.lexer.Depth == 1 || h.lexer.Depth == 2 && string(h.key[0]) == "error":
			if err := h.take(tok); err != nil {
				return fmt.Errorf("%s: %w", h.key[0], err)
			}
		}
	}
}

// take takes the value of a key.
func (h *resultHead) take(tok jsontext.Token) (err error) {
	if tok.Kind == jsontext.Close || tok.Kind == jsontext.Object || tok.Kind == jsontext.Array {
		return nil
	}
	text := tok.Decode(h.body, maxScannedText)
	if h.lexer.Depth == 2 {
		if string(h.key[1]) == "code" {
			h.ErrorCode = string(text)
		}
		return nil
	}
	switch string(h.key[0]) {
	case "job_id":
		return h.require(tok, &h.JobID, text)
	case "kind":
		return h.require(tok, &h.Kind, text)
	case "database":
		return h.require(tok, &h.Database, text)
	case "status":
		return h.require(tok, (*string)(&h.Status), text)
	case "effect":
		h.Effect = Effect(text)
	case "duplicate":
		h.Duplicate = string(text) == "true"
	case "request_hash":
		h.Hash, err = hex.AppendDecode(nil, text)
	case "sequence":
		h.seen++
		h.Sequence, err = strconv.ParseUint(string(text), 10, 64)
	case "queued_at":
		h.seen++
		h.QueuedAt, err = time.Parse(time.RFC3339Nano, string(text))
	}
	return err
}

func (h *resultHead) require(tok jsontext.Token, to *string, text []byte) error {
	if tok.Kind != jsontext.String || len(text) == 0 {
		return errors.New("not a string with text in it")
	}
	h.seen++
	*to = string(text)
	return nil
}

// MarkDuplicate returns a stored result with `"duplicate":true` in it, without encoding it again; a result that has
// the key already is returned as it is, and so is what is no result. The argument is not changed.
func MarkDuplicate(body []byte) []byte {
	at, ok := duplicatePlace(body)
	if !ok {
		return body
	}
	out := make([]byte, 0, len(body)+len(duplicateMember))
	out = append(out, body[:at]...)
	out = append(out, duplicateMember...)
	return append(out, body[at:]...)
}

// duplicatePlace finds where the key belongs: behind the version in results of this runner's make, else behind the
// opening brace.
func duplicatePlace(body []byte) (int, bool) {
	if rest, ok := bytes.CutPrefix(body, []byte(resultOpening)); ok {
		return len(resultOpening), !bytes.HasPrefix(rest, []byte(duplicateMember))
	}
	head, err := ReadResult(body)
	return bytes.IndexByte(body, '{') + 1, err == nil && !head.Duplicate
}
