package config_test

import (
	_ "embed"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"dbrunner/internal/config"
)

var update = flag.Bool("update", false, "regenerate docs/configuration.md")

//go:embed testdata/configuration.md
var introduction string

const (
	referencePage = "../../docs/configuration.md"
	exampleFile   = "../../examples/config/runner.yaml"
)

// TestTheReferencePageIsWhatTheTypesSay holds docs/configuration.md equal to what is generated from the types:
// `go test ./internal/config -run Reference -update` regenerates it.
func TestTheReferencePageIsWhatTheTypesSay(t *testing.T) {
	t.Parallel()
	page := introduction + tables()
	if *update {
		require.NoError(t, os.WriteFile(referencePage, []byte(page), 0o644))
	}
	have, err := os.ReadFile(referencePage)
	require.NoError(t, err)
	require.Equal(t, page, string(have), "run: go test ./internal/config -run Reference -update")
}

func tables() string {
	var b strings.Builder
	section := "?"
	for _, k := range config.Describe() {
		if strings.HasPrefix(k.Path, "defaults.") {
			continue
		}
		above, name := "", k.Path
		if i := strings.LastIndexByte(k.Path, '.'); i >= 0 {
			above, name = k.Path[:i], k.Path[i+1:]
		}
		if above != section {
			section = above
			heading(&b, section)
		}
		row(&b, "`"+name+"`", "`"+k.Env+"`", join(k.Type, k.Limits), code(k.Default), k.Doc)
	}
	return b.String()
}

func heading(b *strings.Builder, section string) {
	if section == "" {
		b.WriteString("\n## Top of the file\n\n")
	} else {
		b.WriteString("\n## `" + section + "`\n\n" + config.DescribeSection(section) + "\n\n")
	}
	row(b, "key", "environment", "value", "default", "description")
	row(b, "---", "---", "---", "---", "---")
}

func row(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func join(kind, limits string) string {
	if limits == "" {
		return kind
	}
	return kind + ", " + limits
}

func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func TestEverySettingIsDescribed(t *testing.T) {
	t.Parallel()
	variables := map[string]string{}
	for _, k := range config.Describe() {
		require.NotEmpty(t, k.Doc, k.Path)
		require.NotEmpty(t, k.Type, k.Path)
		require.Empty(t, variables[k.Env], "%s and %s share %s", k.Path, variables[k.Env], k.Env)
		variables[k.Env] = k.Path
	}
	require.Contains(t, variables, "RUNNER_NATS_PASSWORD_FILE")
	require.Equal(t, "databases.<name>.pool.max", variables["<NAME>_POOL_MAX"])
	require.Equal(t, "Limits a database's connections.", config.DescribeSection("databases.<name>.pool"))
}

// TestTheExampleIsAccepted loads the example as it stands.
func TestTheExampleIsAccepted(t *testing.T) {
	t.Parallel()
	cfg, err := config.Load(config.Options{
		File: exampleFile, Words: words(),
		Environ: []string{"RPA_DB_CONNECTION_STRING=postgres://runner@localhost/rpa"},
	})
	require.NoError(t, err)
	require.Len(t, cfg.Databases, 2)
}

// TestTheExampleIsComplete takes the comment signs off the example's keys: then it has every key there is, no
// other, and each default as it is.
func TestTheExampleIsComplete(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(exampleFile)
	require.NoError(t, err)
	full := regexp.MustCompile(`(?m)^( *)#([a-z_]+:)`).ReplaceAllString(string(text), "$1$2")
	var doc map[string]any
	require.NoError(t, yaml.Unmarshal([]byte(full), &doc))

	have := map[string]string{}
	flatten(doc, "", have)
	for _, k := range config.Describe() {
		if strings.HasPrefix(k.Path, "defaults.") {
			continue
		}
		path := strings.NewReplacer("<name>", "rpa_db", "<kind>", "query", "<queue>", "bulk").Replace(k.Path)
		shared := strings.Replace(path, "databases.rpa_db.", "defaults.", 1)
		value, ok := have[path]
		if !ok {
			value, ok = have[shared]
			path = shared
		}
		require.True(t, ok, "%s is not in the example", k.Path)
		if regexp.MustCompile(`(?m)^ *#`+path[strings.LastIndex(path, ".")+1:]+":").MatchString(string(text)) &&
			k.Default != "" && !strings.ContainsAny(k.Default, "<×+'") && k.Default != "all" && k.Default != "no limit" && !strings.Contains(path, ".queues.") {
			require.Equal(t, strings.Trim(k.Default, "[]"), value, "%s: what is commented out is the default", k.Path)
		}
		delete(have, path)
	}
	for path := range have {
		require.True(t, strings.HasPrefix(path, "databases."), "%s is no setting", path)
	}
}

func flatten(value any, path string, out map[string]string) {
	switch v := value.(type) {
	case map[string]any:
		for key, below := range v {
			at := key
			if path != "" {
				at = path + "." + key
			}
			flatten(below, at, out)
		}
		if len(v) == 0 {
			out[path] = ""
		}
	case []any:
		var words []string
		for _, item := range v {
			words = append(words, item.(string))
		}
		out[path] = strings.Join(words, ", ")
	default:
		text, _ := yaml.Marshal(v)
		out[path] = strings.Trim(strings.TrimSpace(string(text)), `"`)
	}
}
