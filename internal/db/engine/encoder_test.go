package engine_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
	"dbrunner/internal/jsontext"
)

func columns(names ...string) []contract.Column {
	out := []contract.Column{}
	for _, name := range names {
		out = append(out, contract.Column{Name: name, Type: "int4"})
	}
	return out
}

// encode writes one statement's rows, each value its JSON text.
func encode(e *engine.RowEncoder, cols []contract.Column, rows ...[]string) (db.ResultSet, error) {
	if err := e.Start(cols); err != nil {
		return db.ResultSet{}, err
	}
	for _, row := range rows {
		dst := e.BeginRow()
		for _, v := range row {
			dst = append(e.Next(dst), v...)
		}
		if err := e.EndRow(dst); err != nil {
			return db.ResultSet{}, err
		}
	}
	return e.Finish()
}

func TestRowEncoder(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name            string
		columns         []contract.Column
		rows            [][]string
		objects, arrays string
	}{
		{"no rows", columns("a"), nil, `[]`, `[]`},
		{"one", columns("a"), [][]string{{"1"}}, `[{"a":1}]`, `[[1]]`},
		{
			"several", columns("a", "b"),
			[][]string{{"1", `"x"`}, {"null", "{}"}},
			`[{"a":1,"b":"x"},{"a":null,"b":{}}]`, `[[1,"x"],[null,{}]]`,
		},
		{"no columns", nil, [][]string{{}, {}}, `[{},{}]`, `[[],[]]`},
		{
			"names to escape", columns("a\"\n", "ä", "?column?"),
			[][]string{{"1", "2", "3"}},
			`[{"a\"\n":1,"ä":2,"?column?":3}]`, `[[1,2,3]]`,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for format, want := range map[db.RowFormat]string{db.Objects: tc.objects, db.Arrays: tc.arrays} {
				set, err := encode(engine.NewRowEncoder(db.RowOptions{Format: format}, nil), tc.columns, tc.rows...)
				require.NoError(t, err)
				require.Equal(t, want, string(set.Rows))
				require.NotNil(t, set.Columns)
				require.Len(t, set.Columns, len(tc.columns))
				require.EqualValues(t, len(tc.rows), set.RowCount)
				require.EqualValues(t, len(tc.rows), set.RowsAffected)
			}
		})
	}
}

func TestRowEncoderRefusesDuplicateNames(t *testing.T) {
	t.Parallel()
	many := columns()
	for i := range 40 {
		many = append(many, contract.Column{Name: strconv.Itoa(i)})
	}
	for _, cols := range [][]contract.Column{columns("a", "b", "a"), append(many, contract.Column{Name: "7"})} {
		_, err := encode(engine.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil), cols)
		var e *db.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, contract.CodeDuplicateColumn, e.Code)
		require.Equal(t, db.ClassPermanent, e.Class)
		require.Contains(t, e.Message, strconv.Quote(cols[len(cols)-1].Name))
		_, err = encode(engine.NewRowEncoder(db.RowOptions{Format: db.Arrays}, nil), cols)
		require.NoError(t, err)
	}
	_, err := encode(engine.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil), columns("a", "A"))
	require.NoError(t, err, "names that differ in case are two keys")
}

func TestRowEncoderCapsRowsOverAllStatements(t *testing.T) {
	t.Parallel()
	e := engine.NewRowEncoder(db.RowOptions{Format: db.Arrays, MaxRows: 3}, nil)
	_, err := encode(e, columns("a"), []string{"1"}, []string{"2"})
	require.NoError(t, err)
	_, err = encode(e, columns("a"), []string{"3"})
	require.NoError(t, err)
	_, err = encode(e, columns("a"), []string{"4"})
	requireTooLarge(t, err, "more than 3 rows")

	e.Reset(db.RowOptions{Format: db.Arrays, MaxRows: 1})
	_, err = encode(e, columns("a"), []string{"1"})
	require.NoError(t, err, "another call has its own rows")
}

