package archtest_test

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPathsNameFunctionsThatExist: in the blocks of docs/architecture.md that begin with ```path, each line is a folder and
// the functions that a job passes there, a method as Type.name.
func TestPathsNameFunctionsThatExist(t *testing.T) {
	t.Parallel()
	m := setup(t)
	page, err := os.ReadFile(filepath.Join(m.root, "docs", "architecture.md"))
	require.NoError(t, err)
	blocks := strings.Split(string(page), "```path\n")[1:]
	require.Len(t, blocks, 3, "a query, a transaction, and those that share a commit")
	for _, block := range blocks {
		text, _, closed := strings.Cut(block, "```")
		require.True(t, closed)
		for line := range strings.Lines(text) {
			words := strings.Fields(strings.ReplaceAll(line, ",", " "))
			declared := m.functions(words[0])
			for _, name := range words[1:] {
				assert.Containsf(t, declared, name, "docs/architecture.md: %s has no function %s", words[0], name)
			}
		}
	}
}

// functions are the names of all functions of a folder's production code, of methods with their type.
func (m *module) functions(folder string) []string {
	var names []string
	for _, p := range m.pkgs {
		if p.folder != folder {
			continue
		}
		for _, f := range p.production() {
			for _, d := range f.syntax.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					names = append(names, receiver(fn)+fn.Name.Name)
				}
			}
		}
	}
	return names
}

// receiver is the type of a method with a dot behind it; empty for a function.
func receiver(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return ""
	}
	of := fn.Recv.List[0].Type
	if star, ok := of.(*ast.StarExpr); ok {
		of = star.X
	}
	if name, ok := of.(*ast.Ident); ok {
		return name.Name + "."
	}
	return ""
}
