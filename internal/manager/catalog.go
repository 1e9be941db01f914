package manager

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"dbrunner/internal/catalog"
	"dbrunner/internal/config"
	"dbrunner/internal/db/dialect"
)

// kindCall is the kind whose jobs run statements of a catalog.
const kindCall = "call"

// openCatalog reads a database's catalog; nil where none is configured.
func openCatalog(d *config.Database, of *dialect.Dialect) (*catalog.Catalog, error) {
	folder, calls := d.Catalog.Folder, slices.Contains(d.Kinds, kindCall)
	switch {
	case folder == "" && !calls:
		return nil, nil
	case folder == "":
		return nil, errors.New("catalog.folder is missing: kinds has call, which runs the statements of a folder; write its name, or take call out of kinds")
	case !calls:
		return nil, errors.New("catalog.folder has no use, because kinds does not name call: add it, as in kinds: [call, health], or leave the folder out")
	}
	if info, err := os.Stat(folder); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("catalog.folder: %s is no folder that can be read; write the name of one with a file <name>.yaml for each statement", folder)
	}
	return catalog.Load(os.DirFS(folder), folder, of)
}
