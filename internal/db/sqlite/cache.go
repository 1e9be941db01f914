package sqlite

// Bounds of what a connection keeps compiled.
const (
	maxStatements = 128
	maxCachedSQL  = 16 << 10 // bytes; a longer text is compiled each time
)

// cache keeps a connection's compiled statements of jobs; the one not used for the longest time makes room.
type cache struct {
	bySQL map[string]*stmt
	ring  stmt // of the list: newer is the oldest, older the newest
}

func (c *cache) init() {
	c.bySQL = make(map[string]*stmt)
	c.ring.newer, c.ring.older = &c.ring, &c.ring
}

// get returns the compiled statement of a text, nil if there is none.
func (c *cache) get(sql string) *stmt {
	s := c.bySQL[sql]
	if s != nil && c.ring.older != s {
		unlink(s)
		c.link(s)
	}
	return s
}

// put keeps a statement, and reports whether it does.
func (c *cache) put(s *stmt) bool {
	if len(s.sql) > maxCachedSQL {
		return false
	}
	if len(c.bySQL) >= maxStatements {
		c.drop(c.ring.newer)
	}
	c.bySQL[s.sql] = s
	c.link(s)
	return true
}

// drop finalizes a kept statement.
func (c *cache) drop(s *stmt) {
	delete(c.bySQL, s.sql)
	unlink(s)
	s.finalize()
}

// link makes a statement the newest.
func (c *cache) link(s *stmt) {
	s.newer, s.older = &c.ring, c.ring.older
	s.older.newer, s.newer.older = s, s
}

func unlink(s *stmt) {
	s.newer.older, s.older.newer = s.older, s.newer
	s.newer, s.older = nil, nil
}
