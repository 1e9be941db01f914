package verify

import (
	"hash/maphash"
	"math/bits"
)

// maxSlots bounds the memory of a set: 32 MiB.
const maxSlots = 1 << 22

// seen is a set of texts in bounded memory: it keeps 64 bits of each, and takes no more when it is three quarters full.
type seen struct {
	seed  maphash.Seed
	slots []uint64 // 0: free
	count int
	full  bool // something was not taken
}

// newSeen returns a set with room for a number of texts, as far as the bound allows.
func newSeen(room uint64) *seen {
	size := 1 << bits.Len64(min(room+room/2+16, maxSlots)-1)
	return &seen{seed: maphash.MakeSeed(), slots: make([]uint64, size)}
}

// add puts a text into the set and reports whether it was there already.
func (s *seen) add(text string) bool {
	at, hash := s.find(text)
	if s.slots[at] == hash {
		return true
	}
	if s.count >= len(s.slots)/4*3 {
		s.full = true
		return false
	}
	s.slots[at] = hash
	s.count++
	return false
}

func (s *seen) has(text string) bool {
	at, hash := s.find(text)
	return s.slots[at] == hash
}

// find returns the slot where a text is or would be.
func (s *seen) find(text string) (int, uint64) {
	hash := maphash.String(s.seed, text) | 1
	mask := len(s.slots) - 1
	at := int(hash>>1) & mask
	for s.slots[at] != 0 && s.slots[at] != hash {
		at = (at + 1) & mask
	}
	return at, hash
}
