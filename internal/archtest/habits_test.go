package archtest_test

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// leastComment is the minimum length of a package comment.
const leastComment = 80

func TestEveryPackageSaysOnceWhatItOwns(t *testing.T) {
	t.Parallel()
	for _, p := range setup(t).pkgs {
		var comments, names []string
		for _, f := range p.production() {
			if f.built && f.syntax.Doc != nil {
				comments = append(comments, f.syntax.Doc.Text())
				names = append(names, f.name)
			}
		}
		if len(p.production()) == 0 {
			continue // a folder of tests
		}
		if assert.Lenf(t, comments, 1, "%s needs one package comment, has them in %v", p.folder, names) {
			assert.GreaterOrEqualf(t, len(comments[0]), leastComment, "%s: describe what the package owns", names[0])
			first := p.firstWords()
			assert.Regexpf(t, "^"+first+" ", comments[0], "%s: the comment starts with %q", names[0], first)
		}
	}
}

// firstWords is how a package comment starts; of a command, with its name.
func (p *pkg) firstWords() string {
	name := p.production()[0].syntax.Name.Name
	if name != "main" {
		return "Package " + name
	}
	return "(?i:(command )?" + path.Base(p.folder) + ")"
}

func TestNothingHappensAtImport(t *testing.T) {
	t.Parallel()
	m := setup(t)
	for _, p := range m.pkgs {
		for _, f := range p.files {
			for _, decl := range f.syntax.Decls {
				if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
					assert.Failf(t, "init() runs unseen", "%s: let the caller call it", m.at(decl))
				}
			}
		}
	}
}

// TestPackageVariablesAreConstant holds that a package-level variable gets its value where it is declared and is
// never written again: errors, regular expressions, embedded files and tables, but no state.
func TestPackageVariablesAreConstant(t *testing.T) {
	t.Parallel()
	m := setup(t)
	for _, p := range m.pkgs {
		if isHelper(p.folder) {
			continue
		}
		names := map[string]bool{}
		for _, f := range p.production() {
			m.packageVariables(t, f, names)
		}
		for _, f := range p.production() {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				for _, written := range writes(n) {
					if name, ok := written.(*ast.Ident); ok && names[name.Name] {
						assert.Failf(t, "state in a package", "%s: %s is written after its declaration", m.at(n), name.Name)
					}
				}
				return true
			})
		}
	}
}

// packageVariables adds the names of a file's package-level variables.
func (m *module) packageVariables(t *testing.T, f *source, names map[string]bool) {
	t.Helper()
	for _, decl := range f.syntax.Decls {
		vars, ok := decl.(*ast.GenDecl)
		if !ok || vars.Tok != token.VAR {
			continue
		}
		for _, spec := range vars.Specs {
			v, ok := spec.(*ast.ValueSpec)
			if !ok {
				continue
			}
			assert.Truef(t, len(v.Values) > 0 || isEmbed(v.Doc) || isEmbed(vars.Doc),
				"%s: a package-level variable without a value is state", m.at(v))
			for _, name := range v.Names {
				names[name.Name] = name.Name != "_"
			}
		}
	}
}

func isEmbed(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool {
		return strings.HasPrefix(c.Text, "//go:embed ")
	})
}

// writes returns what a node assigns to; of an element or a field, the variable that holds it.
func writes(n ast.Node) []ast.Expr {
	var out []ast.Expr
	switch s := n.(type) {
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE {
			return nil
		}
		out = slices.Clone(s.Lhs)
	case *ast.IncDecStmt:
		out = []ast.Expr{s.X}
	}
	for i, e := range out {
		out[i] = holder(e)
	}
	return out
}

func holder(e ast.Expr) ast.Expr {
	for {
		switch x := e.(type) {
		case *ast.IndexExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		default:
			return e
		}
	}
}

// byTheClock starts a comment with the reason why a test must let real time pass.
const byTheClock = "// by the clock: "

