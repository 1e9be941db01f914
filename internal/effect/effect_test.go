package effect_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/effect"
	"dbrunner/internal/jsontext"
)

// statement is what one statement did.
type statement struct {
	affected int64
	columns  []contract.Column // nil: it returned no rows
	rows     [][]string        // JSON texts
	more     []statement
}

// drawn draws what the statements of a transaction did.
func drawn(depth int) *rapid.Generator[statement] {
	return rapid.Custom(func(t *rapid.T) statement {
		s := statement{affected: rapid.Int64Range(0, 3).Draw(t, "affected")}
		if rapid.Bool().Draw(t, "returns rows") {
			s.columns = []contract.Column{}
			for i := range rapid.IntRange(0, 3).Draw(t, "columns") {
				s.columns = append(s.columns, contract.Column{
					Name: rapid.SampledFrom([]string{"a", "b\"", "ä", ""}).Draw(t, "name") + strconv.Itoa(i), Type: rapid.SampledFrom([]string{"int4", "text", "jsonb"}).Draw(t, "type"),
				})
			}
			for range rapid.IntRange(0, 4).Draw(t, "rows") {
				row := make([]string, len(s.columns))
				for i := range row {
					row[i] = rapid.SampledFrom([]string{"null", `"null"`, "1", `"1"`, "true", `"[1,2]"`, "[1,2]", `"a,b"`, `{"a":1}`, `""`, `"é\""`}).Draw(t, "value")
				}
				s.rows = append(s.rows, row)
			}
			s.affected = int64(len(s.rows))
		}
		if depth > 0 {
			s.more = rapid.SliceOfN(drawn(depth-1), 0, 2).Draw(t, "more")
		}
		return s
	})
}

// encoded encodes a statement as an engine does.
func (s *statement) encoded(t require.TestingT, format db.RowFormat) db.ResultSet {
	set := db.ResultSet{RowsAffected: s.affected}
	if s.columns != nil {
		e := engine.NewRowEncoder(db.RowOptions{Format: format, Digest: true, Keep: 2}, nil)
		require.NoError(t, e.Start(s.columns))
		for _, row := range s.rows {
			dst := e.BeginRow()
			for _, v := range row {
				dst = append(e.Next(dst), v...)
			}
			require.NoError(t, e.EndRow(dst))
		}
		var err error
		set, err = e.Finish()
		require.NoError(t, err)
	}
	for i := range s.more {
		set.More = append(set.More, s.more[i].encoded(t, format))
	}
	return set
}

func digest(t require.TestingT, request, revision string, format db.RowFormat, statements []statement) string {
	var sets []db.ResultSet
	for i := range statements {
		sets = append(sets, statements[i].encoded(t, format))
	}
	return effect.Digest([]byte(request), revision, sets)
}

// text is an injective form of what has to be the same for one digest: rows in order.
func text(statements []statement) string {
	var out string
	for i := range statements {
		s := &statements[i]
		rows := make([]string, len(s.rows))
		for i := range s.rows {
			rows[i] = fmt.Sprintf("%q", s.rows[i])
		}
		slices.Sort(rows)
		out += fmt.Sprintf("(%d %v %#v %q %s)", s.affected, s.columns == nil, s.columns, rows, text(s.more))
	}
	return out
}

// Promise: two effects have one digest exactly if text, revision, counts, columns and rows are the same; the order and the format of
// rows make no difference.
func TestDigest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(drawn(1), 0, 3)
		one, other := list.Draw(t, "one"), list.Draw(t, "other")
		if rapid.Bool().Draw(t, "shuffled") && len(one) > 0 {
			other = slices.Clone(one)
			i := rapid.IntRange(0, len(one)-1).Draw(t, "statement")
			other[i].rows = rapid.Permutation(one[i].rows).Draw(t, "order")
		}
		words := rapid.SampledFrom([]string{"", "a", "ab"})
		request, again := words.Draw(t, "request"), words.Draw(t, "request again")
		revision, later := words.Draw(t, "revision"), words.Draw(t, "revision later")
		first := digest(t, request, revision, db.Objects, one)
		require.True(t, effect.ValidDigest(first))
		require.Equal(t, first, digest(t, request, revision, db.Arrays, one))
		same := request == again && revision == later && text(one) == text(other)
		require.Equal(t, same, first == digest(t, again, later, db.Objects, other), "%s\n%s", text(one), text(other))
	})
}

// Promise: each single change of what an effect consists of changes its digest, in whatever order the rows of both come.
func TestDigestOfOneChange(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		before := rapid.SliceOfN(drawn(1), 1, 3).Draw(t, "effect")
		at, place := rapid.IntRange(0, len(before)-1).Draw(t, "statement"), rapid.IntRange(0, 99).Draw(t, "place")
		want := digest(t, "text", "revision", db.Objects, before)
		for i := 0; ; i++ {
			changed := &changing{request: "text", revision: "revision", list: copied(before)}
			all := changed.changes(at, place)
			if i == len(all) {
				break
			}
			all[i]()
			require.NotEqual(t, want, digest(t, changed.request, changed.revision, db.Objects, changed.list), "change %d: %s\n%s", i, text(before), text(changed.list))
		}
		for i := range before {
			before[i].rows = rapid.Permutation(before[i].rows).Draw(t, "order")
		}
		require.Equal(t, want, digest(t, "text", "revision", db.Objects, before))
	})
}

