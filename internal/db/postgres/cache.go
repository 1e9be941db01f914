package postgres

import (
	"container/list"
	"strconv"
	"strings"

	"dbrunner/contract"
)

const (
	cacheSize   = 256      // prepared statements of a session
	maxCacheSQL = 16 << 10 // longer texts are not kept, bytes
)

// cache is a session's statements, the ones used last in front. A text is prepared under a name when it comes
// a second time: texts that come once, with their values written into them, would otherwise push out the rest.
type cache struct {
	named  bool // names may be used: not behind a transaction pooler
	byKey  map[cacheKey]*prepared
	recent list.List
	closed []string // names whose statements the server still has
	last   uint64
	have   int64 // names that the server has, by its own answers
}

// cacheKey is the text with the types that its typed parameters were given.
type cacheKey struct{ sql, types string }

// prepared is what a session knows of a statement.
type prepared struct {
	key   cacheKey
	place *list.Element
	name  string // of the prepared statement, empty until the text comes a second time

	parsed    bool // the server has it under its name, or the message for that is on its way
	described bool // columns and kinds hold, or the message for that is on its way
	size      int  // of the rows that it returned last, bytes
	quick     bool // its last read was quick and small: it may share a round trip
	params    []uint32
	columns   []contract.Column
	kinds     []kind
}

func newCache(named bool) cache {
	return cache{named: named, byKey: make(map[cacheKey]*prepared)}
}

// get returns the statement and whether it is to be used under its name.
func (c *cache) get(sql, types string, named bool) (*prepared, bool) {
	if !c.named || !named || len(sql) > maxCacheSQL {
		return &prepared{}, false
	}
	key := cacheKey{sql, types}
	if p := c.byKey[key]; p != nil {
		c.recent.MoveToFront(p.place)
		if p.name == "" {
			c.last++
			p.name = "dbr_" + strconv.FormatUint(c.last, 36)
			p.described = false
		}
		return p, true
	}
	key.sql = strings.Clone(sql) // not the message that it may have been cut from
	p := &prepared{key: key}
	p.place = c.recent.PushFront(p)
	c.byKey[key] = p
	if len(c.byKey) > cacheSize {
		c.forget(c.recent.Back().Value.(*prepared))
	}
	return p, false
}

// forget drops a statement; the next round trip closes it on the server.
func (c *cache) forget(p *prepared) {
	if p.place == nil || c.byKey[p.key] != p {
		return
	}
	delete(c.byKey, p.key)
	c.recent.Remove(p.place)
	if p.parsed {
		c.closed = append(c.closed, p.name)
	}
}

// appendCloses closes the statements that the server can drop.
func (c *cache) appendCloses(b []byte) []byte {
	for _, name := range c.closed {
		b = appendClose(b, name)
	}
	c.closed = c.closed[:0]
	return b
}
