package engine_test

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

func TestBuffers(t *testing.T) {
	t.Parallel()
	var b db.Buffers
	for _, size := range []int{0, 1, 5000, 1 << 20} {
		buf := b.Get(size)
		require.Empty(t, buf)
		require.GreaterOrEqual(t, cap(buf), size)
		b.Put(append(buf, bytes.Repeat([]byte("x"), size)...))
	}
	var none *db.Buffers
	none.Put(none.Get(10000))
}

// TestResultsDoNotShareMemory: a result that was not given back is never written again, whatever comes after it, and one
// that was given back is what the next one is made of at most.
func TestResultsDoNotShareMemory(t *testing.T) {
	t.Parallel()
	var buffers db.Buffers
	enc := engine.NewRowEncoder(db.RowOptions{Format: db.Arrays}, &buffers)
	encodeOnes := func(rows int, digit byte) db.ResultSet {
		enc.Reset(db.RowOptions{Format: db.Arrays})
		require.NoError(t, enc.Start([]contract.Column{{Name: "n"}}))
		for range rows {
			require.NoError(t, enc.EndRow(append(enc.Next(enc.BeginRow()), digit)))
		}
		set, err := enc.Finish()
		require.NoError(t, err)
		return set
	}
	small, large := encodeOnes(3, '1'), encodeOnes(5000, '2')
	given := encodeOnes(5000, '3')
	given.Free()
	require.Nil(t, given.Rows)
	given.Free() // a second time is harmless
	another := encodeOnes(5000, '4')
	require.Equal(t, "[[1],[1],[1]]", string(small.Rows))
	require.Equal(t, 5000, bytes.Count(large.Rows, []byte("2")))
	require.Equal(t, 5000, bytes.Count(another.Rows, []byte("4")))
}
