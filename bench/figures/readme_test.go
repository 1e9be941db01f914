package figures

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPagesHaveTheFiguresOfTheLastRun: what make bench does not write by itself.
func TestPagesHaveTheFiguresOfTheLastRun(t *testing.T) {
	t.Parallel()
	var last struct {
		Allocations map[string]struct{ Count, Bytes float64 }
		Sizes       map[string]float64
	}
	require.NoError(t, json.Unmarshal(read(t, "../results/latest.json"), &last))
	list := regexp.MustCompile(`(?m)^\| ([a-d]|sqlite-[bc]) \| ([a-z_ /]+) \| ([0-9 /]+) \| ([0-9, /]+) \|$`).FindAllStringSubmatch(string(read(t, "../README.md")), -1)
	require.Len(t, list, 6, "works")
	shown := 0
	for _, row := range list {
		counts, bytes := strings.Split(row[3], " / "), strings.Split(strings.ReplaceAll(row[4], ",", ""), " / ")
		for i, mode := range strings.Split(row[2], " / ") {
			is, known := last.Allocations[row[1]+"/"+mode]
			require.True(t, known, "%s %s", row[1], mode)
			require.Equal(t, strconv.Itoa(int(math.Round(is.Count))), counts[i], "%s %s: allocations per job", row[1], mode)
			have, err := strconv.ParseFloat(bytes[i], 64)
			require.NoError(t, err)
			require.InDelta(t, is.Bytes, have, 50, "%s %s: bytes per job", row[1], mode)
			shown++
		}
	}
	require.Equal(t, len(last.Allocations), shown)
	result := fmt.Sprintf("%.0f bytes in total for one small row", last.Sizes["result_bytes_a"])
	require.Positive(t, strings.Count(string(read(t, "../../docs/performance.md")), result), result)
	require.Positive(t, strings.Count(string(read(t, "../../docs/operations.md")), result), result)
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	return text
}
