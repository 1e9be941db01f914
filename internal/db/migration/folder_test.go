package migration_test

import (
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/db/dialect"
	"dbrunner/internal/db/migration"
)

// textEngine is an engine as far as the reading of files goes.
type textEngine struct {
	migration.Engine
	dialect *dialect.Dialect
}

func (e textEngine) Dialect() *dialect.Dialect { return e.dialect }

func vacuum(words []string) string {
	if words[0] == "VACUUM" {
		return "VACUUM"
	}
	return ""
}

func table(list ...string) map[string]bool {
	out := map[string]bool{}
	for _, w := range list {
		out[w] = true
	}
	return out
}

func semicolons() textEngine {
	return textEngine{dialect: &dialect.Dialect{
		DollarQuotes: true, NestedComments: true, TransactionVerb: table("BEGIN", "START", "COMMIT", "END", "ROLLBACK", "SAVEPOINT"),
		NonTransactional: vacuum,
	}}
}

func batches() textEngine {
	return textEngine{dialect: &dialect.Dialect{Brackets: true, NestedComments: true, Separator: "GO", Batches: true, NonTransactional: vacuum}}
}

// folder makes a folder of "name: text" lines; a name alone has a statement in it.
func folder(lines ...string) fstest.MapFS {
	out := fstest.MapFS{}
	for _, line := range lines {
		name, text, given := strings.Cut(line, ": ")
		if !given {
			text = "SELECT 1"
		}
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return out
}

func versions(f *migration.Folder) (out []string) {
	for _, file := range f.Files {
		out = append(out, fmt.Sprintf("%s=%d", file.Version.Label, file.Version.Number))
	}
	return out
}

func TestOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  []string
	}{
		"plain":        {[]string{"V10__c.sql", "V2__b.sql", "V001__a.sql", "V0__zero.sql"}, []string{"0=0", "1=1", "2=2", "10=10"}},
		"times":        {[]string{"V20260301120000__a.sql", "V9223372036854775807__b.sql"}, []string{"20260301120000=20260301120000", "9223372036854775807=9223372036854775807"}},
		"dotted":       {[]string{"V1__a.sql", "V1_10__c.sql", "V1.2__b.sql", "V2__d.sql", "V1_2_0_1__e.sql"}, []string{"1=1000000000000", "1.2=1000200000000", "1.2.0.1=1000200000001", "1.10=1001000000000", "2=2000000000000"}},
		"up and down":  {[]string{"000002_b.up.sql", "000001_a.up.sql", "000001_a.down.sql", "000002_b.down.sql"}, []string{"1=1", "2=2"}},
		"with reverts": {[]string{"V1__a.sql", "U1__other words.sql", "README.md", ".hidden.sql", "notes.txt"}, []string{"1=1"}},
		"empty":        {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := migration.Load(semicolons(), folder(c.files...))
			require.NoError(t, err)
			require.Equal(t, c.want, versions(f))
		})
	}
}

