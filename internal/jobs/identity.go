package jobs

import (
	"slices"

	"dbrunner/contract"
	"dbrunner/internal/jsontext"
)

// identity is what a message says about its own handling, as far as it can be read: Decode takes it from the tape,
// Scan from the tokens as they go by, and both resolve it here.
type identity struct {
	id, effect, replyTo claim
	readable            bool // the whole body is acceptable JSON, and an object
}

// claim is the value of one key of a body.
type claim struct {
	count int    // how often the key is there
	text  string // its value, if that is a string
	known bool   // the value is a string
}

// once returns the value if it is there just once and a string.
func (c *claim) once() (string, bool) { return c.text, c.count == 1 && c.known }

// jobID resolves the id that a job's answer goes under: the body's, else the header's, else the derived one. A body
// whose id is not valid gets the derived one.
func (i *identity) jobID(in *Message) (id string, derived bool) {
	if text, ok := i.id.once(); ok && contract.ValidID(text) {
		return text, false
	}
	if i.id.count == 0 {
		if header := in.Headers[contract.HeaderMessageID]; len(header) > 0 && contract.ValidID(header[0]) {
			return header[0], false
		}
	}
	return in.DerivedID(), true
}

// jobEffect resolves the effect; empty if the body does not say it in a way that its kind can have.
func (i *identity) jobEffect(k *kind) contract.Effect {
	if k == nil {
		return ""
	}
	if i.effect.count == 0 && i.readable {
		return k.effects[0]
	}
	if text, ok := i.effect.once(); ok && slices.Contains(k.effects, contract.Effect(text)) {
		return contract.Effect(text)
	}
	return ""
}

// reply resolves the reply subject; empty if there is none that may be used.
func (i *identity) reply(d *Decoder, in *Message) string {
	text, ok := i.replyTo.once()
	if !ok || contract.ValidReply(d.opts.Namespace, in.Database, text, d.opts.Policy.ReplyTo) != nil {
		return ""
	}
	return text
}

// maxScannedText bounds the text of a string that Scan decodes, bytes with escapes: six for each of a reply subject,
// the longest that any key with a meaning here can have.
const maxScannedText = 6 * (contract.MaxReplySubject + 1)

// scan reads an identity from the tokens of a body, in constant memory.
func (i *identity) scan(body []byte) {
	var l jsontext.Lexer
	l.Reset(body, maxDepth, maxValues)
	var at *claim
	for object := false; ; {
		tok := l.Next()
		switch {
		case tok.Kind == jsontext.Bad:
			return
		case tok.Kind == jsontext.End:
			i.readable = object
			return
		case tok.Kind == jsontext.Object && l.Depth == 1:
			object = true
		case tok.Kind == jsontext.Key && l.Depth == 1:
			at = i.named(tok.Decode(body, maxScannedText))
		case at != nil:
			at.count++
			if tok.Kind == jsontext.String {
				at.text, at.known = string(tok.Decode(body, maxScannedText)), true
			}
			at = nil
		}
	}
}

func (i *identity) named(key []byte) *claim {
	switch string(key) {
	case "id":
		return &i.id
	case "effect":
		return &i.effect
	case "reply_to":
		return &i.replyTo
	}
	return nil
}