// changing is an effect that is about to change.
type changing struct {
	request, revision string
	list              []statement
}

// changes are all changes of the effect that there are, those of a statement at one place of it.
func (c *changing) changes(at, place int) []func() {
	s := &c.list[at]
	out := []func(){
		func() { c.request = "texu" }, func() { c.request += "\x00" }, func() { c.revision = "" },
		func() { c.list = append(c.list, statement{}) }, func() { c.list = slices.Delete(c.list, at, at+1) }, func() { s.more = append(s.more, statement{}) },
	}
	if s.columns == nil {
		return append(out, func() { s.affected++ }, func() { s.columns = []contract.Column{} })
	}
	out = append(out, func() { s.columns = append(s.columns, contract.Column{Name: "more", Type: "text"}); s.rows = nil })
	if len(s.columns) == 0 {
		return append(out, func() { s.rows = append(s.rows, nil) })
	}
	column := place % len(s.columns)
	out = append(out, func() { s.columns[column].Name += "x" }, func() { s.columns[column].Type += "x" })
	if len(s.rows) == 0 {
		return out
	}
	row := place % len(s.rows)
	value := &s.rows[row][column]
	return append(out, func() { *value = `"` + strings.Trim(*value, `"`) + `x"` }, func() { *value = "[" + *value + "]" },
		func() { s.rows = slices.Delete(s.rows, row, row+1) }, func() { s.rows = append(s.rows, s.rows[row]) })
}

func copied(list []statement) []statement {
	out := slices.Clone(list)
	for i := range out {
		s := &out[i]
		s.columns, s.rows, s.more = slices.Clone(s.columns), slices.Clone(s.rows), copied(s.more)
		for j := range s.rows {
			s.rows[j] = slices.Clone(s.rows[j])
		}
	}
	return out
}

// Promise: whatever is changed in an effect changes its digest.
func TestDigestOfAChange(t *testing.T) {
	t.Parallel()
	base := func() []statement {
		return []statement{
			{affected: 2},
			{affected: 2, columns: []contract.Column{{Name: "a", Type: "int4"}, {Name: "b", Type: "text"}}, rows: [][]string{{"1", `"x"`}, {"2", "null"}}},
			{affected: 1, more: []statement{{affected: 3}}},
		}
	}
	want := digest(t, "hash", "revision", db.Objects, base())
	require.Equal(t, "sha256:c90d26e01bddbabc272256ace72cf01da31431f969fc094b8e3c482dc6a436d6", want, "the encoding is part of the contract: approvals outlive a runner's release")
	for name, change := range map[string]func(s []statement) []statement{
		"a count":                 func(s []statement) []statement { s[0].affected = 3; return s },
		"a value":                 func(s []statement) []statement { s[1].rows[0][1] = `"y"`; return s },
		"NULL to the text null":   func(s []statement) []statement { s[1].rows[1][1] = `"null"`; return s },
		"a row less":              func(s []statement) []statement { s[1].rows = s[1].rows[:1]; return s },
		"a row twice":             func(s []statement) []statement { s[1].rows = append(s[1].rows, s[1].rows[0]); return s },
		"values swapped":          func(s []statement) []statement { s[1].rows[0][0], s[1].rows[1][0] = "2", "1"; return s },
		"a column's name":         func(s []statement) []statement { s[1].columns[0].Name = "c"; return s },
		"a column's type":         func(s []statement) []statement { s[1].columns[0].Type = "int8"; return s },
		"a further answer":        func(s []statement) []statement { s[2].more[0].affected = 4; return s },
		"a further answer less":   func(s []statement) []statement { s[2].more = nil; return s },
		"a statement less":        func(s []statement) []statement { return s[:2] },
		"the order of statements": func(s []statement) []statement { s[0], s[2] = s[2], s[0]; return s },
	} {
		require.NotEqual(t, want, digest(t, "hash", "revision", db.Objects, change(base())), name)
	}
	require.NotEqual(t, want, digest(t, "other", "revision", db.Objects, base()))
	require.NotEqual(t, want, digest(t, "hash", "other", db.Objects, base()))
	ordered := base()
	slices.Reverse(ordered[1].rows)
	require.Equal(t, want, digest(t, "hash", "revision", db.Objects, ordered))
}

// stored is the result of a dry run.
func stored(change func(r *contract.Result)) []byte {
	r := contract.Result{
		JobID: "a", Kind: "dry_run", Database: "shop", Status: contract.Succeeded, Sequence: 1,
		Answer: contract.Answer{EffectDigest: "sha256:1", Request: []byte(`{"statements":[{"sql":"SELECT 1"}]}`)},
	}
	change(&r)
	return r.Append(nil)
}

