package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"dbrunner/internal/config"
)

// odd are ways in which a value gets an invisible character, or quotes, and its error.
func odd(value string) map[string]string {
	return map[string]string{
		value[:2] + "\r" + value[2:]:     "carriage return",
		"\uFEFF" + value:                 "byte order mark",
		value + "\u00A0":                 "U+00A0",
		value[:2] + "\u200B" + value[2:]: "U+200B",
		value + "\t":                     "U+0009",
		value + " ":                      "white space",
		" " + value:                      "white space",
		value + "\n\n":                   "one line",
		value + "\xff":                   "UTF-8",
	}
}

// Every secret, path and URL is refused by its variable or key if its defect is invisible, and is never shown.
func TestValuesWithUnseenCharacters(t *testing.T) {
	t.Parallel()
	const base = "databases: {shop: {type: sqlite, connection_string: shop.db}}\nnats: {user: u, password: p}"
	for name, good := range map[string]string{
		"SHOP_CONNECTION_STRING": "geheim.db", "SHOP_DIRECT_CONNECTION_STRING": "geheim.db", "RUNNER_NATS_PASSWORD": "geheim",
		"RUNNER_NATS_USER": "geheim", "RUNNER_NATS_TLS_SERVER_NAME": "geheim", "SHOP_MIGRATIONS_FOLDER": "geheim", "SHOP_MIGRATIONS_CONNECTION_STRING": "geheim.db",
	} {
		for value, words := range odd(good) {
			_, err := load(t, base, name+"="+value)
			require.ErrorContains(t, err, name, "%q", value)
			require.ErrorContains(t, err, words, "%s=%q", name, value)
			require.NotContains(t, err.Error(), "geheim")
		}
		if name != "RUNNER_NATS_PASSWORD" { // which may begin with a quote
			for _, value := range []string{`"` + good + `"`, "'" + good + "'", "“" + good + "”"} {
				_, err := load(t, base, name+"="+value)
				require.ErrorContains(t, err, name)
				require.ErrorContains(t, err, "quotes", "%s=%q", name, value)
				require.NotContains(t, err.Error(), "geheim")
			}
		}
		for _, end := range []string{"\n", "\r\n", "\r"} {
			_, err := load(t, base, name+"="+good+end)
			require.NoError(t, err, "a line end behind it is no part of it")
		}
	}
	for _, list := range []string{`"nats://h:4222"`, "nats://h:4222,\uFEFFnats://i:4222", "nats://h:4222\u200B", "nats://ge heim:4222"} {
		_, err := load(t, base, "RUNNER_NATS_URLS="+list)
		require.ErrorContains(t, err, "RUNNER_NATS_URLS", list)
	}
}

func TestSecretFilesWithUnseenCharacters(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "secret")
	text := "databases: {shop: {type: sqlite, connection_string: shop.db}}\nnats: {user: u, password_file: " + name + "}"
	for value, words := range odd("geheim") {
		require.NoError(t, os.WriteFile(name, []byte(value+"\n"), 0o600))
		_, err := load(t, text)
		require.ErrorContains(t, err, "nats.password_file", "%q", value)
		require.ErrorContains(t, err, words, "%q", value)
		require.NotContains(t, err.Error(), "geheim")
	}
}

// A secret that came from a file is what the file has now, as long as that is one.
func TestCurrentSecret(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(name, []byte("one\n"), 0o600))
	cfg := loaded(t, "databases: {shop: {type: sqlite, connection_string: shop.db}}\nnats: {user: u, password_file: "+name+"}")
	secret := cfg.NATS.Password
	require.Equal(t, "one", secret.Current())
	require.NoError(t, os.WriteFile(name, []byte("two"), 0o600))
	require.Equal(t, "two", secret.Current())
	for _, broken := range []string{"", "a\rb", "\n"} {
		require.NoError(t, os.WriteFile(name, []byte(broken), 0o600))
		require.Equal(t, "one", secret.Current())
	}
	require.NoError(t, os.Remove(name))
	require.Equal(t, "one", secret.Current())
	require.Equal(t, "one", secret.Reveal())
	require.Equal(t, "nats.password_file", secret.Source())
	require.Equal(t, "databases.shop.connection_string", cfg.Databases["shop"].ConnectionString.Source())
	require.Equal(t, "x", config.NewSecret("x").Current())
}
