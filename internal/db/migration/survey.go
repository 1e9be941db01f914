package migration

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// survey is a folder held against a database.
type survey struct {
	engine  Engine
	folder  *Folder
	state   *databaseState
	applied map[string]*record
}

func newSurvey(engine Engine, folder *Folder, state *databaseState) *survey {
	return &survey{engine: engine, folder: folder, state: state, applied: state.applied()}
}

// compareLabels orders versions as they are written.
func compareLabels(a, b string) int {
	x, _ := parseParts(a, ".")
	y, _ := parseParts(b, ".")
	return slices.Compare(x, y)
}

// highest is the highest of the versions that count as applied, but for one that is left out, and with one that is
// added.
func (s *survey) highest(without string, with *File) Version {
	out := None()
	for label, r := range s.applied {
		if label != without && (out.IsNone() || compareLabels(label, out.Label) > 0) {
			out = s.versionOf(r)
		}
	}
	if with != nil && (out.IsNone() || compareLabels(with.Version.Label, out.Label) > 0) {
		out = with.Version
	}
	return out
}

// versionOf is the version of a record; where its file is there, with the number that the folder gives it today.
func (s *survey) versionOf(r *record) Version {
	if f := s.file(r.version.Label); f != nil {
		return f.Version
	}
	return r.version
}

func (s *survey) file(label string) *File {
	i := slices.IndexFunc(s.folder.Files, func(f *File) bool { return f.Version.Label == label })
	if i < 0 {
		return nil
	}
	return s.folder.Files[i]
}

// current is the version that the database is at.
func (s *survey) current() Version {
	if len(s.state.history) > 0 {
		return s.highest("", nil)
	}
	return s.storedVersion()
}

// storedVersion is the version that golang-migrate's table names.
func (s *survey) storedVersion() Version {
	if s.state.stored < 0 {
		return None()
	}
	files := s.folder.Files
	if i, ok := slices.BinarySearchFunc(files, s.state.stored, func(f *File, n int64) int { return cmp.Compare(f.Version.Number, n) }); ok {
		return files[i].Version
	}
	label := strconv.FormatInt(s.state.stored, 10)
	if f := s.file(label); f != nil { // the folder has got dotted versions since
		return f.Version
	}
	return Version{Number: s.state.stored, Label: label}
}

// pending are the files that up would apply, in their order.
func (s *survey) pending() []*File {
	var out []*File
	current := s.current()
	for _, f := range s.folder.Files {
		if len(s.state.history) == 0 && !current.IsNone() && f.Version.Number <= current.Number {
			continue // another tool has applied it
		}
		if s.applied[f.Version.Label] == nil {
			out = append(out, f)
		}
	}
	return out
}

// faults is everything that keeps a migration from being run, but for what an interrupted one has left.
func (s *survey) faults(outOfOrder bool) []Fault {
	if len(s.state.history) == 0 && s.state.stored >= 0 && !s.state.dirty {
		return []Fault{{Code: FaultUnadopted, Message: fmt.Sprintf("another tool has set the version of the database to %s, and nothing records "+
			"which files it applied; adopt it with baseline and target %s", s.current().Label, s.current().Label)}}
	}
	out := s.changed()
	if !s.state.dirty {
		out = append(out, s.versionChanged()...)
	}
	if !outOfOrder {
		out = append(out, s.disordered()...)
	}
	return out
}

// changed are the applied files that are gone or have another text by now.
func (s *survey) changed() (out []Fault) {
	for _, label := range s.labels() {
		r := s.applied[label]
		f := s.file(label)
		switch {
		case f == nil && r.file != "":
			out = append(out, Fault{File: r.file, Code: FaultMissing, Message: fmt.Sprintf("was applied as version %s and no longer "+
				"exists; restore it, or accept its absence with repair and target %s", label, s.current().Label)})
		case f != nil && r.sha256 != "" && r.sha256 != f.SHA256:
			out = append(out, Fault{File: f.Name, Code: FaultEdited, Message: fmt.Sprintf("was applied with a different text (SHA-256 %s, "+
				"now %s); restore the old text and write a new migration, or accept the new text with repair and target %s",
				short(r.sha256), short(f.SHA256), s.current().Label)})
		}
	}
	return out
}

