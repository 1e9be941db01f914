package archtest_test

import (
	"go/ast"
	"go/build"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const modulePath = "dbrunner"

// pkg is one folder with Go files.
type pkg struct {
	folder string // relative to the module's root, with slashes; "." for the root
	files  []*source
}

// source is one parsed file.
type source struct {
	name   string // relative to the module's root
	syntax *ast.File
	test   bool
	built  bool // part of an ordinary build on this machine
}

// module is the parsed source of everything in the module.
type module struct {
	root  string
	files *token.FileSet
	pkgs  []*pkg
}

func setup(t *testing.T) *module {
	t.Helper()
	m := &module{root: moduleRoot(t), files: token.NewFileSet()}
	byFolder := map[string]*pkg{}
	require.NoError(t, filepath.WalkDir(m.root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && name != m.root && isForeign(d.Name()):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(name) != ".go":
			return nil
		}
		file := m.parse(t, name)
		folder := path.Dir(file.name)
		if byFolder[folder] == nil {
			byFolder[folder] = &pkg{folder: folder}
			m.pkgs = append(m.pkgs, byFolder[folder])
		}
		byFolder[folder].files = append(byFolder[folder].files, file)
		return nil
	}))
	require.NotEmpty(t, m.pkgs)
	return m
}

// isForeign reports whether go build, too, leaves folders of this name alone.
func isForeign(name string) bool {
	return name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

func moduleRoot(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	require.NoError(t, err)
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		require.NotEqual(t, filepath.Dir(dir), dir, "no go.mod above this test")
		dir = filepath.Dir(dir)
	}
}

func (m *module) parse(t *testing.T, name string) *source {
	t.Helper()
	syntax, err := parser.ParseFile(m.files, name, nil, parser.ParseComments|parser.SkipObjectResolution)
	require.NoError(t, err)
	relative, err := filepath.Rel(m.root, name)
	require.NoError(t, err)
	built, err := build.Default.MatchFile(filepath.Dir(name), filepath.Base(name))
	require.NoError(t, err)
	return &source{
		name: filepath.ToSlash(relative), syntax: syntax, built: built,
		test: strings.HasSuffix(name, "_test.go"),
	}
}

// at returns the place of a node, for messages.
func (m *module) at(n ast.Node) string {
	position := m.files.Position(n.Pos())
	relative, err := filepath.Rel(m.root, position.Filename)
	if err != nil {
		relative = position.Filename
	}
	return relative + ":" + strconv.Itoa(position.Line)
}

// production returns the files that are no tests.
func (p *pkg) production() []*source {
	return slices.DeleteFunc(slices.Clone(p.files), func(f *source) bool { return f.test })
}

// imports returns the folders of the module's own packages that a file imports.
func (f *source) imports() []string {
	var out []string
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		if folder, ok := strings.CutPrefix(name, modulePath+"/"); ok {
			out = append(out, folder)
		}
	}
	return out
}

// has reports whether a file imports a package by its full path.
func (f *source) has(name string) bool {
	return slices.ContainsFunc(f.syntax.Imports, func(spec *ast.ImportSpec) bool {
		return spec.Path.Value == strconv.Quote(name)
	})
}
