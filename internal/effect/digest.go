package effect

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"

	"dbrunner/internal/db"
)

// opening keeps digests of effects apart from anything else that is hashed, and versions their encoding.
const opening = "dbrunner effect 1"

// MaxRows is how many rows a dry run may return.
const MaxRows = 10_000

// Digest identifies the effect of a transaction: what was executed, the number of rows that each statement affected, and the rows
// that it returned, in whatever order. request is the request hash of the dry run, revision that of the definition of a call.
// The sets have digests of their rows.
func Digest(request []byte, revision string, sets []db.ResultSet) string {
	w := writer{Hash: sha256.New()}
	w.text(opening)
	w.text(string(request))
	w.text(revision)
	w.number(int64(len(sets)))
	for i := range sets {
		w.set(&sets[i])
		w.number(int64(len(sets[i].More)))
		for j := range sets[i].More {
			w.set(&sets[i].More[j])
		}
	}
	return digestPrefix + hex.EncodeToString(w.Sum(nil))
}

const digestPrefix = "sha256:"

// ValidDigest reports whether a text has the form of a digest: sha256: and 64 of 0-9 and a-f.
func ValidDigest(text string) bool {
	digits, ok := strings.CutPrefix(text, digestPrefix)
	return ok && len(digits) == hex.EncodedLen(sha256.Size) && strings.Trim(digits, "0123456789abcdef") == ""
}

// writer hashes values, each with its length, so that no two lists of them have one encoding.
type writer struct {
	hash.Hash

	scratch []byte
}

func (w *writer) text(s string) {
	w.scratch = append(binary.AppendUvarint(w.scratch[:0], uint64(len(s))), s...)
	w.Write(w.scratch)
}

func (w *writer) number(n int64) {
	w.scratch = binary.AppendVarint(w.scratch[:0], n)
	w.Write(w.scratch)
}

func (w *writer) set(s *db.ResultSet) {
	w.number(s.RowsAffected)
	if s.Columns == nil {
		w.number(-1)
		return
	}
	w.number(int64(len(s.Columns)))
	for i := range s.Columns {
		w.text(s.Columns[i].Name)
		w.text(s.Columns[i].Type)
	}
	w.number(s.RowCount)
	w.text(string(s.Digest))
}
