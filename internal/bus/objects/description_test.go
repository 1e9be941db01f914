package objects

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/bus"
)

// FuzzDescription: a description names nothing but its own object and literal subjects of chunks.
func FuzzDescription(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","nuid":"shop.x","size":1,"chunks":1,"digest":"SHA-256=x"}`, `{"name":"b","nuid":"x","size":18446744073709551615,"chunks":4294967295}`,
		`{"name":"a","nuid":">","size":1}`, `{"name":"a","nuid":"x","deleted":true}`, `{"name":"a","nuid":"x","options":{"link":{"bucket":"b"}}}`, `[]`, `null`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, description []byte) {
		o, err := readObject("a", &bus.StoredMessage{Data: description})
		if err != nil {
			require.ErrorIs(t, err, errDescription)
			require.Nil(t, o)
		}
		if o == nil {
			return
		}
		require.Equal(t, "a", o.Name)
		require.False(t, strings.ContainsAny(o.mark, "*> \r\n\x00"), "%q", o.mark)
		require.GreaterOrEqual(t, o.Size, int64(0))
	})
}

// TestDescriptionOfAnother: who may describe one object must not have a runner read or remove another one.
func TestDescriptionOfAnother(t *testing.T) {
	t.Parallel()
	for _, description := range []string{`{"name":"b","nuid":"x"}`, `{"nuid":"x"}`, `{"name":"a","nuid":"x","size":9223372036854775808}`} {
		_, err := readObject("a", &bus.StoredMessage{Data: []byte(description)})
		require.ErrorIs(t, err, errDescription, description)
	}
	o, err := readObject("a", &bus.StoredMessage{Data: []byte(`{"name":"a","nuid":"x","size":9223372036854775807}`)})
	require.NoError(t, err)
	require.Equal(t, int64(math.MaxInt64), o.Size)
}
