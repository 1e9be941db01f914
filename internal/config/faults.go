package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Fault is one thing wrong with the configuration. It never holds a value that might be a secret.
type Fault struct {
	Path    string // the key, such as "databases.rpa_db.pool.max"; empty: the file as a whole
	Env     string // the environment variable that the value came from; empty: it did not
	Line    int    // where the value stands in the file; 0: it does not
	Message string // what is wrong and what to write instead
}

// String returns the fault as one line.
func (f Fault) String() string {
	var b strings.Builder
	if f.Line > 0 {
		b.WriteString("line " + strconv.Itoa(f.Line) + ": ")
	}
	b.WriteString(f.Path)
	switch {
	case f.Env != "" && f.Path != "":
		b.WriteString(" (" + f.Env + ")")
	case f.Env != "":
		b.WriteString(f.Env)
	}
	if f.Path != "" || f.Env != "" {
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	return b.String()
}

// Faults is the error of a configuration: everything that is wrong with it, not only the first thing.
type Faults struct{ List []Fault }

// Error returns a line for each fault.
func (f *Faults) Error() string {
	lines := make([]string, 0, len(f.List)+1)
	lines = append(lines, "the configuration has "+counted(len(f.List), "fault")+":")
	for _, fault := range f.List {
		lines = append(lines, "  "+fault.String())
	}
	return strings.Join(lines, "\n")
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// origin returns where a value was written.
type origin struct {
	line int
	env  string
}

// collector gathers faults while a configuration is read and checked.
type collector struct {
	list    []Fault
	origins map[string]origin // by path; nil: the configuration was not read but made by a program
	faulty  map[string]bool   // paths that have a fault: what follows from their values is not looked at
}

func newCollector() *collector {
	return &collector{origins: map[string]origin{}, faulty: map[string]bool{}}
}

// add notes a fault of the value at path, with the place where that value was written. What was not written at
// all gets the line of what it would stand below.
func (c *collector) add(path, message string) {
	o, written := c.origins[path]
	for above := path; !written && above != ""; {
		above = above[:max(0, strings.LastIndexByte(above, '.'))]
		o.line = c.origins[above].line
		_, written = c.origins[above]
	}
	c.list = append(c.list, Fault{Path: path, Env: o.env, Line: o.line, Message: message})
	c.faulty[path] = true
}

// sound reports whether none of the paths has a fault so far.
func (c *collector) sound(paths ...string) bool {
	return !slices.ContainsFunc(paths, func(p string) bool { return c.faulty[p] })
}

// err returns the faults in the order of the file, then of the keys; nil if there are none.
func (c *collector) err() error {
	if len(c.list) == 0 {
		return nil
	}
	slices.SortStableFunc(c.list, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Env, b.Env))
	})
	return &Faults{List: c.list}
}
