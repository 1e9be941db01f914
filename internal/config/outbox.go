package config

import (
	"strconv"
	"strings"

	"dbrunner/contract"
)

// OutboxConnection is how the relay reaches the outbox.
func (d *Database) OutboxConnection() Secret {
	if d.Outbox.ConnectionString.Empty() && d.Type == withoutLogins {
		return d.ConnectionString
	}
	return d.Outbox.ConnectionString
}

// withoutLogins is the engine whose databases have no logins.
const withoutLogins = "sqlite"

// outbox checks the outbox of a database.
func (c *checker) outbox(path string, d *Database) {
	targets, connection := join(path, "outbox.targets"), join(path, "outbox.connection_string")
	for i, text := range d.Outbox.Targets {
		if message := c.target(text); message != "" {
			c.want(false, "entry "+strconv.Itoa(i+1)+": "+message, targets)
		}
	}
	if len(d.Outbox.Targets) > 0 {
		c.want(!d.OutboxConnection().Empty() || d.ConnectionString.Empty(), "missing; the relay needs a login of its own, which may read, "+
			"update and delete rows of dbrunner.outbox: a login that writes there reaches every target", connection, connection+fileSuffix,
			join(path, "type"))
	}
}

const targetForm = "write the subject of a job behind the namespace, such as jobs.billing.transaction"

// target returns what is wrong with a target; nothing if it is in order.
func (c *checker) target(text string) string {
	of, ok := contract.Subjects{Namespace: c.cfg.Namespace}.SplitJob(c.cfg.Namespace + "." + text)
	switch {
	case strings.HasPrefix(text, c.cfg.Namespace+"."):
		return "without the namespace, " + targetForm
	case !ok || !isSubject(text):
		return targetForm
	case !contract.ValidName(of.Database):
		return "the database of the target is not 1 to 64 of A-Z a-z 0-9 _ -; " + targetForm
	case oneOf(of.Kind, c.words.Kinds) != "":
		return "the kind of the target is unknown; " + oneOf(of.Kind, c.words.Kinds)
	default:
		return ""
	}
}
