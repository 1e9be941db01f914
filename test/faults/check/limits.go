package check

// limits: nothing was committed that writes more rows than its job allows.
func limits(ix *index, report func(string, string, ...any)) {
	for name, n := range ix.rows {
		if r := ix.Requests[name]; r != nil && r.Limit > 0 && n > r.Limit {
			report(name, "%d rows of %s are committed, and its max_affected is %d", n, name, r.Limit)
		}
	}
}

// memory: no runner grows beyond its bound.
func memory(ix *index, report func(string, string, ...any)) {
	for runner, size := range ix.Memory {
		if size > ix.MemoryBound {
			report("", "runner %s had %d bytes, %d are granted", runner, size, ix.MemoryBound)
		}
	}
}
