package jsontext

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// AppendCanonical appends an encoding of a value that is the same for every way to write it: blanks, escapes and the
// order of keys make no difference. Numbers are compared by their text.
func (t *Tape) AppendCanonical(dst []byte, at int) []byte {
	dst = append(dst, byte(t.Kind(at)))
	switch t.Kind(at) {
	case Object:
		keys := t.sortedKeys(at)
		dst = binary.AppendUvarint(dst, uint64(len(keys)))
		for _, key := range keys {
			dst = t.AppendCanonical(appendText(dst, t.Str(key)), key+1)
		}
		return dst
	case Array:
		dst = binary.AppendUvarint(dst, uint64(t.Len(at)))
		for i := at + 1; i < t.After(at); i = t.After(i) {
			dst = t.AppendCanonical(dst, i)
		}
		return dst
	case String:
		return appendText(dst, t.Str(at))
	default:
		return appendText(dst, t.Raw(at))
	}
}

// sortedKeys returns an object's keys by their decoded text; equal ones stay in their order.
func (t *Tape) sortedKeys(object int) []int {
	var keys []int
	for key := object + 1; key < t.After(object); key = t.After(key + 1) {
		keys = append(keys, key)
	}
	slices.SortStableFunc(keys, func(a, b int) int { return cmp.Compare(t.Str(a), t.Str(b)) })
	return keys
}

// appendText appends a text with its length before it.
func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}
