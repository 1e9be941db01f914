package config_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// TestOperationsNameWhatStreamsReserve holds the disk space and the number of streams of docs/operations.md to the configuration: each
// section of the topology with a size is a stream, those of jobs and of results one for each database.
func TestOperationsNameWhatStreamsReserve(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	require.NoError(t, err)
	requireText := func(text string) {
		t.Helper()
		require.Positive(t, strings.Count(string(page), text), "docs/operations.md does not have %q", text)
	}
	cfg, err := config.Load(config.Options{Client: true})
	require.NoError(t, err)
	database, fleet, streams := int64(0), int64(0), 0
	sections := reflect.ValueOf(cfg.Topology)
	for i := range sections.NumField() {
		key := sections.Type().Field(i).Tag.Get("key")
		if sections.Field(i).Kind() != reflect.Struct || !sections.Field(i).FieldByName("MaxBytes").IsValid() {
			continue
		}
		size := sections.Field(i).FieldByName("MaxBytes").Int()
		requireText("`topology." + key + ".max_bytes`")
		if key == "jobs" || key == "results" {
			database += size
			continue
		}
		fleet += size
		streams++
	}
	const gibi = 1 << 30
	requireText(fmt.Sprintf("%.1f GiB per database plus %.1f GiB, reserved", float64(database)/gibi, float64(fleet)/gibi))
	require.Equal(t, 8, streams)
	requireText("and eight for the fleet")
}
