package dialect

import (
	"strings"
	"sync"
)

// Cache keeps what was learned from SQL texts: a bounded set, in which the text that was not used for the
// longest time makes room. It belongs to one Dialect and is safe for concurrent use.
type Cache struct {
	limit int // bytes

	mu      sync.Mutex // guards what follows
	size    int
	entries map[string]*cacheEntry
	ring    cacheEntry // of the list: next is the newest, prev the oldest
}

type cacheEntry struct {
	sql        string
	shape      *shape
	size       int
	prev, next *cacheEntry
}

const (
	// cacheEntryCost is about what an entry takes besides its texts, bytes.
	cacheEntryCost = 400
	// cacheShare is the part of a cache that one text may take: 1/cacheShare.
	cacheShare = 64
)

// NewCache returns a cache that takes about limit bytes. Texts that would take more than 1/64 of it are not kept.
func NewCache(limit int) *Cache {
	c := &Cache{limit: limit, entries: make(map[string]*cacheEntry)}
	c.ring.prev, c.ring.next = &c.ring, &c.ring
	return c
}

// shape returns the shape of a text, from the cache where there is one.
func (d *Dialect) shape(sql string) *shape {
	if d.Cache == nil {
		return newShape(d, sql)
	}
	if s := d.Cache.get(sql); s != nil {
		return s
	}
	// The shape may keep the text: a copy, so that it does not hold the message that it was cut from.
	sql = strings.Clone(sql)
	s := newShape(d, sql)
	d.Cache.put(sql, s)
	return s
}

func (c *Cache) get(sql string) *shape {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[sql]
	if e == nil {
		return nil
	}
	if c.ring.next != e {
		e.unlink()
		c.link(e)
	}
	return e.shape
}

func (c *Cache) put(sql string, s *shape) {
	size := s.size(sql) + cacheEntryCost
	if size > c.limit/cacheShare {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries[sql] != nil { // another goroutine was faster
		return
	}
	e := &cacheEntry{sql: sql, shape: s, size: size}
	c.entries[sql] = e
	c.link(e)
	c.size += size
	for c.size > c.limit {
		oldest := c.ring.prev
		oldest.unlink()
		delete(c.entries, oldest.sql)
		c.size -= oldest.size
	}
}

func (c *Cache) link(e *cacheEntry) {
	e.prev, e.next = &c.ring, c.ring.next
	e.prev.next, e.next.prev = e, e
}

func (e *cacheEntry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

// size is about the memory that a shape and its text take, bytes.
func (s *shape) size(sql string) int {
	n := len(sql) + len(s.named) + len(s.listed) + len(s.positions)
	for _, name := range s.names {
		n += 2*len(name) + 64
	}
	for i := range s.faults {
		n += len(s.faults[i].Message) + 64
	}
	return n
}
