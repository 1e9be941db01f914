package archtest_test

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// TestPublicPackagesExportNoInternalTypes: what other modules may import has nothing in its exported declarations that they
// cannot name.
func TestPublicPackagesExportNoInternalTypes(t *testing.T) {
	t.Parallel()
	for _, p := range setup(t).pkgs {
		if p.folder != "contract" && p.folder != "client" {
			continue
		}
		for _, f := range p.production() {
			internal := map[string]bool{}
			for _, spec := range f.syntax.Imports {
				if path := strings.Trim(spec.Path.Value, `"`); strings.Contains(path, "/internal/") {
					internal[path[strings.LastIndexByte(path, '/')+1:]] = true
				}
			}
			check := func(what string, node ast.Node) {
				ast.Inspect(node, func(n ast.Node) bool {
					if s, ok := n.(*ast.SelectorExpr); ok {
						if x, ok := s.X.(*ast.Ident); ok && internal[x.Name] {
							assert.Failf(t, "an internal type in a public declaration", "%s: %s has %s.%s", f.name, what, x.Name, s.Sel.Name)
						}
					}
					return true
				})
			}
			for _, decl := range f.syntax.Decls {
				switch d := decl.(type) {
				case *ast.FuncDecl:
					if d.Name.IsExported() {
						check(d.Name.Name, d.Type)
					}
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						switch s := spec.(type) {
						case *ast.TypeSpec:
							if s.Name.IsExported() {
								check(s.Name.Name, s.Type)
							}
						case *ast.ValueSpec:
							if s.Names[0].IsExported() && s.Type != nil {
								check(s.Names[0].Name, s.Type)
							}
						}
					}
				}
			}
		}
	}
}