func TestRowEncoderCapsBytesOverAllStatements(t *testing.T) {
	t.Parallel()
	e := engine.NewRowEncoder(db.RowOptions{Format: db.Objects, MaxBytes: 110}, nil)
	_, err := encode(e, columns("a"), []string{"1234567890"})
	require.NoError(t, err)
	first := e.Size()
	_, err = encode(e, columns("a"), []string{"1234567890"}, []string{"1"})
	requireTooLarge(t, err, fmt.Sprintf("the columns and the first 3 rows take %d bytes, above the limit of 110 bytes", e.Size()))
	require.Greater(t, e.Size(), 2*first, "what stands before counts, columns too")
}

func TestRowEncoderCountsTheColumnsOfAnEmptyResult(t *testing.T) {
	t.Parallel()
	e := engine.NewRowEncoder(db.RowOptions{Format: db.Arrays, MaxBytes: 40}, nil)
	requireTooLarge(t, e.Start(columns("first", "second")), "the columns and the first 0 rows take ")
}

func requireTooLarge(t *testing.T, err error, message string) {
	t.Helper()
	var e *db.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, contract.CodeResultTooLarge, e.Code)
	require.Equal(t, db.ClassPermanent, e.Class)
	require.Contains(t, e.Message, message)
}

func TestRowEncoderRefusesAWrongNumberOfValues(t *testing.T) {
	t.Parallel()
	_, err := encode(engine.NewRowEncoder(db.RowOptions{Format: db.Arrays}, nil), columns("a", "b"), []string{"1"})
	require.EqualError(t, err, "row encoder: 1 values for 2 columns")
}

// Whatever the sizes, the rows are what encoding/json would read back, and no statement's rows are touched by
// what comes after them: neither by later statements nor by later calls of the same encoder.
func TestRowEncoderKeepsWhatItGaveOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := engine.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil)
		var sets []db.ResultSet
		var want [][]map[string]string
		for range rapid.IntRange(1, 5).Draw(t, "calls") {
			for range rapid.IntRange(0, 3).Draw(t, "statements") {
				rows := []map[string]string{}
				var texts [][]string
				for range rapid.IntRange(0, 20).Draw(t, "rows") {
					a := rapid.String().Draw(t, "a")
					b := strings.Repeat("x", rapid.IntRange(0, 3000).Draw(t, "b"))
					rows = append(rows, map[string]string{"a": a, "b": b})
					texts = append(texts, []string{
						string(jsontext.AppendString(nil, a)), string(jsontext.AppendString(nil, []byte(b))),
					})
				}
				set, err := encode(e, columns("a", "b"), texts...)
				require.NoError(t, err)
				sets, want = append(sets, set), append(want, rows)
			}
			e.Reset(db.RowOptions{Format: db.Objects})
		}
		for i, set := range sets {
			var got []map[string]string
			require.NoError(t, json.Unmarshal(set.Rows, &got))
			require.Equal(t, want[i], got)
		}
	})
}

func ExampleRowEncoder() {
	e := engine.NewRowEncoder(db.RowOptions{Format: db.Objects, MaxRows: 1000}, nil)
	if err := e.Start([]contract.Column{{Name: "id", Type: "int4"}, {Name: "name", Type: "text"}}); err != nil {
		fmt.Println(err)
		return
	}
	for i, name := range []string{"Ada", `"Grace"`} {
		dst := e.BeginRow()
		dst = strconv.AppendInt(e.Next(dst), int64(i), 10)
		dst = jsontext.AppendString(e.Next(dst), name)
		if err := e.EndRow(dst); err != nil {
			fmt.Println(err)
			return
		}
	}
	set, err := e.Finish()
	fmt.Println(string(set.Rows), err)
	// Output: [{"id":0,"name":"Ada"},{"id":1,"name":"\"Grace\""}] <nil>
}

// heap is an Overflow in memory.
type heap struct {
	arrays bool
	opened []*heapFile
	fail   error // of every call behind Open
	refuse error // of Open
}

type heapFile struct {
	heap    *heap
	set     int
	columns []contract.Column
	rows    []string
	closed  bool
}

func (h *heap) Open(set int, columns []contract.Column) (db.RowFile, error) {
	f := &heapFile{heap: h, set: set, columns: columns}
	h.opened = append(h.opened, f)
	return f, h.refuse
}

func (f *heapFile) AsArrays() bool { return f.heap.arrays }

func (f *heapFile) Row(text []byte) error {
	f.rows = append(f.rows, string(text))
	return f.heap.fail
}

