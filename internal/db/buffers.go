package db

import "sync"

const (
	// MinPooled is the smallest buffer that is worth keeping, maxPooled the largest that is kept, bytes.
	MinPooled = 4 << 10
	maxPooled = 2 << 20
)

// Buffers keeps large buffers for their next use: allocating and clearing them would cost more than filling them. The
// zero value is ready; nil keeps nothing. It is safe for concurrent use.
type Buffers struct{ pool sync.Pool }

// Get returns an empty buffer with room for size bytes.
func (b *Buffers) Get(size int) []byte {
	if b != nil && size > MinPooled {
		if kept, ok := b.pool.Get().(*[]byte); ok && cap(*kept) >= size {
			return (*kept)[:0]
		}
	}
	return make([]byte, 0, size)
}

// Put takes a buffer back that is not read or written any more. Small and very large ones are left to the collector.
func (b *Buffers) Put(buf []byte) {
	if b == nil || cap(buf) <= MinPooled || cap(buf) > maxPooled {
		return
	}
	buf = buf[:0]
	b.pool.Put(&buf)
}