// TestRefusedByName: each fault of a folder names its file.
func TestRefusedByName(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files []string
		want  []string // file code
		says  string
	}{
		"mixed":            {[]string{"V1__a.sql", "2_b.up.sql"}, []string{" mixed_styles"}, "V1__a.sql"},
		"lower case":       {[]string{"v1__a.sql"}, []string{"v1__a.sql misnamed_file"}, "write V{version}__{description}.sql"},
		"one underscore":   {[]string{"V1_a.sql"}, []string{"V1_a.sql misnamed_file"}, ""},
		"extension":        {[]string{"V1__a.SQL"}, []string{"V1__a.SQL misnamed_file"}, ""},
		"no direction":     {[]string{"1_a.sql"}, []string{"1_a.sql misnamed_file"}, ""},
		"repeatable":       {[]string{"R__views.sql"}, []string{"R__views.sql repeatable_file"}, "not supported"},
		"callback":         {[]string{"afterMigrate.sql"}, []string{"afterMigrate.sql misnamed_file"}, ""},
		"twice":            {[]string{"V1__a.sql", "V01__b.sql"}, []string{"V1__a.sql duplicate_version"}, "V01__b.sql"},
		"twice with dots":  {[]string{"V1__a.sql", "V1_0__b.sql"}, []string{"V1__a.sql duplicate_version"}, ""},
		"two reverts":      {[]string{"V1__a.sql", "U1__a.sql", "U01__b.sql"}, []string{"U1__a.sql duplicate_version"}, ""},
		"revert alone":     {[]string{"U7__a.sql"}, []string{"U7__a.sql down_without_up"}, "version 7"},
		"too large":        {[]string{"V9223372036854775808__a.sql"}, []string{"V9223372036854775808__a.sql misnamed_file"}, "2^63-1"},
		"too many parts":   {[]string{"V1_2_3_4_5__a.sql"}, []string{"V1_2_3_4_5__a.sql misnamed_file"}, "at most 4"},
		"part too large":   {[]string{"V1_10000__a.sql"}, []string{"V1_10000__a.sql misnamed_file"}, "part 2 of 1.10000 is above 9999"},
		"first too large":  {[]string{"V20260301__a.sql", "V1_1__b.sql"}, []string{"V20260301__a.sql misnamed_file"}, "above 999999"},
		"folder below":     {[]string{"V1__a.sql", "more/V2__b.sql"}, []string{"more/V2__b.sql misnamed_file"}, "folder below"},
		"not UTF-8":        {[]string{"V1__a.sql: SELECT '\xe4'"}, []string{"V1__a.sql unusable_file"}, "not UTF-8"},
		"UTF-16":           {[]string{"V1__a.sql: \xff\xfeS\x00"}, []string{"V1__a.sql unusable_file"}, "UTF-16"},
		"NUL":              {[]string{"V1__a.sql: SELECT \x00"}, []string{"V1__a.sql unusable_file"}, "NUL"},
		"empty":            {[]string{"V1__a.sql: "}, []string{"V1__a.sql unusable_file"}, "no statement"},
		"only semicolons":  {[]string{"V1__a.sql: ;\n;"}, []string{"V1__a.sql unusable_file"}, "contains a comment"},
		"five and five":    {[]string{"V1.2.3.4.5__a.sql", "V1.2.3.4.6__b.sql", "U1.2.3.4.5__a.sql", "V0__z.sql"}, []string{"V1.2.3.4.5__a.sql misnamed_file", "V1.2.3.4.6__b.sql misnamed_file", "U1.2.3.4.5__a.sql misnamed_file"}, "has 5 parts"},
		"only reverts":     {[]string{"U1.2.3.4.5__a.sql", "V1__a.sql"}, []string{"U1.2.3.4.5__a.sql misnamed_file"}, "has 5 parts"},
		"large parts":      {[]string{"V1.10000__a.sql", "V1.10001__b.sql", "V1__c.sql"}, []string{"V1.10000__a.sql misnamed_file", "V1.10001__b.sql misnamed_file"}, "above 9999"},
		"comment not shut": {[]string{"V1__a.sql: SELECT 1;\n/* SELECT 2;"}, []string{"V1__a.sql unusable_file"}, "line 2: a comment is not closed"},
		"carriage return":  {[]string{"V1__a.sql: SELECT 1;\n-- a\rSELECT 2;\n"}, []string{"V1__a.sql unusable_file"}, "line 2: carriage return"},
		"own transactions": {[]string{"V1__a.sql: BEGIN;\nSELECT 1;\nCOMMIT;\nBEGIN;\nSELECT 2;\nCOMMIT;"}, []string{"V1__a.sql unusable_file"}, "line 3: COMMIT"},
		"rollback":         {[]string{"V1__a.sql: SELECT 1; ROLLBACK"}, []string{"V1__a.sql unusable_file"}, "ROLLBACK"},
		"several together": {[]string{"V1__a.sql: ", "R__b.sql", "v2.sql"}, []string{"R__b.sql repeatable_file", "v2.sql misnamed_file", "V1__a.sql unusable_file"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := migration.Load(semicolons(), folder(c.files...))
			var faults *migration.FaultsError
			require.ErrorAs(t, err, &faults)
			var got []string
			for _, f := range faults.Faults {
				got = append(got, f.File+" "+f.Code)
			}
			require.ElementsMatch(t, c.want, got)
			require.Contains(t, err.Error(), c.says)
		})
	}
}

