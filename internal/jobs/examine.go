package jobs

import (
	"bytes"
	"encoding/json"
	"time"

	"dbrunner/contract"
)

// Examined is what a body says before any stream has it, for who publishes it in another's name.
type Examined struct {
	ID        string // as the job will have it
	InvalidID bool   // the body has an id that no job can have: its answer would go under one that is not known yet
	ReplyOnly bool   // no result would be stored
	Hash      []byte // the request hash; nil if the body cannot be understood
	Recorded  bool   // the job gets a ledger row

	kind     string
	body     []byte
	rejected []byte // the error that the job's result will have, encoded; nil if the job is valid
}

// Examine reads a body that is to be published with a message id, which is its job's id unless the body has one. It
// judges nothing: what is wrong with a body is answered by its result.
func (d *Decoder) Examine(database, kind, messageID string, body []byte) Examined {
	in := &Message{
		Database: database, Kind: kind, Timestamp: time.Now(), Body: body,
		Headers: map[string][]string{contract.HeaderMessageID: {messageID}},
	}
	x := Examined{kind: kind, body: body}
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

// SameJob reports whether a message that was published under the same id asks for the same: its result answers both.
// Bodies that cannot be understood are compared byte for byte.
func (x *Examined) SameJob(other *Examined) bool {
	switch {
	case x.ID != other.ID || x.kind != other.kind || x.ReplyOnly != other.ReplyOnly:
		return false
	case len(x.Hash) > 0:
		return bytes.Equal(x.Hash, other.Hash)
	default:
		return len(other.Hash) == 0 && bytes.Equal(x.body, other.body)
	}
}

// AnsweredBy reports whether the stored result of another message answers this request: it has the request's hash. A
// body that cannot be understood has none, and neither has its result; that one answers it if it is the very rejection
// that this body gets.
func (x *Examined) AnsweredBy(head *contract.Head, result []byte) bool {
	if len(x.Hash) > 0 || len(head.Hash) > 0 {
		return bytes.Equal(x.Hash, head.Hash)
	}
	var stored struct {
		Error json.RawMessage `json:"error"`
	}
	return head.Status == contract.Rejected && head.Kind == x.kind && json.Unmarshal(result, &stored) == nil &&
		len(x.rejected) > 0 && bytes.Equal(stored.Error, x.rejected)
}

// Contradicts reports whether a result cannot be this request's, whatever its sequence says: both have a hash, and the
// two differ.
func (x *Examined) Contradicts(head *contract.Head) bool {
	return len(x.Hash) > 0 && len(head.Hash) > 0 && !bytes.Equal(x.Hash, head.Hash) || head.Kind != x.kind
}

// Offer is a kind of jobs that a database runs, and how.
type Offer struct {
	Kind       string
	Effects    []contract.Effect // the first one is the default
	Timeout    time.Duration
	MaxTimeout time.Duration
}

// Offers lists the kinds that a policy allows.
func (p *Policy) Offers() []Offer {
	var offers []Offer
	for _, k := range table() {
		if !p.AllowsKind(k.name) {
			continue
		}
		o := Offer{Kind: k.name}
		for _, e := range k.effects {
			if p.AllowsEffect(e) {
				o.Effects = append(o.Effects, e)
			}
		}
		o.Timeout, o.MaxTimeout = p.timeouts(k.name)
		offers = append(offers, o)
	}
	return offers
}
