package dbtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

func testCheck(t *testing.T, h Harness) {
	cases(t, h, map[string]func(*testing.T, Harness){
		"Finds":       testCheckFinds,
		"FullPool":    testCheckFullPool,
		"Unreachable": testCheckUnreachable,
		"GivesUp":     testCheckGivesUp,
	})
}

func testCheckFinds(t *testing.T, h Harness) {
	b := setup(t, h)
	v, err := b.db.Check(t.Context())
	require.NoError(t, err)
	require.Positive(t, v.Connect)
	require.Positive(t, v.Query)
	require.NotEmpty(t, v.Version)
	require.Empty(t, v.ReadOnly)
	require.NotEqual(t, contract.RoleStandby, v.Role)
}

// testCheckFullPool checks while every connection is in use and calls wait.
func testCheckFullPool(t *testing.T, h Harness) {
	b, release := occupied(t, h)
	defer release()
	before := b.db.Stats()
	_, err := b.db.Check(t.Context())
	require.NoError(t, err)
	after := b.db.Stats()
	require.Equal(t, before.Acquires, after.Acquires, "no connection of the pool was used")
	require.Equal(t, before.InUse, after.InUse)
}

func testCheckUnreachable(t *testing.T, h Harness) {
	d, err := h.Open(h.Unreachable(t, h.Options(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()
	v, err := d.Check(t.Context())
	require.Zero(t, v.Connect)
	e, ok := errors.AsType[*db.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, db.ClassUnavailable, e.Class)
	if h.Secret != "" {
		require.NotContains(t, err.Error(), h.Secret)
	}
}

func testCheckGivesUp(t *testing.T, h Harness) {
	b := setup(t, h)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	started := time.Now()
	_, err := b.db.Check(ctx)
	requireError(t, err, db.ClassCanceled, db.CodeCanceled)
	require.Less(t, time.Since(started), testTimeout/4)
}
