package contract

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"dbrunner/internal/jsontext"
)

// Head is what a result says about its job: enough to know whose it is.
type Head struct {
	JobID     string
	Kind      string
	Database  string
	Effect    Effect // empty if it could not be read
	Status    Status
	Hash      Hash // the request hash; nil if the body could not be understood
	Sequence  uint64
	QueuedAt  time.Time // the message's timestamp in the jobs stream, exact to the nanosecond
	ErrorCode string    // empty on success
	Duplicate bool
}

// SameMessage reports whether the result answers the message with this sequence and timestamp.
func (h *Head) SameMessage(sequence uint64, timestamp time.Time) bool {
	return h.Sequence == sequence && h.QueuedAt.Equal(timestamp)
}

// ReadHead reads the head of an encoded result without its rows. A text that is not one JSON object with all keys that
// every result has is an error.
func ReadHead(body []byte) (Head, error) {
	h := headReader{body: body}
	h.lexer.Reset(body, 0, 0)
	h.lexer.Lenient = true
	if err := h.read(); err != nil {
		return Head{}, fmt.Errorf("read a result: %w", err)
	}
	return h.Head, nil
}

// maxHeadText bounds the text of a value in a head, bytes with escapes. Longer texts are cut.
const maxHeadText = 6 * (MaxReplySubject + 1)

// headReader is a head while it is read.
type headReader struct {
	Head
	body  []byte
	lexer jsontext.Lexer
	key   [2][]byte // of the result, and of an object in it
	seen  int       // required keys found
}

// requiredHead is the number of keys that every result has: job_id, kind, database, status, sequence, queued_at.
const requiredHead = 6

func (h *headReader) read() error {
	for first := true; ; first = false {
		tok := h.lexer.Next()
		switch {
		case tok.Kind == jsontext.Bad:
			return h.lexer.Err
		case tok.Kind == jsontext.End && h.seen != requiredHead:
			return errors.New("a required key is missing or duplicate")
		case tok.Kind == jsontext.End:
			return nil
		case first && tok.Kind != jsontext.Object:
			return errors.New("not a JSON object")
		case tok.Kind == jsontext.Key && h.lexer.Depth <= len(h.key):
			h.key[h.lexer.Depth-1] = tok.Decode(h.body, maxHeadText)
		case h.lexer.Depth == 1 || h.lexer.Depth == 2 && string(h.key[0]) == "error":
			if err := h.take(tok); err != nil {
				return fmt.Errorf("%s: %w", h.key[0], err)
			}
		}
	}
}

// take takes the value of a key.
func (h *headReader) take(tok jsontext.Token) (err error) {
	if tok.Kind == jsontext.Close || tok.Kind == jsontext.Object || tok.Kind == jsontext.Array {
		return nil
	}
	text := tok.Decode(h.body, maxHeadText)
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

func (h *headReader) require(tok jsontext.Token, to *string, text []byte) error {
	if tok.Kind != jsontext.String || len(text) == 0 {
		return errors.New("not a string with text in it")
	}
	h.seen++
	*to = string(text)
	return nil
}

// What every result of this version starts with, and what follows it in a marked one.
var (
	opening       = "{" + resultKeys[0] + strconv.Itoa(Version) + ","
	duplicateMark = resultKeys[1] + "true,"
	expiredMark   = resultKeys[2] + "true,"
)

// MarkDuplicate returns a stored result with `"duplicate":true` in it, without encoding it again; a result that has
// the key already is returned as it is, and so is what is no result. The argument is not changed.
func MarkDuplicate(body []byte) []byte {
	at, ok := duplicatePlace(body)
	if !ok {
		return body
	}
	out := make([]byte, 0, len(body)+len(duplicateMark))
	out = append(out, body[:at]...)
	out = append(out, duplicateMark...)
	return append(out, body[at:]...)
}

// duplicatePlace finds where the key belongs: behind the version in results of this runner's make, else behind the
// opening brace.
func duplicatePlace(body []byte) (int, bool) {
	if rest, ok := bytes.CutPrefix(body, []byte(opening)); ok {
		return len(opening), !bytes.HasPrefix(rest, []byte(duplicateMark))
	}
	head, err := ReadHead(body)
	return bytes.IndexByte(body, '{') + 1, err == nil && !head.Duplicate
}

// MarkExpired returns a stored result marked as one whose rows are gone; what was not encoded by this package is returned as
// it is. The argument is not changed.
func MarkExpired(body []byte) []byte {
	rest, ours := bytes.CutPrefix(body, []byte(opening))
	if !ours || bytes.HasPrefix(rest, []byte(expiredMark)) {
		return body
	}
	return slices.Concat([]byte(opening+expiredMark), rest)
}

// AddError adds an error to an encoded result that has none; one that has an error keeps it. The argument is not changed.
func AddError(body []byte, e *Error) []byte {
	head, err := ReadHead(body)
	if err != nil || head.ErrorCode != "" {
		return body
	}
	out := append(make([]byte, 0, len(body)+512), body[:len(body)-1]...)
	out = append(append(out, ','), errorKey...)
	return append(e.Append(out), '}')
}

// errorKey is the key of a result's error, its last member.
var errorKey = resultKeys[len(resultKeys)-1]

// RowsObjects returns where the rows of an encoded result are that are not in it.
func RowsObjects(body []byte) []RowsObject {
	if !bytes.Contains(body, []byte(setKeys[3])) { // as nearly always
		return nil
	}
	r, err := ReadResult(body)
	if err != nil {
		return nil
	}
	var objects []RowsObject
	for _, set := range r.RowSets() {
		if set.Object != nil {
			objects = append(objects, *set.Object)
		}
	}
	return objects
}
