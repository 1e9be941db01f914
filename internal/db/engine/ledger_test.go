package engine_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/engine"
)

func TestJobLock(t *testing.T) {
	t.Parallel()
	lock := engine.JobLock("dbrunner", "shop", "a1")
	require.Equal(t, lock, engine.JobLock("dbrunner", "shop", "a1"))
	for _, other := range [][3]string{{"dbrunne", "rshop", "a1"}, {"dbrunner", "shop", "a2"}, {"dbrunner", "shop2", "a1"}, {"x", "shop", "a1"}} {
		require.NotEqual(t, lock, engine.JobLock(other[0], other[1], other[2]))
	}
}
