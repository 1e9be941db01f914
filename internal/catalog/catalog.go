package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"dbrunner/internal/db/dialect"
)

// Catalog is the statements of one database. It does not change once it is loaded.
type Catalog struct {
	statements map[string]*Statement
	names      []string // in order
	hash       string
}

// Statement is a named statement: a query, or a transaction of one or more texts.
type Statement struct {
	Name        string
	Description string
	Query       bool   // it only reads; otherwise it takes effect exactly once
	Texts       []Text // one, of a query
	Isolation   string // of a transaction, as jobs write it; empty: the database's default
	Params      []Param

	MaxAffected int64 // rows that a transaction may write; 0: no limit of its own

	MaxRows int64         // ceiling of a job's max_rows; 0: none of its own
	Timeout time.Duration // ceiling of a job's timeout; 0: none of its own

	// Schema is the JSON Schema of the object with a call's parameters.
	Schema json.RawMessage
	// Revision changes with the definition: the first 12 hexadecimal digits of the SHA-256 of its canonical form.
	Revision string
}

// Text is one SQL text of a statement.
type Text struct {
	SQL    string
	Params []string // that it names, in the order of their numbers
	Expect *Expect  // on its number of rows; nil: none
}

// Expect bounds a number of rows. Max below 0: no upper bound.
type Expect struct{ Min, Max int64 }

// Statement returns the statement of a name; nil if there is none.
func (c *Catalog) Statement(name string) *Statement {
	if c == nil {
		return nil
	}
	return c.statements[name]
}

// Names returns the names of all statements in order.
func (c *Catalog) Names() []string {
	if c == nil {
		return nil
	}
	return slices.Clone(c.names)
}

// Hash is the same for all catalogs with the same definitions: 12 hexadecimal digits.
func (c *Catalog) Hash() string {
	if c == nil {
		return ""
	}
	return c.hash
}

const extension = ".yaml"

// maxFile bounds a file, bytes.
const maxFile = 1 << 20

// maxName bounds the names of statements and parameters, characters.
const maxName = 64

var validName = regexp.MustCompile(`^[a-z0-9_]+$`)

// Load reads all statements of a folder for a database that speaks the dialect; folder is its name in errors. A mistake in any
// file is an *Error, which lists those of all files.
func Load(files fs.FS, folder string, d *dialect.Dialect) (*Catalog, error) {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil, fmt.Errorf("read the catalog folder %s: %w", folder, err)
	}
	c := &Catalog{statements: make(map[string]*Statement)}
	all := &Error{}
	sum := sha256.New()
	for _, entry := range entries { // in the order of their names
		f := &file{name: path.Join(folder, entry.Name()), dialect: d, faults: all}
		name, isYAML := strings.CutSuffix(entry.Name(), extension)
		switch {
		case strings.HasPrefix(entry.Name(), "."), entry.Name() == "README.md":
			continue
		case !isYAML || entry.IsDir():
			f.fault(0, "is not a statement: name it <name>.yaml, or move it to another folder")
			continue
		case len(name) > maxName || !validName.MatchString(name):
			f.fault(0, "a statement's name is 1 to 64 characters of a-z 0-9 _: rename the file")
			continue
		}
		text, err := readFile(files, entry.Name())
		if err != nil {
			f.fault(0, err.Error())
			continue
		}
		s := f.statement(name, text)
		if s == nil {
			continue
		}
		c.statements[name], c.names = s, append(c.names, name)
		_, _ = fmt.Fprintf(sum, "%s %s\n", name, s.Revision) // never fails
	}
	if len(c.names) == 0 && len(all.Faults) == 0 {
		all.Faults = append(all.Faults, Fault{File: folder, Message: "the folder has no statements: write one file <name>.yaml for each, or leave out the catalog"})
	}
	if len(all.Faults) > 0 {
		return nil, all
	}
	c.hash = hex.EncodeToString(sum.Sum(nil))[:revisionDigits]
	return c, nil
}

func readFile(files fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(files, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot be read: %w", err)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("is larger than %d bytes: split the statement", maxFile)
	}
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	return text, nil
}

// Fault is one mistake in a file.
type Fault struct {
	File    string
	Line    int // 0: of the whole file
	Message string
}

func (f Fault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Message
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Message)
}

// Error lists what is wrong with the files of a catalog, in their order.
type Error struct{ Faults []Fault }

func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Faults)+1)
	lines = append(lines, fmt.Sprintf("invalid catalog (%d):", len(e.Faults)))
	for _, f := range e.Faults {
		lines = append(lines, "  "+f.String())
	}
	return strings.Join(lines, "\n")
}
