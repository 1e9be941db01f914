package dialect_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
)

func setupCache(limit int) *dialect.Dialect {
	d := postgres()
	d.Cache = dialect.NewCache(limit)
	return d
}

func compileText(t *testing.T, d *dialect.Dialect, sql string) *dialect.Compiled {
	t.Helper()
	got, faults := dialect.Compile(d, dialect.Statement{SQL: sql, Params: dialect.Params{Named: map[string]dialect.Value{"a": number("1")}}})
	require.Empty(t, faults)
	return got
}

func TestCacheGivesTheSameAnswers(t *testing.T) {
	t.Parallel()
	plain, cached := postgres(), setupCache(1<<20)
	for range 2 {
		for _, sql := range seeds {
			want, wantFaults := dialect.Compile(plain, dialect.Statement{SQL: sql})
			got, gotFaults := dialect.Compile(cached, dialect.Statement{SQL: sql})
			require.Equal(t, want, got)
			require.Equal(t, wantFaults, gotFaults)
			require.Equal(t, dialect.FirstWord(plain, sql), dialect.FirstWord(cached, sql))
		}
	}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	d := setupCache(64 << 10)
	texts := func(i int) string { return fmt.Sprintf("SELECT :a + %d", i) }
	compileText(t, d, texts(0))
	for i := 1; i < 2000; i++ {
		compileText(t, d, texts(i))
		compileText(t, d, texts(0)) // in use all the time
		require.LessOrEqual(t, d.Cache.Size(), 64<<10)
	}
	require.True(t, d.Cache.Has(texts(0)))
	require.True(t, d.Cache.Has(texts(1999)))
	require.False(t, d.Cache.Has(texts(1)))
	require.Greater(t, d.Cache.Size(), 60<<10, "room is used")
}

func TestCacheTakesNoLargeText(t *testing.T) {
	t.Parallel()
	d := setupCache(64 << 10)
	large := "SELECT :a + " + strings.Repeat("1", 1024)
	require.Equal(t, strings.Replace(large, ":a", "$1", 1), compileText(t, d, large).SQL)
	require.False(t, d.Cache.Has(large))
	require.Zero(t, d.Cache.Size())
}

func TestCacheIsSafeForManyGoroutines(t *testing.T) {
	t.Parallel()
	d := setupCache(16 << 10)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 500 {
				n := (i*7 + g) % 60
				got, faults := dialect.Compile(d, dialect.Statement{
					SQL:    fmt.Sprintf("SELECT $1 + %d", n),
					Params: dialect.Params{List: []dialect.Value{number("1")}},
				})
				if len(faults) > 0 || got.SQL != fmt.Sprintf("SELECT $1 + %d", n) {
					t.Errorf("wrong answer for %d: %v", n, got)
				}
			}
		})
	}
	wg.Wait()
}
