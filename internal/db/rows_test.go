package db_test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"dbrunner/internal/db"
)

func columns(names ...string) []db.Column {
	out := []db.Column{}
	for _, name := range names {
		out = append(out, db.Column{Name: name, Type: "int4"})
	}
	return out
}

// encode writes one statement's rows, each value its JSON text.
func encode(e *db.RowEncoder, cols []db.Column, rows ...[]string) (db.ResultSet, error) {
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
		columns         []db.Column
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
				set, err := encode(db.NewRowEncoder(db.RowOptions{Format: format}, nil), tc.columns, tc.rows...)
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
		many = append(many, db.Column{Name: strconv.Itoa(i)})
	}
	for _, cols := range [][]db.Column{columns("a", "b", "a"), append(many, db.Column{Name: "7"})} {
		_, err := encode(db.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil), cols)
		var e *db.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, db.CodeDuplicateColumn, e.Code)
		require.Equal(t, db.ClassPermanent, e.Class)
		require.Contains(t, e.Message, strconv.Quote(cols[len(cols)-1].Name))
		_, err = encode(db.NewRowEncoder(db.RowOptions{Format: db.Arrays}, nil), cols)
		require.NoError(t, err)
	}
	_, err := encode(db.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil), columns("a", "A"))
	require.NoError(t, err, "names that differ in case are two keys")
}

func TestRowEncoderCapsRowsOverAllStatements(t *testing.T) {
	t.Parallel()
	e := db.NewRowEncoder(db.RowOptions{Format: db.Arrays, MaxRows: 3}, nil)
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
	e := db.NewRowEncoder(db.RowOptions{Format: db.Objects, MaxBytes: 110}, nil)
	_, err := encode(e, columns("a"), []string{"1234567890"})
	require.NoError(t, err)
	first := e.Size()
	_, err = encode(e, columns("a"), []string{"1234567890"}, []string{"1"})
	requireTooLarge(t, err, fmt.Sprintf("the columns and the first 3 rows take %d bytes, above the limit of 110 bytes", e.Size()))
	require.Greater(t, e.Size(), 2*first, "what stands before counts, columns too")
}

func TestRowEncoderCountsTheColumnsOfAnEmptyResult(t *testing.T) {
	t.Parallel()
	e := db.NewRowEncoder(db.RowOptions{Format: db.Arrays, MaxBytes: 40}, nil)
	requireTooLarge(t, e.Start(columns("first", "second")), "the columns and the first 0 rows take ")
}

func requireTooLarge(t *testing.T, err error, message string) {
	t.Helper()
	var e *db.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, db.CodeResultTooLarge, e.Code)
	require.Equal(t, db.ClassPermanent, e.Class)
	require.Contains(t, e.Message, message)
}

func TestRowEncoderRefusesAWrongNumberOfValues(t *testing.T) {
	t.Parallel()
	_, err := encode(db.NewRowEncoder(db.RowOptions{Format: db.Arrays}, nil), columns("a", "b"), []string{"1"})
	require.EqualError(t, err, "row encoder: 1 values for 2 columns")
}

// Whatever the sizes, the rows are what encoding/json would read back, and no statement's rows are touched by
// what comes after them: neither by later statements nor by later calls of the same encoder.
func TestRowEncoderKeepsWhatItGaveOut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := db.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil)
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
						string(db.AppendJSONString(nil, a)), string(db.AppendJSONString(nil, []byte(b))),
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
	e := db.NewRowEncoder(db.RowOptions{Format: db.Objects, MaxRows: 1000}, nil)
	if err := e.Start([]db.Column{{Name: "id", Type: "int4"}, {Name: "name", Type: "text"}}); err != nil {
		fmt.Println(err)
		return
	}
	for i, name := range []string{"Ada", `"Grace"`} {
		dst := e.BeginRow()
		dst = strconv.AppendInt(e.Next(dst), int64(i), 10)
		dst = db.AppendJSONString(e.Next(dst), name)
		if err := e.EndRow(dst); err != nil {
			fmt.Println(err)
			return
		}
	}
	set, err := e.Finish()
	fmt.Println(string(set.Rows), err)
	// Output: [{"id":0,"name":"Ada"},{"id":1,"name":"\"Grace\""}] <nil>
}
