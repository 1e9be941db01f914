package bulk_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/bulk"
	"dbrunner/internal/db"
	"dbrunner/internal/db/dialect"
)

// silentObjects is a store that takes rows and removes none.
type silentObjects struct{ discarded int }

func (s *silentObjects) Bucket() string { return "ROWS" }

func (s *silentObjects) Ready(context.Context) error { return nil }

func (s *silentObjects) Create(context.Context, string, string) (bulk.Object, error) { return s, nil }

func (s *silentObjects) Complete(context.Context, string) (bool, error) { return true, nil }

func (s *silentObjects) Write(context.Context, []byte) error { return nil }

func (s *silentObjects) Close(context.Context) (int64, string, error) { return 0, "", nil }

func (s *silentObjects) Discard(ctx context.Context) error {
	s.discarded++
	<-ctx.Done()
	return ctx.Err()
}

// An execution that failed waits for the removal of what it wrote, however many objects that are.
func TestDiscardingManyObjectsIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const sets = 100
		store := &silentObjects{}
		o := bulk.Overflow{Target: bulk.Target{Objects: store, Format: "csv", Compression: "none", Dialect: &dialect.Dialect{}, Database: "shop", JobID: "a1"}}
		require.NoError(t, o.Start(t.Context()))
		for set := range sets {
			rows, err := o.Open(set, []contract.Column{{Name: "n", Type: "int4"}})
			require.NoError(t, err)
			_, err = rows.Close()
			require.NoError(t, err)
		}
		started := time.Now()
		o.Finish(t.Context(), db.Errorf(db.ClassTransient, contract.CodeRowsUnavailable, "the store is silent"))
		require.LessOrEqual(t, time.Since(started), 5*time.Second)
		require.Equal(t, sets, store.discarded, "each gives up its place")
	})
}
