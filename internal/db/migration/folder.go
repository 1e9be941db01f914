package migration

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Folder is the migrations of one database, in their order.
type Folder struct {
	Files []*File // that apply, each with what reverts it
}

// Fault is one thing that is wrong with a folder, or with how it goes together with a database.
type Fault struct {
	File    string // empty: it is about no file in particular
	Code    string // one of the Fault… words
	Message string // what is wrong and what to do; never any SQL
}

// The codes of faults.
const (
	FaultName       = "misnamed_file"
	FaultMixed      = "mixed_styles"
	FaultDuplicate  = "duplicate_version"
	FaultRepeatable = "repeatable_file"
	FaultContents   = "unusable_file"
	FaultAlone      = "down_without_up"
	FaultEdited     = "edited_file"
	FaultMissing    = "missing_file"
	FaultOutOfOrder = "out_of_order"
	FaultNoDown     = "no_way_down"
	FaultDirty      = "dirty"
	FaultUnadopted  = "not_adopted"
	FaultVersion    = "version_changed"
)

func (f *Fault) String() string {
	if f.File == "" {
		return f.Message
	}
	return f.File + ": " + f.Message
}

// FaultsError is everything that is wrong with a folder.
type FaultsError struct{ Faults []Fault }

func (e *FaultsError) Error() string {
	lines := make([]string, len(e.Faults))
	for i := range e.Faults {
		lines[i] = e.Faults[i].String()
	}
	return strings.Join(lines, "; ")
}

// The two styles of names: of Flyway and its like, and of golang-migrate.
var (
	versioned  = regexp.MustCompile(`^([VU])([0-9]+(?:[._][0-9]+)*)__(.+)\.sql$`)
	migrated   = regexp.MustCompile(`^([0-9]+)_(.*)\.(up|down)\.sql$`)
	repeatable = regexp.MustCompile(`^R__.+\.sql$`)
)

const nameHint = "is not the name of a migration: write V{version}__{description}.sql (U{version}__{description}.sql " +
	"reverts it) or {version}_{title}.up.sql and .down.sql"

// entry is a file's name, understood.
type entry struct {
	name      string
	dir       direction
	parts     parts
	versioned bool // in the first style
	version   Version
}

// Load reads a folder. Its error is a *FaultsError with all that is wrong, or why the folder cannot be read.
// Files that do not end in .sql, and those that begin with a dot, are left alone.
func Load(engine Engine, fsys fs.FS) (*Folder, error) {
	l := &loader{engine: engine, fsys: fsys}
	entries, err := l.entries()
	if err != nil {
		return nil, err
	}
	l.styles(entries)
	folder := l.files(l.number(entries))
	if len(l.faults) > 0 {
		return nil, &FaultsError{Faults: l.faults}
	}
	return folder, nil
}

type loader struct {
	engine Engine
	fsys   fs.FS
	faults []Fault
}

func (l *loader) fault(file, code, format string, args ...any) {
	l.faults = append(l.faults, Fault{File: file, Code: code, Message: fmt.Sprintf(format, args...)})
}

// entries reads the names.
func (l *loader) entries() ([]*entry, error) {
	list, err := fs.ReadDir(l.fsys, ".")
	if err != nil {
		return nil, readError(err)
	}
	var out []*entry
	for _, e := range list {
		switch {
		case strings.HasPrefix(e.Name(), "."):
		case e.IsDir():
			if err := l.subfolder(e.Name()); err != nil {
				return nil, err
			}
		case strings.EqualFold(path.Ext(e.Name()), ".sql"):
			if entry := l.entry(e.Name()); entry != nil {
				out = append(out, entry)
			}
		}
	}
	return out, nil
}

// readError is the reason why a folder or a file cannot be read, without the path: the caller knows it.
func readError(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return err
}

// subfolder refuses migrations in folders below, which would be missed.
func (l *loader) subfolder(name string) error {
	list, err := fs.ReadDir(l.fsys, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, readError(err))
	}
	for _, e := range list {
		if !e.IsDir() && strings.EqualFold(path.Ext(e.Name()), ".sql") {
			l.fault(name+"/"+e.Name(), FaultName, "is in a folder below: migrations are files of one folder")
		}
	}
	return nil
}