// labels are the applied versions in their order.
func (s *survey) labels() []string {
	return slices.SortedFunc(maps.Keys(s.applied), compareLabels)
}

func short(sum string) string { return sum[:min(len(sum), 12)] }

// versionChanged finds a version that another process has set since. A table that is missing says nothing: a file may have made
// another schema the login's own, as CREATE SCHEMA with the login's name does.
func (s *survey) versionChanged() []Fault {
	last := s.state.last()
	if last == nil || s.state.unversioned || last.state == running && s.matches(s.after(last)) || s.matches(s.current()) {
		return nil
	}
	return []Fault{{Code: FaultVersion, Message: fmt.Sprintf("the history stops at version %s, and another tool has set the version to "+
		"%s since; state which is true with repair and that version as its target", s.current().Label, s.storedVersion().Label)}}
}

// matches reports whether the stored version is this one, also with the number that it had before the folder got
// dotted versions.
func (s *survey) matches(v Version) bool {
	return s.state.stored == v.Number || s.state.stored >= 0 && strconv.FormatInt(s.state.stored, 10) == v.Label
}

// disordered are the pending files below the current version.
func (s *survey) disordered() (out []Fault) {
	current := s.current()
	for _, f := range s.pending() {
		if !current.IsNone() && compareLabels(f.Version.Label, current.Label) < 0 {
			out = append(out, Fault{File: f.Name, Code: FaultOutOfOrder, Message: fmt.Sprintf("has version %s, and version %s is applied "+
				"already; give it a version above %s, or allow out_of_order", f.Version.Label, current.Label, s.folder.Latest().Label)})
		}
	}
	return out
}

// after is the version that the database has when a record's file has come to its end.
func (s *survey) after(r *record) Version {
	if r.dir == down {
		return s.highest(r.version.Label, nil)
	}
	return s.highest("", &File{Version: s.versionOf(r)})
}

// step is one file to run.
type step struct {
	file   *File // that applies; for down, file.down is what runs
	dir    direction
	before Version
	after  Version
}

func (st *step) script() *File {
	if st.dir == down {
		return st.file.down
	}
	return st.file
}

// upSteps are the steps that apply all pending files up to a version.
func (s *survey) upSteps(target Version) (steps []step) {
	at := s.current()
	for _, f := range s.pending() {
		if f.Version.Number > target.Number {
			break
		}
		after := at
		if at.IsNone() || f.Version.Number > at.Number {
			after = f.Version
		}
		steps = append(steps, step{file: f, dir: up, before: at, after: after})
		at = after
	}
	return steps
}

// downSteps are the steps that revert all applied files above a version, and what keeps one of them from being
// reverted: then there are no steps.
func (s *survey) downSteps(target Version) (steps []step, faults []Fault) {
	labels := s.labels()
	for i := len(labels) - 1; i >= 0; i-- {
		if !target.IsNone() && compareLabels(labels[i], target.Label) <= 0 {
			break
		}
		before, after := s.versionOf(s.applied[labels[i]]), None()
		if i > 0 {
			after = s.versionOf(s.applied[labels[i-1]])
		}
		f := s.file(labels[i])
		if f == nil || f.down == nil {
			faults = append(faults, Fault{File: s.applied[labels[i]].file, Code: FaultNoDown, Message: fmt.Sprintf(
				"no file reverts version %s (%s)", labels[i], downName(f, labels[i]))})
			continue
		}
		steps = append(steps, step{file: f, dir: down, before: before, after: after})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return steps, nil
}

// downName is what the file that reverts would be called.
func downName(f *File, label string) string {
	switch {
	case f == nil:
		return "U" + strings.ReplaceAll(label, ".", "_") + "__….sql"
	case strings.HasPrefix(f.Name, "V"):
		return "U" + f.Name[1:]
	default:
		return strings.TrimSuffix(f.Name, ".up.sql") + ".down.sql"
	}
}

// sortedFaults orders faults by file, those about none first.
func sortedFaults(faults []Fault) []Fault {
	slices.SortStableFunc(faults, func(a, b Fault) int { return cmp.Compare(a.File, b.File) })
	return faults
}
