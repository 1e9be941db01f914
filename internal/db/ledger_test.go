package db_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db"
)

func TestJobLock(t *testing.T) {
	t.Parallel()
	lock := db.JobLock("dbrunner", "shop", "a1")
	require.Equal(t, lock, db.JobLock("dbrunner", "shop", "a1"))
	for _, other := range [][3]string{{"dbrunne", "rshop", "a1"}, {"dbrunner", "shop", "a2"}, {"dbrunner", "shop2", "a1"}, {"x", "shop", "a1"}} {
		require.NotEqual(t, lock, db.JobLock(other[0], other[1], other[2]))
	}
}
