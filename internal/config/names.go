package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// names checks the names of the databases: each gives its database subjects, streams and environment variables.
func (c *checker) names(client bool) {
	names := c.cfg.sortedNames()
	if len(names) == 0 && !client {
		c.want(false, "no database is configured; write one with its type and connection_string below databases, or set "+
			databasesEnv+"=name, NAME_TYPE and NAME_CONNECTION_STRING", databasesKey)
	}
	prefixes := map[string]string{}
	owners := map[string]string{}
	for _, name := range names {
		path := join(databasesKey, name)
		prefix := envWord(name)
		other, taken := prefixes[prefix]
		switch {
		case !isName(name):
			c.want(false, "invalid database name; "+nameRule, databasesKey)
		case taken:
			c.want(false, "the name differs from "+other+" only in case or between - and _; rename one of them", path)
		case strings.HasPrefix(prefix+"_", envPrefix+"_"):
			c.want(false, "names that start with runner would share environment variables with the runner's own; "+
				"rename it", path)
		default:
			c.collisions(name, owners)
		}
		prefixes[prefix] = name
	}
}

// collisions reports a database one of whose variables is another database's too: databases a and a_pool with the
// keys pool.max_… and max_…, for instance.
func (c *checker) collisions(name string, owners map[string]string) {
	expand := func(_, each string) []string {
		switch each {
		case "name":
			return []string{name}
		case "queue":
			return slices.Sorted(maps.Keys(c.cfg.Databases[name].Queues))
		}
		return c.words.Kinds
	}
	for _, l := range leavesOf(reflect.TypeFor[Config](), "", expand) {
		if databaseOf(l.path) == "" {
			continue
		}
		variable := envName(l.path)
		if other, taken := owners[variable]; taken && other == name {
			c.want(false, "the environment variable "+variable+" would be that of two of its queues; rename one of them", join(join(databasesKey, name), "queues"))
			return
		} else if taken {
			c.want(false, "the environment variable "+variable+" would be this database's and that of "+other+
				"; rename one of them", join(databasesKey, name))
			return
		}
		owners[variable] = name
	}
}
