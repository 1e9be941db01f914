package api

import (
	"bytes"
	"encoding/json"
	"strings"
	"time"

	"dbrunner/contract"
	"dbrunner/internal/jobs"
)

// Decoder reads jobs of one database without running them.
type Decoder interface {
	Decode(in *jobs.Message) (*jobs.Job, *jobs.Rejection)
}

// examined is what a body says before any stream has it, for who publishes it in another's name.
type examined struct {
	ID        string // as the job will have it
	InvalidID bool   // the body has an id that no job can have: its answer would go under one that is not known yet
	ReplyOnly bool   // no result would be stored
	Hash      []byte // the request hash; nil if the body cannot be understood
	Recorded  bool   // the job gets a ledger row

	kind     string
	body     []byte
	rejected []byte // the error that the job's result will have, encoded; nil if the job is valid
}

// examine reads a body that is to be published with a message id, which is its job's id unless the body has one. It
// judges nothing: what is wrong with a body is answered by its result.
//
// end is that of the job's subject, behind the database: its kind and, where that has names, the name.
func examine(d Decoder, database, end, messageID string, body []byte) examined {
	kind, name, _ := strings.Cut(end, ".")
	in := &jobs.Message{
		Database: database, Kind: kind, Name: name, Timestamp: time.Now(), Body: body,
		Headers: map[string][]string{contract.HeaderMessageID: {messageID}},
	}
	x := examined{kind: end, body: body}
	job, rejection := d.Decode(in)
	if rejection != nil {
		x.ID, x.InvalidID, x.Hash = rejection.ID, rejection.DerivedID, rejection.Hash
		x.rejected = rejection.ResultError().Append(nil)
		return x
	}
	x.ID, x.InvalidID, x.ReplyOnly, x.Hash = job.ID, job.DerivedID, job.ReplyOnly, job.Hash
	x.Recorded = job.Effect != contract.AtLeastOnce
	return x
}

// sameJob reports whether a message that was published under the same id asks for the same: its result answers both.
// Bodies that cannot be understood are compared byte for byte.
func (x *examined) sameJob(other *examined) bool {
	switch {
	case x.ID != other.ID || x.kind != other.kind || x.ReplyOnly != other.ReplyOnly:
		return false
	case len(x.Hash) > 0:
		return bytes.Equal(x.Hash, other.Hash)
	default:
		return len(other.Hash) == 0 && bytes.Equal(x.body, other.body)
	}
}

// answeredBy reports whether the stored result of another message answers this request: it has the request's hash. A
// body that cannot be understood has none, and neither has its result; that one answers it if it is the very rejection
// that this body gets.
func (x *examined) answeredBy(head *contract.Head, result []byte) bool {
	if len(x.Hash) > 0 || len(head.Hash) > 0 {
		return bytes.Equal(x.Hash, head.Hash)
	}
	var stored struct {
		Error json.RawMessage `json:"error"`
	}
	return head.Status == contract.Rejected && x.sameKind(head) && json.Unmarshal(result, &stored) == nil &&
		len(x.rejected) > 0 && bytes.Equal(stored.Error, x.rejected)
}

// contradicts reports whether a result cannot be this request's, whatever its sequence says: both have a hash, and the
// two differ.
func (x *examined) contradicts(head *contract.Head) bool {
	return len(x.Hash) > 0 && len(head.Hash) > 0 && !bytes.Equal(x.Hash, head.Hash) || !x.sameKind(head)
}

// sameKind reports whether a result is of a job of the kind. What a call names is in its hash.
func (x *examined) sameKind(head *contract.Head) bool {
	kind, _, _ := strings.Cut(x.kind, ".")
	return head.Kind == kind
}
