package jobs

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"

	"dbrunner/internal/db/dialect"
	"dbrunner/internal/jsontext"
)

// hashOpening keeps request hashes apart from anything else that is hashed, and versions their encoding.
const hashOpening = "dbrunner request 1"

// requestHash identifies the request under an id: SHA-256 over kind, database, resolved effect and all of
// the kind's own keys. Every part goes in with its length, so that no two requests have one encoding; blanks, escapes
// and the order of keys in the body make no difference. scratch is reused and returned.
func requestHash(scratch []byte, job *Job) (hash, buf []byte) {
	buf = append(scratch[:0], hashOpening...)
	buf = appendSized(buf, job.Kind)
	buf = appendSized(buf, job.Database)
	if job.Call != nil { // the definition decides the effect, and the request does not cover the definition
		buf = appendSized(buf, job.Call.Name)
	} else {
		buf = appendSized(buf, string(job.Effect))
	}
	buf = job.work.hash(buf)
	sum := sha256.Sum256(buf)
	return sum[:], buf
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

func hashParams(dst []byte, params *dialect.Params) []byte {
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

func sortedNames(named map[string]dialect.Value) []string {
	names := slices.AppendSeq(make([]string, 0, len(named)), maps.Keys(named))
	slices.Sort(names)
	return names
}

// appendValue appends a parameter's canonical encoding.
func appendValue(dst []byte, v dialect.Value) []byte {
	dst = appendSized(append(dst, byte(v.Kind)), v.Type)
	if v.Kind != dialect.Array && v.Kind != dialect.Object {
		return appendSized(dst, v.Text)
	}
	var t jsontext.Tape
	if fault := t.Read([]byte(v.Text), maxDepth, maxValues); fault != nil {
		return appendSized(dst, v.Text)
	}
	return t.AppendCanonical(dst, 0)
}
