package archtest_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestEveryCaseForSQLServerIsRun holds that `make test-sqlserver` runs all tests of internal/app that have a case for SQL Server: what it
// leaves out runs nowhere, as other runs have no such server.
func TestEveryCaseForSQLServerIsRun(t *testing.T) {
	t.Parallel()
	m := setup(t)
	makefile, err := os.ReadFile(filepath.Join(m.root, "Makefile"))
	require.NoError(t, err)
	line := regexp.MustCompile(`(?m)^SQLSERVER_CASES := (.+)\$\$/sqlserver$`).FindSubmatch(makefile)
	require.NotNil(t, line, "the Makefile names no tests")
	run := regexp.MustCompile("^" + string(line[1]) + "$")
	app := slices.IndexFunc(m.pkgs, func(p *pkg) bool { return p.folder == "internal/app" })
	require.GreaterOrEqual(t, app, 0)
	tests := callersOfSQLServer(m.pkgs[app])
	require.NotEmpty(t, tests)
	for _, name := range tests {
		assert.Regexp(t, run, name, "add it to SQLSERVER_CASES of the Makefile")
	}
}

// callersOfSQLServer returns the tests of a package that use dbtest.SQLServer, themselves or by another function.
func callersOfSQLServer(p *pkg) []string {
	functions := map[string]*ast.FuncDecl{}
	for _, f := range p.files {
		for _, decl := range f.syntax.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && f.test {
				functions[fn.Name.Name] = fn
			}
		}
	}
	users := map[string]bool{"SQLServer": true}
	for before := 0; before < len(users); {
		before = len(users)
		for name, fn := range functions {
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if used, ok := n.(*ast.Ident); ok && users[used.Name] {
					users[name] = true
				}
				return true
			})
		}
	}
	var tests []string
	for name := range users {
		if strings.HasPrefix(name, "Test") {
			tests = append(tests, name)
		}
	}
	slices.Sort(tests)
	return tests
}
