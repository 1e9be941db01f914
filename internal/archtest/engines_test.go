package archtest_test

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// drivers are the engines, each a folder of internal/db, with the libraries that only they import.
var drivers = map[string][]string{
	"postgres":  {"github.com/jackc/pgx"},
	"sqlserver": {"github.com/microsoft/go-mssqldb"},
	"sqlite":    {"modernc.org/sqlite"},
}

// driven are the packages besides the engines that may import a driver: they serve tests, or judge.
var driven = []string{"internal/verify", "internal/db/dbtest", "bench", "bench/*", "test/*", "test/*/*"}

// engineFiles are the files of every engine. Others are its own.
var engineFiles = []string{
	"engine", "options", "dialect", "connect", "pool", "session", "read", "transact", "autocommit", "batch", "params", "values",
	"errors", "ledger", "probe", "diagnose", "migrate",
}

// engineTypes are the types of every engine.
var engineTypes = []string{"Database", "session", "transaction", "autocommit", "inspection"}

// sharedText is how long a text may be that two engines have, bytes. A longer one belongs to package engine or db, so that
// one error reads the same on every engine.
const sharedText = 24

func engineFolders(t *testing.T, m *module) map[string]*pkg {
	t.Helper()
	out := map[string]*pkg{}
	for _, p := range m.pkgs {
		if name := path.Base(p.folder); path.Dir(p.folder) == "internal/db" && drivers[name] != nil {
			out[name] = p
		}
	}
	require.Len(t, out, len(drivers), "an engine without a folder")
	return out
}

func TestEnginesHaveTheSameFilesAndTypes(t *testing.T) {
	t.Parallel()
	for name, p := range engineFolders(t, setup(t)) {
		var files, types []string
		for _, f := range p.production() {
			files = append(files, strings.TrimSuffix(path.Base(f.name), ".go"))
			for _, decl := range f.syntax.Decls {
				if d, ok := decl.(*ast.GenDecl); ok && d.Tok == token.TYPE {
					for _, spec := range d.Specs {
						types = append(types, spec.(*ast.TypeSpec).Name.Name) //nolint:forcetypeassert // of a TYPE
					}
				}
			}
		}
		assert.Subset(t, files, engineFiles, "%s: a file of every engine is missing", name)
		assert.Subset(t, types, engineTypes, "%s: a type of every engine is missing", name)
	}
}

func TestEnginesShareNoText(t *testing.T) {
	t.Parallel()
	m := setup(t)
	found := map[string]map[string]string{} // text, engine, place
	for name, p := range engineFolders(t, m) {
		for _, f := range p.production() {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if _, ok := n.(*ast.ImportSpec); ok {
					return false
				}
				lit, ok := n.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					return true
				}
				text, err := strconv.Unquote(lit.Value)
				require.NoError(t, err)
				if len(text) > sharedText {
					if found[text] == nil {
						found[text] = map[string]string{}
					}
					found[text][name] = m.at(lit)
				}
				return true
			})
		}
	}
	for text, places := range found {
		assert.Lenf(t, places, 1, "%q stands in %v: it belongs to internal/db/engine", text, slices.Sorted(maps.Values(places)))
	}
}

func TestDriversStayInTheirEngines(t *testing.T) {
	t.Parallel()
	for _, p := range setup(t).pkgs {
		if slices.ContainsFunc(driven, func(pattern string) bool { return matches(pattern, p.folder) }) {
			continue
		}
		for _, f := range p.production() {
			for _, spec := range f.syntax.Imports {
				library, err := strconv.Unquote(spec.Path.Value)
				require.NoError(t, err)
				for name, libraries := range drivers {
					for _, driver := range libraries {
						own := p.folder == "internal/db/"+name
						assert.Falsef(t, strings.HasPrefix(library, driver) && !own, "%s imports %s, which only %s may", f.name, library, name)
					}
				}
			}
		}
	}
}
