package sqlserver

import (
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/db"
	"dbrunner/internal/db/engine"
)

// A loop of statements reports a row count or a result set for each of them. What is kept of them is bounded.
func TestCollectorBoundsItsParts(t *testing.T) {
	t.Parallel()
	for name, round := range map[string]func(*collector) error{
		"row counts": func(c *collector) error { return c.count(1) },
		"empty result sets": func(c *collector) error {
			if err := c.columns([]column{{Column: contract.Column{Name: "n", Type: "int"}}}); err != nil {
				return err
			}
			return c.next()
		},
		"result sets without columns' names": func(c *collector) error {
			if err := c.columns([]column{{}}); err != nil {
				return err
			}
			return c.next()
		},
		"row counts of result sets": func(c *collector) error {
			if err := c.columns([]column{{}}); err != nil {
				return err
			}
			if err := c.count(0); err != nil {
				return err
			}
			return c.next()
		},
	} {
		c := collector{encoder: engine.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil)}
		var err error
		rounds := 0
		for err == nil && rounds < 1_000_000 {
			err = round(&c)
			rounds++
		}
		require.Equal(t, maxParts+1, rounds, name)
		require.LessOrEqual(t, len(c.parts), maxParts, name)
		var e *db.Error
		require.ErrorAs(t, err, &e, name)
		require.Equal(t, contract.CodeResultTooLarge, e.Code, name)
		require.Contains(t, e.Message, "SET NOCOUNT ON", name)
	}
}

// Outside of a transaction the statement goes on to its end: it cannot be taken back.
func TestDrainingCollectorBoundsItsParts(t *testing.T) {
	t.Parallel()
	p := drainingCollector{collector: collector{encoder: engine.NewRowEncoder(db.RowOptions{Format: db.Objects}, nil)}}
	for n := range int64(5 * maxParts) {
		require.NoError(t, p.count(n))
		require.NoError(t, p.next())
	}
	require.Len(t, p.parts, maxParts)
	require.Error(t, p.refused)
	require.EqualValues(t, 5*maxParts-1, p.affected)
}