func TestFolderThatIsNotThere(t *testing.T) {
	t.Parallel()
	_, err := migration.Load(semicolons(), nowhere{})
	require.Error(t, err)
	var faults *migration.FaultsError
	require.NotErrorAs(t, err, &faults)
}

// TestFilesThatDoNothing: a file of comments alone is one without statements.
func TestFilesThatDoNothing(t *testing.T) {
	t.Parallel()
	for _, engine := range []textEngine{semicolons(), batches()} {
		for _, text := range []string{"-- nothing", "/* nothing */", "\n\n-- kept for its number\n", "-- nothing\n;", "-- dbrunner: no-transaction", "--", "-- a\r\n"} {
			f, err := migration.Load(engine, folder("V1__a.sql: "+text))
			require.NoError(t, err, text)
			require.Empty(t, f.Files[0].Parts)
			require.False(t, f.Files[0].Stepwise)
			require.Len(t, f.Files[0].SHA256, 64)
		}
	}
	f, err := migration.Load(semicolons(), folder("V1__a.sql: BEGIN;\n-- nothing\nCOMMIT;"))
	require.NoError(t, err)
	require.Empty(t, f.Files[0].Parts)
}

// TestHowFilesTakeEffect: what runs in one transaction and what statement by statement, and why.
func TestHowFilesTakeEffect(t *testing.T) {
	t.Parallel()
	f, err := migration.Load(semicolons(), folder(
		"V1__plain.sql: SELECT 1; SELECT 2",
		"V2__surrounded.sql: BEGIN;\nSELECT 1;\nSELECT 2;\nCOMMIT;",
		"V3__alone.sql: SELECT 1;\nVACUUM",
		"V4__marked.sql: /* about */\n-- dbrunner: no-transaction\nSELECT 1",
		"V5__late mark.sql: SELECT 1;\n-- dbrunner: no-transaction\nSELECT 2",
	))
	require.NoError(t, err)
	require.Len(t, f.Files[1].Parts, 2, "the runner's own transaction stands for the file's")
	require.Equal(t, "SELECT 1", f.Files[1].Parts[0].SQL)
	for i, stepwise := range []bool{false, false, true, true, false} {
		require.Equal(t, stepwise, f.Files[i].Stepwise, f.Files[i].Name)
		require.Equal(t, stepwise, f.Files[i].Why != "")
	}
	require.Contains(t, f.Files[2].Why, "VACUUM (line 2)")

	f, err = migration.Load(batches(), folder(
		"V1__procedure.sql: CREATE PROCEDURE p AS BEGIN TRAN; COMMIT\nGO\nEXEC p",
		"V2__own.sql: SELECT 1\nGO\nBEGIN TRAN; UPDATE t SET a = 1; COMMIT",
		"V3__variable.sql: SELECT @commit, 'ROLLBACK', [COMMIT]",
	))
	require.NoError(t, err)
	require.False(t, f.Files[0].Stepwise)
	require.True(t, f.Files[1].Stepwise)
	require.Contains(t, f.Files[1].Why, "COMMIT (from line 3 on)")
	require.False(t, f.Files[2].Stepwise)
	_, err = migration.Load(batches(), folder("V1__a.sql: SELECT 1\nGO 0"))
	require.ErrorContains(t, err, "line 2: the number after GO must be 1 to 100000")
}

// TestChecksum: line ends and a byte order mark make no difference, anything else does.
func TestChecksum(t *testing.T) {
	t.Parallel()
	sum := func(text string) string {
		f, err := migration.Load(semicolons(), fstest.MapFS{"V1__a.sql": &fstest.MapFile{Data: []byte(text)}})
		require.NoError(t, err)
		return f.Files[0].SHA256
	}
	require.Equal(t, "e004ebd5b5532a4b85984a62f8ad48a81aa3460c1ca07701f386135d72cdecf5", sum("SELECT 1"), "that of sha256sum")
	require.Equal(t, sum("SELECT 1;\nSELECT 2;\n"), sum("\ufeffSELECT 1;\r\nSELECT 2;\r\n"))
	require.NotEqual(t, sum("SELECT 1"), sum("SELECT 1 "))
}

// nowhere is a folder that is not there.
type nowhere struct{}

func (nowhere) Open(name string) (fs.File, error) {
	return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
}
