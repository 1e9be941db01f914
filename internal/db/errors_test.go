package db_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
)

func TestClassOfSeesThroughWrapping(t *testing.T) {
	t.Parallel()
	cause := errors.New("socket")
	e := db.Errorf(db.ClassLost, contract.CodeConnectionLost, "the link to %s was lost", "x").At(3).Because(cause)
	for _, err := range []error{e, fmt.Errorf("job: %w", e), errors.Join(errors.New("other"), fmt.Errorf("a: %w", e))} {
		require.Equal(t, db.ClassLost, db.ClassOf(err))
		require.ErrorIs(t, err, cause)
	}
	require.Equal(t, 3, e.Statement)
	require.NotContains(t, e.Error(), "socket")
	require.Equal(t, -1, db.Errorf(db.ClassPermanent, contract.CodeData, "x").Statement)
	require.Zero(t, db.ClassOf(cause))
	require.Zero(t, db.ClassOf(nil))
}
