package archtest_test

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// arrow lists what the production code of a package may import from this module. Folders are patterns of path.Match.
type arrow struct {
	from string
	to   []string
}

// engines stands for the packages of all engines in the table.
const engines = "engines"

// arrows are looked up from the top; the first pattern that fits a folder decides. internal/crash may be imported by
// everybody.
var arrows = []arrow{
	{"cmd/*", []string{"internal/db/outboxtable", "client", "contract", "contract/schema", "internal/app", "internal/bus", "internal/bus/control", "internal/bus/topology", "internal/config", "internal/jobs", "internal/db/migration", "internal/db/rowfile", "internal/manager", "internal/inspect", "internal/verify", "internal/report", "internal/ui", "internal/mcp", "internal/plaintext", "internal/bus/ordered", "internal/order", "internal/bus/schedules", "internal/cron", "internal/schedule"}},
	{"internal/verify", nil}, // a judge shares no code with the accused
	{"internal/ui", []string{"internal/ui/fleet", "internal/ui/format", "internal/ui/result", "client", "contract"}},
	{"internal/mcp", []string{"client", "contract"}},
	{"internal/ui/result", []string{"internal/ui/format", "client", "contract"}},
	{"internal/ui/format", []string{"internal/plaintext", "contract"}},
	{"internal/ui/fleet", []string{"internal/cron", "client", "contract"}},
	{"internal/app", []string{
		"internal/bulk", "internal/health", "client", "contract", "internal/report", "internal/manager", "internal/api", "internal/status",
		"internal/worker", "internal/bus", "internal/bus/*", "internal/jobs", "internal/delivery", "internal/db", "internal/config",
		"internal/db/migration", "internal/outbox", "internal/telemetry", "internal/cron", "internal/schedule", "internal/order",
	}},
	{"internal/api", []string{"internal/bus", "internal/bus/control", "internal/bus/results", "internal/bus/service", "internal/jobs", "internal/db", "internal/config", "contract"}},
	{"internal/status", []string{"internal/telemetry", "internal/health", "internal/bus", "internal/bus/*", "internal/config", "internal/report", "contract"}},
	{"internal/inspect", []string{"internal/health", "internal/db/dialect", "internal/manager", "internal/config", "internal/bus", "internal/bus/topology", "internal/db", "internal/db/migration", "internal/jobs", "contract"}},
	{"internal/manager", []string{
		"internal/health", "internal/catalog", "internal/db/dialect",
		"contract", "internal/bus", "internal/bus/topology", "internal/config", "internal/jobs", "internal/db", "internal/db/migration", "internal/db/outboxtable", "internal/outbox",
		engines,
	}},
	{"internal/schedule", []string{"internal/bus", "internal/bus/schedules", "internal/cron", "internal/jsontext", "internal/report", "contract"}},
	{"internal/cron", nil},
	{"internal/order", []string{"contract"}},
	{"internal/worker", []string{"internal/delivery", "internal/order", "internal/report", "contract"}},
	{"internal/delivery", []string{"internal/jobs", "internal/bulk", "internal/db", "internal/report", "contract"}},
	{"internal/outbox", []string{"internal/db/outboxtable", "internal/jsontext", "internal/report", "contract"}},
	{"internal/health", []string{"internal/db", "contract", "internal/report"}},
	{"internal/bulk", []string{"internal/db", "internal/db/dialect", "internal/db/rowfile", "contract"}},
	{"internal/catalog", []string{"internal/db/dialect", "internal/spell", "contract"}},
	{"internal/effect", []string{"internal/catalog", "internal/db", "contract"}},
	{"internal/jobs", []string{"internal/bulk", "internal/effect", "internal/catalog", "internal/db", "internal/db/dialect", "internal/db/migration", "internal/db/rowfile", "internal/jsontext", "internal/spell", "contract"}},
	{"internal/db/cutproxy", nil},
	{"internal/db/dbtest", []string{"contract", "internal/db", "internal/db/dialect", "internal/db/migration", "internal/db/rowfile", "internal/jsontext"}},
	{"internal/db/migration", []string{"internal/db", "internal/db/dialect", "contract"}},
	{"internal/db/dialect", []string{"contract", "internal/jsontext"}},
	{"internal/db/rowfile", []string{"contract", "internal/db", "internal/db/dialect", "internal/jsontext"}},
	{"internal/db/outboxtable", nil},
	{"internal/db/engine", []string{"internal/db", "internal/db/dialect", "contract", "internal/jsontext"}},
	{"internal/db/sharing", []string{"internal/db", "internal/db/engine"}},
	{"internal/db/*", []string{"internal/db/sharing", "internal/db", "internal/db/engine", "internal/db/dialect", "internal/db/migration", "internal/db/outboxtable", "internal/jsontext", "internal/report", "contract"}}, // engines: never another engine
	{"internal/db", []string{"internal/report", "internal/db/dialect", "internal/jsontext", "contract"}},
	{"internal/bus/bustest", []string{"internal/bus", "internal/bus/control", "internal/bus/embedded", "internal/bus/intake", "internal/bus/objects", "internal/bus/results", "internal/bus/topology", "internal/report"}},
	{"internal/bus/embedded", nil},
	{"internal/bus/service", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/control", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/deadletters", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/objects", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/relay", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/schedules", []string{"internal/bus", "contract"}},
	{"internal/bus/ordered", []string{"internal/bus", "contract"}},
	{"internal/bus/results", []string{"internal/bus", "contract", "internal/report"}},
	{"internal/bus/intake", []string{"internal/bus", "internal/report", "contract"}},
	{"internal/bus/topology", []string{"internal/bus", "contract"}},
	{"internal/bus", []string{"contract", "internal/report"}},
	{"internal/config", []string{"contract", "internal/spell"}},
	{"contract/schema/schematest", []string{"contract/schema"}},
	{"contract/schema", nil},
	{"contract", []string{"internal/jsontext"}},
	{"client", []string{"contract"}},
	{"internal/report", []string{"contract"}},
	{"internal/jsontext", nil},
	{"internal/spell", nil},
	{"internal/plaintext", nil},
	{"internal/telemetry", []string{"internal/report"}},
	{"internal/crash", nil},
	{"internal/archtest", nil},
	{"examples/*", []string{"client", "contract"}}, // what an upstream system could write, too
	{"bench", []string{"bench/*", "contract", "internal/*", "internal/*/*"}},
	{"bench/*", []string{"contract", "internal/*", "internal/*/*"}},
	{"test/*/*", nil},
	{"test/*", []string{"client", "contract", "internal/*", "internal/*/*", "test/*/*"}},
}

// helpers serve tests: no production code imports them.
var helpers = []string{"internal/bus/bustest", "internal/db/dbtest", "internal/db/cutproxy", "internal/archtest", "contract/schema/schematest"}

func TestArrows(t *testing.T) {
	t.Parallel()
	for _, p := range setup(t).pkgs {
		i := slices.IndexFunc(arrows, func(a arrow) bool { return matches(a.from, p.folder) })
		if i < 0 {
			assert.Failf(t, "a package without a place", "%s: add it to the table of arrows", p.folder)
			continue
		}
		for _, f := range p.production() {
			for _, to := range f.imports() {
				allowed := to == "internal/crash" || slices.ContainsFunc(arrows[i].to, func(pattern string) bool {
					return matches(pattern, to) || pattern == engines && drivers[path.Base(to)] != nil && path.Dir(to) == "internal/db"
				})
				assert.Truef(t, allowed, "%s imports %s; %s may import %s", f.name, to, p.folder, strings.Join(arrows[i].to, ", "))
			}
		}
	}
}

func TestProductionImportsNoTestHelpers(t *testing.T) {
	t.Parallel()
	for _, p := range setup(t).pkgs {
		if isHelper(p.folder) {
			continue
		}
		for _, f := range p.production() {
			for _, to := range f.imports() {
				assert.NotContainsf(t, helpers, to, "%s imports a test helper", f.name)
			}
		}
	}
}

// isHelper reports whether a package is there for tests only.
func isHelper(folder string) bool {
	return slices.Contains(helpers, folder) || strings.HasPrefix(folder, "test/") || strings.HasPrefix(folder, "bench")
}

func matches(pattern, folder string) bool {
	ok, err := path.Match(pattern, folder)
	return err == nil && ok
}