func (f *heapFile) Close() (*contract.RowsObject, error) {
	f.closed = true
	return &contract.RowsObject{Name: fmt.Sprint(f.set), RowCount: int64(len(f.rows))}, f.heap.fail
}

// decoded are rows as values, whether they are objects or arrays.
func decoded(t require.TestingT, columns []contract.Column, texts []string) (rows [][]any) {
	for _, text := range texts {
		var row []any
		if text[0] == '[' {
			require.NoError(t, json.Unmarshal([]byte(text), &row))
		} else {
			var object map[string]any
			require.NoError(t, json.Unmarshal([]byte(text), &object))
			for _, c := range columns {
				row = append(row, object[c.Name])
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// TestRowsOverflow: whatever the limit, all rows of all sets are there, in their order, in memory or in files, and what is
// in memory is within the limit.
func TestRowsOverflow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		cols := columns("id", "text")
		sets := rapid.SliceOfN(rapid.SliceOfN(rapid.StringN(0, 40, 200), 0, 30), 1, 4).Draw(rt, "sets")
		limit := int64(rapid.IntRange(0, 6000).Draw(rt, "limit")) + int64(len(sets))*200
		over := &heap{arrays: rapid.Bool().Draw(rt, "arrays")}
		var buffers db.Buffers
		e := engine.NewRowEncoder(db.RowOptions{
			Format: rapid.SampledFrom([]db.RowFormat{db.Objects, db.Arrays}).Draw(rt, "format"), InlineBytes: limit, Overflow: over, Sets: len(sets),
			AlwaysOverflow: rapid.Bool().Draw(rt, "outside"),
		}, &buffers)
		inline, next := 0, 0
		for i, texts := range sets {
			var rows [][]string
			for id, text := range texts {
				rows = append(rows, []string{strconv.Itoa(id), string(jsontext.AppendString(nil, text))})
			}
			set, err := encode(e, cols, rows...)
			require.NoError(rt, err)
			require.EqualValues(rt, len(texts), set.RowCount)
			var got []string
			if set.Object != nil {
				require.Nil(rt, set.Rows)
				file := over.opened[next]
				next++
				require.True(rt, file.closed)
				require.Equal(rt, []any{i, set.RowCount}, []any{file.set, set.Object.RowCount})
				got = file.rows
			} else {
				inline += len(set.Rows)
				var raw []json.RawMessage
				require.NoError(rt, json.Unmarshal(set.Rows, &raw))
				for _, r := range raw {
					got = append(got, string(r))
				}
			}
			for id, row := range decoded(rt, cols, got) {
				require.Equal(rt, []any{float64(id), texts[id]}, row)
			}
			require.Len(rt, got, len(texts))
		}
		require.Len(rt, over.opened, next)
		require.LessOrEqual(rt, int64(inline), limit)
	})
}

func TestOverflowIsBounded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		opts db.RowOptions
		says string
	}{
		{"rows", db.RowOptions{MaxRows: 50}, "more than 50 rows"},
		{"bytes", db.RowOptions{MaxBytes: 2000}, "limit of 2000 bytes"},
		{"the store", db.RowOptions{Overflow: &heap{fail: errors.New("no room")}}, "no room"},
	} {
		opts := tc.opts
		opts.Format, opts.InlineBytes = db.Arrays, 300
		if opts.Overflow == nil {
			opts.Overflow = &heap{}
		}
		rows := make([][]string, 500)
		for i := range rows {
			rows[i] = []string{strconv.Itoa(i)}
		}
		_, err := encode(engine.NewRowEncoder(opts, nil), columns("n"), rows...)
		require.ErrorContains(t, err, tc.says, tc.name)
	}
	_, err := encode(engine.NewRowEncoder(db.RowOptions{InlineBytes: 100, Overflow: &heap{}}, nil), columns(strings.Repeat("long", 20)))
	require.ErrorContains(t, err, "the columns alone")
	closing := &heap{fail: errors.New("lost")}
	_, err = encode(engine.NewRowEncoder(db.RowOptions{Overflow: closing, AlwaysOverflow: true, InlineBytes: 100}, nil), columns("n"))
	require.ErrorContains(t, err, "lost", "an error of Close is the set's")

	// Two columns of one name are no matter where no row is an object.
	over := &heap{arrays: true}
	set, err := encode(engine.NewRowEncoder(db.RowOptions{Format: db.Objects, Overflow: over, AlwaysOverflow: true, InlineBytes: 200}, nil), columns("a", "a"), []string{"1", "2"})
	require.NoError(t, err)
	require.NotNil(t, set.Object)
	require.Equal(t, []string{"[1,2]"}, over.opened[0].rows)
}

