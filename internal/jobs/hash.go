package jobs

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"dbrunner/internal/db"
)

// hashOpening keeps request hashes apart from anything else that is hashed, and versions their encoding.
const hashOpening = "dbrunner request 1"

// requestHash is what tells two requests under one id apart: SHA-256 over kind, database, resolved effect and all of
// the kind's own keys. Every part goes in with its length, so that no two requests have one encoding; blanks, escapes
// and the order of keys in the body make no difference. scratch is reused and returned.
func requestHash(scratch []byte, job *Job) (hash, buf []byte) {
	buf = append(scratch[:0], hashOpening...)
	buf = appendSized(buf, job.Kind)
	buf = appendSized(buf, job.Database)
	buf = appendSized(buf, string(job.Effect))
	buf = job.work.hash(buf)
	sum := sha256.Sum256(buf)
	return sum[:], buf
}

// RequestHash returns the request hash of a body; nil if it is not understood in this dialect.
func RequestHash(dialect *db.Dialect, database, kind string, body []byte) []byte {
	d := NewDecoder(DecoderOptions{Policy: &Policy{Ledger: true}, Dialect: dialect})
	job, rejection := d.Decode(&Delivery{Database: database, Kind: kind, Body: body})
	if rejection != nil {
		return rejection.Hash
	}
	return job.Hash
}

func appendSized(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// hash appends the statement's canonical encoding.
func (s *statement) hash(dst []byte) []byte {
	dst = appendSized(dst, s.source.SQL)
	if s.rows != nil || s.from != nil {
		return s.hashBatch(dst)
	}
	return hashParams(dst, &s.source.Params)
}

func hashParams(dst []byte, params *db.Params) []byte {
	switch {
	case len(params.Named) > 0:
		dst = binary.AppendUvarint(append(dst, 'n'), uint64(len(params.Named)))
		for _, name := range sortedNames(params.Named) {
			dst = appendValue(appendSized(dst, name), params.Named[name])
		}
	case params.List != nil: // an empty list too: with a list, :name in the text is no parameter
		dst = binary.AppendUvarint(append(dst, 'l'), uint64(len(params.List)))
		for _, v := range params.List {
			dst = appendValue(dst, v)
		}
	default:
		dst = append(dst, '-')
	}
	return dst
}

func sortedNames(named map[string]db.Value) []string {
	names := slices.AppendSeq(make([]string, 0, len(named)), maps.Keys(named))
	slices.Sort(names)
	return names
}

// appendValue appends a parameter's canonical encoding.
func appendValue(dst []byte, v db.Value) []byte {
	dst = appendSized(append(dst, byte(v.Kind)), v.Type)
	if v.Kind != db.Array && v.Kind != db.Object {
		return appendSized(dst, v.Text)
	}
	var t tape
	if fault := t.read([]byte(v.Text)); fault != nil {
		return appendSized(dst, v.Text)
	}
	return t.appendCanonical(dst, 0)
}

// appendCanonical appends an encoding of a value that is the same for every way to write it: blanks, escapes and the
// order of keys make no difference. Numbers are told apart by their text.
func (t *tape) appendCanonical(dst []byte, at int) []byte {
	dst = append(dst, byte(t.nodes[at].kind))
	switch t.nodes[at].kind {
	case objectToken:
		keys := t.sortedKeys(at)
		dst = binary.AppendUvarint(dst, uint64(len(keys)))
		for _, key := range keys {
			dst = t.appendCanonical(appendSized(dst, t.str(key)), key+1)
		}
		return dst
	case arrayToken:
		dst = binary.AppendUvarint(dst, uint64(t.elements(at)))
		for i := at + 1; i < t.behind(at); i = t.behind(i) {
			dst = t.appendCanonical(dst, i)
		}
		return dst
	case stringToken:
		return appendSized(dst, t.str(at))
	default:
		return appendSized(dst, t.raw(at))
	}
}

// sortedKeys returns an object's keys by their decoded text; equal ones stay in their order.
func (t *tape) sortedKeys(object int) []int {
	var keys []int
	for key := object + 1; key < t.behind(object); key = t.behind(key + 1) {
		keys = append(keys, key)
	}
	slices.SortStableFunc(keys, func(a, b int) int { return cmp.Compare(t.str(a), t.str(b)) })
	return keys
}
