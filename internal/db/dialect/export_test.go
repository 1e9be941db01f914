package dialect

// Size is what the cache holds, as it counts, bytes.
func (c *Cache) Size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.size
}

// Has reports whether a text is in the cache, without using it.
func (c *Cache) Has(sql string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[sql] != nil
}
