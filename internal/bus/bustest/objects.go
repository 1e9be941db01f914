package bustest

import (
	"io"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus/objects"
)

// Content returns bytes that are the same in each call and do not compress.
func Content(size int) []byte {
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data) // never fails
	return data
}

// WriteObject writes an object in two pieces.
func WriteObject(t *testing.T, b *objects.Bucket, name string, data []byte) *objects.Object {
	t.Helper()
	w, err := b.Create(Database, name)
	require.NoError(t, err)
	for _, piece := range [][]byte{data[:len(data)/3], data[len(data)/3:]} {
		require.NoError(t, w.Write(t.Context(), piece))
	}
	o, err := w.Close(t.Context())
	require.NoError(t, err)
	return o
}

// ReadObject reads an object whole.
func ReadObject(t *testing.T, b *objects.Bucket, name string) ([]byte, error) {
	t.Helper()
	r, err := b.Open(t.Context(), name)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r.Reader(t.Context()))
}