// TestNoTestWaitsByTheClock holds that tests wait for events. Inside testing/synctest sleeping is one: packages that
// use it are left alone. So is a sleep whose line has the reason.
func TestNoTestWaitsByTheClock(t *testing.T) {
	t.Parallel()
	m := setup(t)
	for _, p := range m.pkgs {
		if slices.ContainsFunc(p.files, func(f *source) bool { return f.has("testing/synctest") }) {
			continue
		}
		for _, f := range p.files {
			if !f.test && !isHelper(p.folder) {
				continue
			}
			reasons := m.reasons(f)
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if isSleep(n) && !reasons[m.files.Position(n.Pos()).Line] {
					assert.Failf(t, "a test waits by the clock", "%s: wait for an event, or say in a comment %q why not",
						m.at(n), byTheClock)
				}
				return true
			})
		}
	}
}

func isSleep(n ast.Node) bool {
	call, ok := n.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	base, ok := call.X.(*ast.Ident)
	return ok && base.Name == "time" && call.Sel.Name == "Sleep"
}

// reasons returns the lines whose comment has the reason for real time to pass.
func (m *module) reasons(f *source) map[int]bool {
	lines := map[int]bool{}
	for _, group := range f.syntax.Comments {
		for _, c := range group.List {
			if strings.HasPrefix(c.Text, byTheClock) {
				lines[m.files.Position(c.Pos()).Line] = true
			}
		}
	}
	return lines
}

// TestTestsReadTheirOwnSessions holds that tests filter the views of a shared PostgreSQL server by their own database:
// other tests have sessions and locks on it, too.
func TestTestsReadTheirOwnSessions(t *testing.T) {
	t.Parallel()
	m := setup(t)
	for _, p := range m.pkgs {
		for _, f := range p.files {
			if !f.test && !isHelper(p.folder) || p.folder == "internal/archtest" {
				continue
			}
			for _, text := range sqlTexts(f) {
				if unfiltered(text.sql) {
					assert.Failf(t, "a test reads other tests' sessions", "%s: filter %q by the test's own database or session", m.at(text.at), text.sql)
				}
			}
		}
	}
}

// unfiltered reports whether SQL reads sessions or locks of a whole server.
func unfiltered(sql string) bool {
	if !strings.Contains(sql, "FROM pg_locks") && !strings.Contains(sql, "FROM pg_stat_activity") {
		return false
	}
	return !slices.ContainsFunc([]string{"datname", "database = ", "pg_backend_pid()", "relation = ", "pid = "}, func(filter string) bool {
		return strings.Contains(sql, filter) && (filter != "pg_backend_pid()" || strings.Contains(sql, "pid = pg_backend_pid()"))
	})
}

// sqlText is a string of a program, concatenated where it is written in parts.
type sqlText struct {
	at  ast.Node
	sql string
}

func sqlTexts(f *source) []sqlText {
	var out []sqlText
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		e, ok := n.(ast.Expr)
		if !ok {
			return true
		}
		if text := literal(e); text != "" {
			out = append(out, sqlText{n, text})
			return false
		}
		return true
	})
	return out
}

// literal returns the text of a string literal or of a concatenation, with a blank for each part that is not a literal.
func literal(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.BasicLit:
		if x.Kind == token.STRING {
			return x.Value
		}
	case *ast.BinaryExpr:
		if x.Op == token.ADD {
			return literal(x.X) + " " + literal(x.Y)
		}
	}
	return ""
}

func TestUnfiltered(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]bool{
		"SELECT 1": false,
		"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'":                                                true,
		"SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()":                                               false,
		"SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()":                      true,
		"SELECT pid FROM pg_stat_activity WHERE datname = current_database()":                                      false,
		"SELECT 1 FROM pg_locks WHERE database = (SELECT oid FROM pg_database)":                                    false,
		"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'x%' AND pid <> pg_backend_pid()": true,
	} {
		assert.Equal(t, want, unfiltered(sql), sql)
	}
}
