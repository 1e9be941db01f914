// Package schema has the contract as JSON Schemas (draft 2020-12): one for the body of a job of each kind, one for results, one each for
// the record of a pause, the record and the state of a schedule, audit entries, the headers of dead letters and a file of a catalog, and one for each heartbeat and each answer of the service. They are generated from what decodes and encodes these messages ("make contract").
package schema

import (
	"embed"
	"fmt"
	"io/fs"
	"strings"
)

//go:embed *.json
var files embed.FS

// Names returns the names of all schemas, sorted: "job-query", "result", …
func Names() []string {
	found, _ := fs.Glob(files, "*.json") // fails only for a malformed pattern
	for i := range found {
		found[i] = strings.TrimSuffix(found[i], ".json")
	}
	return found
}

// Read returns a schema as JSON text; the name of a kind is that of its job's schema. An unknown name is an error that lists the known ones.
func Read(name string) ([]byte, error) {
	text, err := files.ReadFile(name + ".json")
	if err != nil {
		text, err = files.ReadFile("job-" + name + ".json")
	}
	if err != nil {
		return nil, fmt.Errorf("no schema is named %q; write one of %s", name, strings.Join(Names(), ", "))
	}
	return text, nil
}
