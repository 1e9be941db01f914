package contract_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
)

func TestDerivedID(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	id := contract.DerivedID(42, at)
	require.Equal(t, "s42_dgrfgbv552j9", id)
	require.True(t, contract.IsDerivedID(id))
	require.False(t, contract.ValidID(id))
	require.NotEqual(t, id, contract.DerivedID(42, at.Add(1)))
	require.Equal(t, id, contract.DerivedID(42, at.In(time.FixedZone("x", 3600))))
	require.LessOrEqual(t, len(contract.DerivedID(1<<64-1, time.Unix(0, 1<<63-1))), 40)
}

func TestMessageOf(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{time.Unix(0, 0).UTC(), time.Unix(1_700_000_000, 123456789).UTC(), time.Unix(0, 1<<63-1).UTC()} {
		for _, sequence := range []uint64{1, 42, 1<<64 - 1} {
			n, stored, ok := contract.MessageOf(contract.DerivedID(sequence, at))
			require.True(t, ok)
			require.Equal(t, sequence, n)
			require.Equal(t, at, stored)
		}
	}
	for _, id := range []string{"", "a1", "s1", "s_1", "s99999999999999999999999_1", "s1_zzzzzzzzzzzzzzzzzzzz"} {
		_, _, ok := contract.MessageOf(id)
		require.False(t, ok, id)
	}
}

func TestValidID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		"a": true, "A-z_09": true, strings.Repeat("x", 100): true, "s1": true, "s1_": true, "s_1": true, "S1_1": true,
		"s1_A": true, "s1_1-": true, "sx1_1": true,
		"": false, strings.Repeat("x", 101): false, "a.b": false, "a b": false, "ä": false, "a*": false, "a\n": false,
		"s1_1": false, "s007_zz9": false,
	} {
		require.Equal(t, want, contract.ValidID(id), "%q", id)
	}
}

func TestValidName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"rpa_db": true, "s1_1": true, strings.Repeat("x", 64): true, strings.Repeat("x", 65): false, "": false, "a.b": false,
	} {
		require.Equal(t, want, contract.ValidName(name), "%q", name)
	}
}