// Promise: only the result of a dry run of the same subject, which has succeeded and has the digest, is approved.
func TestFind(t *testing.T) {
	t.Parallel()
	raw := effect.Approval{DryRun: "a", Digest: "sha256:1"}
	named := effect.Approval{DryRun: "a", Digest: "sha256:1", Call: "pay"}
	ofCall := func(r *contract.Result) { r.Call = &contract.Call{Name: "pay"} }
	for _, c := range []struct {
		approval effect.Approval
		stored   []byte
		problem  string
	}{
		{raw, stored(func(*contract.Result) {}), ""},
		{named, stored(ofCall), ""},
		{raw, nil, "no result is stored under a"},
		{raw, []byte("{"), "cannot be read"},
		{raw, stored(func(r *contract.Result) { r.Kind = "transaction" }), "a job of kind transaction"},
		{raw, stored(func(r *contract.Result) { r.Status = contract.Failed }), "its status is failed"},
		{raw, stored(ofCall), "publish its approval to approve.pay"},
		{named, stored(func(*contract.Result) {}), "to approve, without a name"},
		{named, stored(func(r *contract.Result) { r.Call = &contract.Call{Name: "refund"} }), "to approve.refund"},
		{raw, stored(func(r *contract.Result) { r.EffectDigest = "sha256:2" }), "another digest"},
	} {
		found, problem := c.approval.Find(c.stored)
		if c.problem == "" {
			require.Empty(t, problem)
			require.NotNil(t, found)
			continue
		}
		require.Nil(t, found)
		require.Contains(t, problem, c.problem)
		require.NotContains(t, problem, "sha256:2", "the digest is not shown")
	}
}

// Promise: an effect that has changed is reported by its counts, without a digest.
func TestChanged(t *testing.T) {
	t.Parallel()
	two, three := int64(2), int64(3)
	before := []contract.Set{{RowsAffected: &two}, {RowsAffected: &three, RowCount: 3}}
	require.Contains(t, effect.Changed(before, []db.ResultSet{{RowsAffected: 5}, {RowsAffected: 3, RowCount: 3}}).Message, "statements[0] affected 5 rows, and 2 in the dry run")
	require.Contains(t, effect.Changed(before, []db.ResultSet{{RowsAffected: 2}, {RowsAffected: 4, RowCount: 4}}).Message, "statements[1] affected 4 rows, and 3 in the dry run")
	same := effect.Changed(before, []db.ResultSet{{RowsAffected: 2}, {RowsAffected: 3, RowCount: 3}})
	require.Contains(t, same.Message, "as many rows as in the dry run, but others")
	require.Equal(t, contract.CodeEffectChanged, same.Code)
	require.NotContains(t, same.Message, "sha256")
}

// mostPerRow is what the digest of a row may cost above its encoding.
const mostPerRow = 3 * time.Microsecond

// BenchmarkDigest measures what the digest of 10,000 rows costs besides their encoding, and fails if that is too much.
func BenchmarkDigest(b *testing.B) {
	columns := []contract.Column{{Name: "id", Type: "int8"}, {Name: "owner", Type: "text"}, {Name: "balance", Type: "numeric"}, {Name: "changed_at", Type: "timestamptz"}}
	values := make([][][]byte, effect.MaxRows)
	for i := range values {
		values[i] = [][]byte{
			jsontext.AppendString(nil, strconv.Itoa(i*7919)), jsontext.AppendString(nil, "owner "+strconv.Itoa(i)), []byte(`"12.50"`), []byte(`"2026-03-01T12:00:00.123456Z"`),
		}
	}
	for _, format := range []db.RowFormat{db.Objects, db.Arrays} {
		var perRow [2]float64 // without and with the digest
		for i, digested := range []bool{false, true} {
			b.Run(fmt.Sprintf("format=%d/digest=%t", format, digested), func(b *testing.B) {
				e := engine.NewRowEncoder(db.RowOptions{}, nil)
				for b.Loop() {
					e.Reset(db.RowOptions{Format: format, Digest: digested, Keep: 100})
					if err := e.Start(columns); err != nil {
						b.Fatal(err)
					}
					for _, row := range values {
						dst := e.BeginRow()
						for _, v := range row {
							dst = append(e.Next(dst), v...)
						}
						if err := e.EndRow(dst); err != nil {
							b.Fatal(err)
						}
					}
					set, err := e.Finish()
					if err != nil {
						b.Fatal(err)
					}
					if digested {
						effect.Digest(nil, "", []db.ResultSet{set})
					}
				}
				perRow[i] = float64(b.Elapsed().Nanoseconds()) / float64(b.N) / effect.MaxRows
				b.ReportMetric(perRow[i], "ns/row")
			})
		}
		if above := perRow[1] - perRow[0]; above > float64(mostPerRow) {
			b.Errorf("format %d: the digest of a row costs %.0f ns above its encoding", format, above)
		}
	}
}
