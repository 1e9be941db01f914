package engine

import (
	"bytes"
	"crypto/sha256"
	"slices"

	"dbrunner/internal/db"
)

// rowDigest gathers what identifies the rows of a statement, whatever their order and their format.
type rowDigest struct {
	sums    [][sha256.Size]byte // of each row as an array
	values  []int               // where the values of the row under way start in the encoder's buffer; empty if it is an array
	scratch []byte              // a row as an array
}

func (d *rowDigest) start() { d.sums, d.values = d.sums[:0], d.values[:0] }

// value notes where a value of an object starts.
func (d *rowDigest) value(at int) { d.values = append(d.values, at) }

// rowOf is the row under way in the buffer that has its values.
func (e *RowEncoder) rowOf(dst []byte) []byte {
	row := dst[len(e.buf):]
	if row[0] == ',' {
		return row[1:]
	}
	return row
}

// row takes a complete row. The values of an object stand between the keys that the encoder wrote.
func (d *rowDigest) row(row []byte, e *RowEncoder) {
	if e.form == db.Arrays {
		d.sums = append(d.sums, sha256.Sum256(row))
		return
	}
	dst := append(d.scratch[:0], '[')
	if len(d.values) > 0 {
		base := d.values[0] - e.ends[0] - len("{") // where the row starts in the buffer
		for i, at := range d.values {
			end := len(row) - len("}")
			if i+1 < len(d.values) {
				end = d.values[i+1] - base - (e.ends[i+1] - e.ends[i])
			}
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, row[at-base:end]...)
		}
	}
	dst = append(dst, ']')
	d.sums = append(d.sums, sha256.Sum256(dst))
	d.scratch, d.values = dst, d.values[:0]
}

// digestOf returns the digest of the statement's rows; nil if none is asked for.
func (e *RowEncoder) digestOf() []byte {
	if !e.opts.Digest {
		return nil
	}
	slices.SortFunc(e.digest.sums, func(a, b [sha256.Size]byte) int { return bytes.Compare(a[:], b[:]) })
	h := sha256.New()
	for i := range e.digest.sums {
		h.Write(e.digest.sums[i][:])
	}
	return h.Sum(nil)
}
