package jobs

import "time"

// Examined is what a body says before any stream has it, for who publishes it in another's name.
type Examined struct {
	ID        string // as the job will have it
	InvalidID bool   // the body has an id that no job can have: its answer would go under one that nobody knows yet
	ReplyOnly bool   // no result would be stored
	Hash      []byte // the request hash; nil if the body cannot be understood
}

// Examine reads a body that is to be published with a message id, which is its job's id unless the body has one. It
// judges nothing: what is wrong with a body is answered by its result.
func (e *Executor) Examine(database, kind, messageID string, body []byte) Examined {
	d := &Delivery{
		Database: database, Kind: kind, Timestamp: time.Now(), Body: body,
		Headers: map[string][]string{msgIDHeader: {messageID}},
	}
	job, rejection := e.decoder.Decode(d)
	if rejection != nil {
		return Examined{ID: rejection.ID, InvalidID: rejection.DerivedID, Hash: rejection.Hash}
	}
	return Examined{ID: job.ID, InvalidID: job.DerivedID, ReplyOnly: job.ReplyOnly, Hash: job.Hash}
}

// Offer is a kind of jobs that a database runs, and how.
type Offer struct {
	Kind       string
	Effects    []Effect // the first one is the default
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
