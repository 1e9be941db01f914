package check

// outbox: each row that was committed is published, and gone; one that was rolled back never was.
func outbox(ix *index, report func(string, string, ...any)) {
	for _, row := range ix.Outbox {
		report(row.ID, "its row is left in the outbox of %s, error %q", row.Database, row.Error)
	}
	for name, r := range ix.Requests {
		if r.Outbox == "" {
			continue
		}
		stored := ix.stored[jobKey{r.Database, r.ID}]
		switch {
		case ix.Committed[name] && stored == nil:
			report(name, "its row was committed to the outbox of %s, and its job has no result", r.Outbox)
		case !ix.Committed[name] && (stored != nil || ix.rows[name] > 0):
			report(name, "its row was not committed to the outbox of %s, and its job was published: %d effects", r.Outbox, ix.rows[name])
		}
	}
}
