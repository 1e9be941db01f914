package migration_test

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/migration"
)

func TestNext(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 15, 30, 0, 0, time.FixedZone("", 3600))
	for _, c := range []struct {
		there       []string
		description string
		want        string // both names
	}{
		{nil, "create the queue", "V1__create_the_queue.sql U1__create_the_queue.sql"},
		{[]string{"README.md"}, "first", "V1__first.sql U1__first.sql"},
		{[]string{"V1__a.sql", "V2__b.sql", "U2__b.sql", "V10__c.sql"}, "d", "V11__d.sql U11__d.sql"},
		{[]string{"V009__a.sql"}, "b", "V010__b.sql U010__b.sql"},
		{[]string{"V1__2_factors.sql"}, "b", "V2__b.sql U2__b.sql"},
		{[]string{"V1.9__a.sql", "V1_10__b.sql"}, "c", "V1_11__c.sql U1_11__c.sql"},
		{[]string{"V1.2__a.sql", "V3__b.sql"}, "c", "V4__c.sql U4__c.sql"},
		{[]string{"000001_a.up.sql", "000001_a.down.sql"}, "b", "000002_b.up.sql 000002_b.down.sql"},
		{[]string{"1_2fa.up.sql"}, "b", "2_b.up.sql 2_b.down.sql"},
		{[]string{"999_a.up.sql"}, "b", "1000_b.up.sql 1000_b.down.sql"},
		{[]string{"20240102030405_a.up.sql"}, "b", "20261125143000_b.up.sql 20261125143000_b.down.sql"},
		{[]string{"20991231235958_a.up.sql"}, "b", "20991231235959_b.up.sql 20991231235959_b.down.sql"},
		{nil, "  Größe: ../../etc; DROP  ", "V1__gr_e_etc_drop.sql U1__gr_e_etc_drop.sql"},
	} {
		fsys := fstest.MapFS{}
		for _, name := range c.there {
			fsys[name] = &fstest.MapFile{}
		}
		got, err := migration.Next(fsys, c.description, true, now)
		require.NoError(t, err, c.there)
		require.Equal(t, c.want, strings.Join(got, " "), c.there)
		got, err = migration.Next(fsys, c.description, false, now)
		require.NoError(t, err)
		require.Equal(t, strings.Fields(c.want)[:1], got)
	}
}

func TestNextOfFolderThatIsNotThere(t *testing.T) {
	t.Parallel()
	got, err := migration.Next(os.DirFS(t.TempDir()+"/gone"), "a", false, time.Now())
	require.NoError(t, err)
	require.Equal(t, []string{"V1__a.sql"}, got)
}

func TestNextRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ there, description, words string }{
		{"", "äöü …", "needs a letter"},
		{"", strings.Repeat("long ", 100), "too long"},
		{"V1__a.sql 2_b.up.sql", "c", "mixes two styles"},
		{"first.sql", "c", "is not the name of a migration"},
		{"V9223372036854775807__a.sql", "b", "by hand"},
		{"V1.9999__a.sql", "b", "by hand"},
	} {
		fsys := fstest.MapFS{}
		for name := range strings.FieldsSeq(c.there) {
			fsys[name] = &fstest.MapFile{}
		}
		_, err := migration.Next(fsys, c.description, true, time.Now())
		require.ErrorContains(t, err, c.words)
	}
}
