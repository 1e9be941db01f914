package bus

// PublishPlain publishes past everything that checks a subject or waits for an answer.
func (c *Conn) PublishPlain(subject string) error { return c.nc.Publish(subject, nil) }
