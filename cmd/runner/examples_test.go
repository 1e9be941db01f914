package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// repository is where examples and documents are.
const repository = "../.."

// TestExampleConfigurations: check accepts each complete example with its file of variables, read by a shell as its head
// says. The examples for staging and production leave no warning. The files that they name are those of a machine that
// is set up; here they stand in folders of the test's own.
func TestExampleConfigurations(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"development", "staging", "production"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := installed(t, name)
			line := `set -a; . ./` + name + `.env; set +a; exec "$0" check --config ` + name + `.yaml --strict`
			cmd := command(t.Context(), t)
			cmd.Args = []string{"sh", "-c", line, cmd.Path}
			cmd.Path = "/bin/sh"
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), "CHANGE-ME")
			require.NotContains(t, string(out), "warning")
		})
	}
}

// installed is a folder with an example, its variables and the files that they name.
func installed(t *testing.T, name string) string {
	t.Helper()
	dir := t.TempDir()
	place := strings.NewReplacer("/run/secrets/", dir+"/secrets/", "/etc/dbrunner/", dir+"/etc/")
	for _, file := range []string{name + ".yaml", name + ".env"} {
		text := example(t, file)
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(place.Replace(text)), 0o600))
	}
	contents := map[string]string{
		"etc/nats-ca.pem":      "a certificate is not looked at before there is a connection",
		"secrets/runner.creds": "neither are credentials",
		"secrets/billing":      "sqlserver://dbrunner:CHANGE-ME@sqlserver.example:1433?database=billing&encrypt=true\n",
	}
	for file, text := range contents {
		file = filepath.Join(dir, file)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	require.NoError(t, os.CopyFS(filepath.Join(dir, "migrations"), os.DirFS(filepath.Join(repository, "migrations"))))
	return dir
}

func example(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "examples", "config", file))
	require.NoError(t, err)
	return string(text)
}

// TestExamplesHoldNoSecrets: whatever stands where a password does is visibly none.
func TestExamplesHoldNoSecrets(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(repository, "examples", "config", "*"))
	require.NoError(t, err)
	require.Len(t, files, 7)
	inURL := regexp.MustCompile(`://[^/@\s']*:([^/@\s']*)@`)
	inVariable := regexp.MustCompile(`(?m)^\w*(?:PASSWORD|TOKEN)='?([^'\n]*)`)
	for _, file := range files {
		text := example(t, filepath.Base(file))
		for _, m := range append(inURL.FindAllStringSubmatch(text, -1), inVariable.FindAllStringSubmatch(text, -1)...) {
			require.Equal(t, "CHANGE-ME", m[1], file)
		}
	}
}
