package schedule_test

import (
	"encoding/json"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/contract"
	"dbrunner/internal/cron"
	"dbrunner/internal/schedule"
)

// FuzzFiles: a file has schedules that runners can use, or the error lists what is wrong with it.
func FuzzFiles(f *testing.F) {
	for _, seed := range []string{
		"key: jobs.shop.query.nightly\ncron: 0 3 * * *\ntime_zone: Europe/Warsaw\njob: {sql: SELECT 1}\n",
		"key: jobs.shop.query.a\nevery: 90s\njob: {sql: x, params: {a: 0x1F, b: 1.0e3, c: 2026-01-01, d: ~, e: yes}}\n---\nkey: jobs.shop.query.b\nat: 2030-01-31T12:00:00Z\njob: {id: b}\n",
		"", "---\n", "# none\n", "---\n---\n", "a: &a [*a]\n", "[1]", "key: 7\n", "key: jobs.shop.query.x\ncron: '0 0 30 2 *'\njob: {}\n", "\xff", "? {a: b}\n: c\n",
	} {
		f.Add(seed)
	}
	rules := &schedule.Rules{Zones: cron.NewZones(), Retention: 72 * time.Hour}
	now := time.Unix(1_800_000_000, 0)
	f.Fuzz(func(t *testing.T, text string) {
		found, err := schedule.ReadFiles(fstest.MapFS{"a.yaml": &fstest.MapFile{Data: []byte(text)}}, rules, now)
		if err != nil {
			require.Empty(t, found)
			return
		}
		for _, one := range found {
			require.True(t, json.Valid(one.Value), "%s", one.Value)
			key, err := contract.ParseScheduleKey(one.Key)
			require.NoError(t, err)
			d, err := rules.Read(key, one.Value, now)
			require.NoError(t, err)
			require.True(t, json.Valid(d.Body("id", now)))
		}
	})
}