// TestOverflowFails: an error of the place is the call's, wherever it happens, and nothing more is written there.
func TestOverflowFails(t *testing.T) {
	t.Parallel()
	lost := errors.New("lost")
	for name, tc := range map[string]struct {
		over    heap
		outside bool
		inline  int64
		rows    int
		written int
	}{
		"open in the middle":     {heap{refuse: lost}, false, 300, 500, 0},
		"open immediately":       {heap{refuse: lost}, true, 300, 500, 0},
		"row from memory":        {heap{fail: lost}, false, 300, 500, 1},
		"row immediately":        {heap{fail: lost}, true, 300, 500, 1},
		"close of what is empty": {heap{fail: lost}, true, 300, 0, 0},
	} {
		rows := make([][]string, tc.rows)
		for i := range rows {
			rows[i] = []string{strconv.Itoa(i)}
		}
		opts := db.RowOptions{Format: db.Arrays, InlineBytes: tc.inline, Overflow: &tc.over, AlwaysOverflow: tc.outside}
		set, err := encode(engine.NewRowEncoder(opts, nil), columns("n"), rows...)
		require.ErrorIs(t, err, lost, name)
		require.Equal(t, db.ResultSet{}, set, name)
		require.Len(t, tc.over.opened, 1, name)
		require.Len(t, tc.over.opened[0].rows, tc.written, name)
	}
}

// A repeated call starts with the first set, and nothing of the call before it is in what it writes.
func TestOverflowAgain(t *testing.T) {
	t.Parallel()
	over := &heap{}
	opts := db.RowOptions{Format: db.Arrays, InlineBytes: 200, Overflow: over, MaxRows: 150}
	var buffers db.Buffers
	e := engine.NewRowEncoder(opts, &buffers)
	for range 3 {
		over.opened = nil
		for set := range 2 {
			rows := make([][]string, 60)
			for i := range rows {
				rows[i] = []string{strconv.Itoa(100*set + i)}
			}
			_, err := encode(e, columns("n"), rows...)
			require.NoError(t, err)
			file := over.opened[set]
			require.Equal(t, set, file.set)
			require.Len(t, file.rows, len(rows))
			for i := range rows {
				require.Equal(t, "["+rows[i][0]+"]", file.rows[i])
			}
		}
		require.NoError(t, e.Start(columns("n"))) // the third set is given up in its middle
		require.NoError(t, e.EndRow(append(e.Next(e.BeginRow()), '1')))
		e.Reset(opts)
	}
}

// The encoder holds one row at a time, however many go to a file.
func TestOverflowKeepsNothing(t *testing.T) { //nolint:paralleltest // allocations are counted
	var buffers db.Buffers
	e := engine.NewRowEncoder(db.RowOptions{Format: db.Arrays, InlineBytes: 1 << 20, Overflow: discarding{}}, &buffers)
	require.NoError(t, e.Start(columns("text")))
	text := `"` + strings.Repeat("x", 1000) + `"`
	for range 3000 {
		require.NoError(t, e.EndRow(append(e.Next(e.BeginRow()), text...)))
	}
	allocated := testing.AllocsPerRun(5000, func() {
		if e.EndRow(append(e.Next(e.BeginRow()), text...)) != nil {
			t.Fail()
		}
	})
	require.Zero(t, allocated)
	require.Less(t, cap(e.BeginRow()), 4<<10)
}

type discarding struct{}

func (discarding) Open(int, []contract.Column) (db.RowFile, error) { return discarding{}, nil }
func (discarding) AsArrays() bool                                  { return true }
func (discarding) Row([]byte) error                                { return nil }
func (discarding) Close() (*contract.RowsObject, error)            { return &contract.RowsObject{}, nil }
