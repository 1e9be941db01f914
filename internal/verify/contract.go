package verify

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// The words of the contract that are judged here, as docs/messages.md has them.
const (
	exactlyOnce = "exactly_once"
	atMostOnce  = "at_most_once"

	statusFailed   = "failed"
	statusRejected = "rejected"
	statusUnknown  = "unknown"
	statusStarted  = "started" // of a ledger row whose job has no outcome yet

	codeIDReused          = "job_id_reused"
	codeResultTaken       = "result_id_taken"
	codeTooLarge          = "result_too_large"
	codeTooManyDeliveries = "too_many_deliveries"
)

// names are the streams and subjects of one database.
type names struct{ namespace, database string }

func (n names) jobs() string    { return strings.ToUpper(n.namespace) + "_JOBS_" + n.database }
func (n names) results() string { return strings.ToUpper(n.namespace) + "_RESULTS_" + n.database }
func (n names) dead() string    { return strings.ToUpper(n.namespace) + "_DEAD" }

func (n names) result(id string) string { return n.namespace + ".results." + n.database + "." + id }

func (n names) deadLetter(kind, derived string) string {
	return n.namespace + ".dead." + n.database + "." + kind + "." + derived
}

// deadLetters is what the subjects of the database's dead letters start with.
func (n names) deadLetters() string { return n.namespace + ".dead." + n.database + "." }

// message is the identity of a job's message: its sequence in the jobs stream and its time there.
type message struct {
	sequence uint64
	at       time.Time
}

func (m message) equal(o message) bool { return m.sequence == o.sequence && m.at.Equal(o.at) }

// derived is the id that a runner derives from the message.
func (m message) derived() string {
	return "s" + strconv.FormatUint(m.sequence, 10) + "_" + strconv.FormatInt(m.at.UnixNano(), 36)
}

// looksDerived reports whether an id has the form of derived ids, which publishers may not choose.
func looksDerived(id string) bool {
	number, moment, ok := strings.Cut(strings.TrimPrefix(id, "s"), "_")
	return ok && strings.HasPrefix(id, "s") && only(number, "0123456789") && only(moment, "0123456789abcdefghijklmnopqrstuvwxyz")
}

func only(text, allowed string) bool { return text != "" && strings.Trim(text, allowed) == "" }

// head is what a result says of its job, without its answer.
type head struct {
	JobID    string    `json:"job_id"`
	Kind     string    `json:"kind"`
	Database string    `json:"database"`
	Effect   string    `json:"effect"`
	Status   string    `json:"status"`
	Hash     string    `json:"request_hash"` // hexadecimal
	Sequence uint64    `json:"sequence"`
	QueuedAt time.Time `json:"queued_at"`
	Error    struct {
		Code string `json:"code"`
	} `json:"error"`
}

func (h *head) message() message { return message{h.Sequence, h.QueuedAt} }

// readHead reads a whole result.
func readHead(body []byte) (head, error) {
	var h head
	if err := json.Unmarshal(body, &h); err != nil {
		return h, fmt.Errorf("read a result: %w", err)
	}
	if h.JobID == "" || h.Status == "" || h.Sequence == 0 || h.QueuedAt.IsZero() {
		return h, errors.New("a result without job_id, status, sequence or queued_at")
	}
	return h, nil
}

// readStart reads what the first bytes of a result say. Members that are cut off, or come later, stay empty.
func readStart(start []byte) (head, error) {
	var h head
	dec := json.NewDecoder(bytes.NewReader(start))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return h, errors.New("not a JSON object")
	}
	into := map[string]any{
		"job_id": &h.JobID, "kind": &h.Kind, "database": &h.Database, "effect": &h.Effect, "status": &h.Status,
		"request_hash": &h.Hash, "sequence": &h.Sequence, "queued_at": &h.QueuedAt, "error": &h.Error,
	}
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return h, cut(err)
		}
		name, _ := key.(string)
		target := into[name]
		if target == nil {
			target = &json.RawMessage{}
		}
		if err := dec.Decode(target); err != nil {
			return h, cut(err)
		}
	}
	return h, nil
}

// cut leaves out the error of a text that ends too early.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return nil
	}
	return fmt.Errorf("read the start of a result: %w", err)
}

// sameAnswer reports whether a stored result is the answer that the ledger has. The marks of a duplicate and of rows that
// have expired make no difference, nor does the error of a result that had to go under its derived id.
func sameAnswer(result, recorded []byte, code string) bool {
	if bytes.Equal(result, recorded) {
		return true
	}
	var a, b map[string]json.RawMessage
	if json.Unmarshal(result, &a) != nil || json.Unmarshal(recorded, &b) != nil {
		return false
	}
	if code == codeTooLarge && len(recorded) > len(result) {
		return true // the server's max_payload was lowered: the rows are only in the ledger
	}
	ignored := []string{"duplicate", "rows_expired"}
	if code == codeResultTaken {
		ignored = append(ignored, "error")
	}
	for _, key := range ignored {
		delete(a, key)
		delete(b, key)
	}
	if len(a) != len(b) {
		return false
	}
	for key, value := range a {
		if other, ok := b[key]; !ok || !bytes.Equal(value, other) {
			return false
		}
	}
	return true
}

func digestOf(body []byte) [sha256.Size]byte { return sha256.Sum256(body) }
