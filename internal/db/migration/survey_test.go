package migration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

// bare is an engine of which nothing leaves traces but REINDEX.
type bare struct{ Engine }

func (bare) Dialect() *dialect.Dialect {
	return &dialect.Dialect{PartialEffects: func(words []string) string {
		if words[0] == "REINDEX" {
			return "half an index"
		}
		return ""
	}}
}

func version(n int64) Version { return parts{n}.plain() }

// three is a folder of versions 1 to 3, of which the third is one of three statements.
func three() *Folder {
	f := &Folder{}
	for n := range int64(3) {
		v := version(n + 1)
		f.Files = append(f.Files, &File{Version: v, Name: "V" + v.Label + "__x.sql", SHA256: "sum" + v.Label, Parts: []dialect.Part{
			{Line: 1, Words: []string{"CREATE", "TABLE", "SECRET"}}, {Line: 4, Words: []string{"REINDEX", "SECRET"}}, {Line: 9, Words: []string{"SELECT"}},
		}})
	}
	return f
}

func ran(n int64, dir direction, state recordState) record {
	v := version(n)
	return record{version: v, file: "V" + v.Label + "__x.sql", dir: dir, sha256: "sum" + v.Label, mode: modeWhole, state: state, statements: 3}
}

func stepwiseRecord(n int64, state recordState, statement int) record {
	r := ran(n, up, state)
	r.mode, r.statement = modeStepwise, statement
	return r
}

// TestInterrupted is the table of what an interrupted migration can have left, and whether the next one goes on from it.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	before := []record{ran(1, up, done), ran(2, up, done)}
	for name, c := range map[string]struct {
		stored  int64
		dirty   bool
		last    *record
		nothing bool   // there is no interruption
		mends   bool   // the next one goes on
		says    string // part of the words
	}{
		"nothing":                            {stored: 2, nothing: true},
		"failed and cleared":                 {stored: 2, last: ptr(ran(3, up, failed)), nothing: true},
		"noted only":                         {stored: 2, last: ptr(ran(3, up, running)), mends: true, says: "nothing of it is applied"},
		"started in a transaction":           {stored: 3, dirty: true, last: ptr(ran(3, up, running)), mends: true, says: "nothing of it is applied"},
		"committed":                          {stored: 3, dirty: true, last: ptr(ran(3, up, done)), mends: true, says: "finished, but the version is still marked dirty"},
		"failed, not cleared":                {stored: 3, dirty: true, last: ptr(ran(3, up, failed)), mends: true, says: "nothing of it is applied"},
		"reverting in a transaction":         {stored: 1, dirty: true, last: ptr(ran(2, down, running)), mends: true, says: "nothing of it is applied"},
		"reverted":                           {stored: 1, dirty: true, last: ptr(ran(2, down, done)), mends: true, says: "finished, but the version is still marked dirty"},
		"stepwise, not started":              {stored: 3, dirty: true, last: ptr(stepwiseRecord(3, running, 0)), mends: true, says: "nothing of it is applied"},
		"stepwise, in its first statement":   {stored: 3, dirty: true, last: ptr(stepwiseRecord(3, running, 1)), says: "statement 1 (line 1: CREATE TABLE) may have taken effect"},
		"stepwise, in its second statement":  {stored: 3, dirty: true, last: ptr(stepwiseRecord(3, running, 2)), says: "statement 1 is applied, statement 2 (line 4: REINDEX) may have taken effect; it may have left half an index"},
		"stepwise, failed":                   {stored: 3, dirty: true, last: ptr(stepwiseRecord(3, failed, 3)), says: "statements 1 to 2 are applied, statement 3 (line 9: SELECT) failed"},
		"stepwise, done":                     {stored: 3, dirty: true, last: ptr(stepwiseRecord(3, done, 3)), mends: true, says: "finished, but the version is still marked dirty"},
		"by another tool":                    {stored: 7, dirty: true, says: "version 7 is marked dirty by another tool"},
		"by another tool, after one of ours": {stored: 7, dirty: true, last: ptr(ran(3, up, running)), says: "marked dirty by another tool"},
		"while versions were declared":       {stored: 2, dirty: true, last: ptr(ran(2, adopt, done)), says: "marked dirty by another tool"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			history := before
			if c.last != nil {
				history = append(append([]record{}, before...), *c.last)
			}
			left := newSurvey(bare{}, three(), &databaseState{stored: c.stored, dirty: c.dirty, history: history}).interrupted()
			if c.nothing {
				require.Nil(t, left)
				return
			}
			require.NotNil(t, left)
			require.Equal(t, c.mends, left.mends)
			require.Contains(t, left.words, c.says)
			require.NotContains(t, left.words, "SECRET", "no name and no value of a file is shown")
		})
	}
}

func ptr[T any](v T) *T { return &v }

// TestInterruptedFileWasChanged: lines are reported only for the text that ran.
func TestInterruptedFileWasChanged(t *testing.T) {
	t.Parallel()
	f := three()
	f.Files[2].SHA256 = "another"
	left := newSurvey(bare{}, f, &databaseState{stored: 3, dirty: true, history: []record{
		ran(1, up, done), ran(2, up, done), stepwiseRecord(3, running, 2),
	}}).interrupted()
	require.Contains(t, left.words, "statement 2 may have taken effect, the others were not started")
}

// TestVersionOfOthers: a version that another tool has set is detected, one that only got another number is not.
func TestVersionOfOthers(t *testing.T) {
	t.Parallel()
	history := []record{ran(1, up, done), ran(2, up, done)}
	faults := func(stored int64, f *Folder) []Fault {
		return newSurvey(bare{}, f, &databaseState{stored: stored, history: history}).faults(false)
	}
	require.Empty(t, faults(2, three()))
	require.Equal(t, FaultVersion, faults(3, three())[0].Code)
	require.Equal(t, FaultVersion, faults(-1, three())[0].Code)
	dotted := three()
	for _, file := range dotted.Files {
		p, err := parseParts(file.Version.Label, ".")
		require.NoError(t, err)
		file.Version, err = p.dotted()
		require.NoError(t, err)
	}
	require.Empty(t, faults(2, dotted), "as it was stored before the folder had dotted versions")
	require.Empty(t, faults(2_000_000_000_000, dotted))
}

func TestSteps(t *testing.T) {
	t.Parallel()
	s := newSurvey(bare{}, three(), &databaseState{stored: 3, history: []record{ran(1, up, done), ran(3, up, done)}})
	ups := s.upSteps(version(3))
	require.Len(t, ups, 1)
	require.Equal(t, [2]Version{version(3), version(3)}, [2]Version{ups[0].before, ups[0].after}, "out of order the version stays")
	_, faults := s.downSteps(version(1))
	require.Equal(t, FaultNoDown, faults[0].Code)
	require.Contains(t, faults[0].Message, "U3__x.sql")
	s.folder.Files[2].down = &File{}
	downs, faults := s.downSteps(version(2))
	require.Empty(t, faults)
	require.Equal(t, [2]Version{version(3), version(1)}, [2]Version{downs[0].before, downs[0].after})
}