func (l *loader) entry(name string) *entry {
	var e *entry
	separators, digits := "", ""
	switch {
	case repeatable.MatchString(name):
		l.fault(name, FaultRepeatable, "repeatable migrations are not supported: give it a version, and a new one for each change")
		return nil
	case versioned.MatchString(name):
		m := versioned.FindStringSubmatch(name)
		e = &entry{name: name, dir: up, versioned: true}
		if m[1] == "U" {
			e.dir = down
		}
		digits, separators = m[2], "._"
	case migrated.MatchString(name):
		m := migrated.FindStringSubmatch(name)
		e = &entry{name: name, dir: direction(m[3])}
		digits = m[1]
	default:
		l.fault(name, FaultName, nameHint)
		return nil
	}
	p, err := parseParts(digits, separators)
	if err != nil {
		l.fault(name, FaultName, "%s", err)
		return nil
	}
	e.parts = p
	return e
}

// styles refuses a folder that mixes the two styles.
func (l *loader) styles(entries []*entry) {
	var first [2]string
	for _, e := range entries {
		i := 0
		if e.versioned {
			i = 1
		}
		if first[i] == "" {
			first[i] = e.name
		}
	}
	if first[0] != "" && first[1] != "" {
		l.fault("", FaultMixed, "the folder mixes two styles of names, such as %s and %s: use one of them", first[0], first[1])
	}
}

// number gives every file its version, and returns in their order those that have one.
func (l *loader) number(entries []*entry) []*entry {
	dotted := slices.ContainsFunc(entries, func(e *entry) bool { return len(e.parts) > 1 })
	var out []*entry
	for _, e := range entries {
		e.version = e.parts.plain()
		if dotted {
			var err error
			if e.version, err = e.parts.dotted(); err != nil {
				l.fault(e.name, FaultName, "%s", err)
				continue
			}
		}
		out = append(out, e)
	}
	slices.SortStableFunc(out, func(a, b *entry) int { return cmp.Compare(a.version.Number, b.version.Number) })
	return out
}

// files reads the files and joins what applies with what reverts.
func (l *loader) files(entries []*entry) *Folder {
	folder := &Folder{}
	taken := map[direction]map[int64]string{up: {}, down: {}}
	reverts := map[int64]*File{}
	for _, e := range entries {
		if other := taken[e.dir][e.version.Number]; other != "" {
			l.fault(e.name, FaultDuplicate, "has the version of %s: give it a different one", other)
			continue
		}
		taken[e.dir][e.version.Number] = e.name
		f := l.read(e)
		switch {
		case f == nil:
		case e.dir == up:
			folder.Files = append(folder.Files, f)
		default:
			reverts[e.version.Number] = f
		}
	}
	for _, e := range entries {
		if e.dir == down && taken[up][e.version.Number] == "" {
			l.fault(e.name, FaultAlone, "reverts version %s, which has no file", e.version.Label)
		}
	}
	for _, f := range folder.Files {
		f.down = reverts[f.Version.Number]
	}
	return folder
}

func (l *loader) read(e *entry) *File {
	contents, err := fs.ReadFile(l.fsys, e.name)
	if err != nil {
		l.fault(e.name, FaultContents, "cannot be read: %s", readError(err))
		return nil
	}
	f, err := readFile(l.engine, e.name, contents)
	if err != nil {
		l.fault(e.name, FaultContents, "%s", err)
		return nil
	}
	f.Version = e.version
	return f
}

// Latest is the version of the last file.
func (f *Folder) Latest() Version {
	if len(f.Files) == 0 {
		return None()
	}
	return f.Files[len(f.Files)-1].Version
}

// resolve finds the version that a target names: a version of a file, or none (also 0, where no file has it).
func (f *Folder) resolve(target string) (Version, error) {
	if strings.EqualFold(target, noneLabel) {
		return None(), nil
	}
	p, err := parseParts(strings.TrimPrefix(strings.TrimPrefix(target, "V"), "v"), "._")
	if err != nil || len(p) == 0 || target == "" {
		return Version{}, fmt.Errorf("the target %q is not a version; write one such as %s, or none", clip(target), f.example())
	}
	want := p.label()
	for _, file := range f.Files {
		if file.Version.Label == want {
			return file.Version, nil
		}
	}
	if want == "0" {
		return None(), nil
	}
	return Version{}, fmt.Errorf("no migration has version %s; the folder has %s", clip(want), f.span())
}

func (f *Folder) example() string {
	if len(f.Files) == 0 {
		return "1"
	}
	return f.Latest().Label
}

// span says in words which versions there are.
func (f *Folder) span() string {
	switch n := len(f.Files); n {
	case 0:
		return "none"
	case 1:
		return f.Files[0].Version.Label
	default:
		return fmt.Sprintf("%s to %s (%d files)", f.Files[0].Version.Label, f.Latest().Label, n)
	}
}

// clip bounds what is repeated of a request.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
