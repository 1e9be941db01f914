package config_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.yaml.in/yaml/v3"

	"dbrunner/internal/config"
)

const canary = "c4n4ry-Pa55word"

func TestASecretShowsItselfNowhere(t *testing.T) {
	t.Parallel()
	secret := config.NewSecret(canary)
	holder := struct {
		S config.Secret
		P *config.Secret
		M map[string]config.Secret
	}{secret, &secret, map[string]config.Secret{"k": secret}}

	var out bytes.Buffer
	for _, value := range []any{secret, &secret, holder, &holder, []config.Secret{secret}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%10s", "%T"} {
			_, _ = fmt.Fprintf(&out, verb+"\n", value)
		}
		text, err := json.Marshal(value)
		require.NoError(t, err)
		out.Write(text)
		text, err = yaml.Marshal(value)
		require.NoError(t, err)
		out.Write(text)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", value)
		for _, encoder := range []zapcore.Encoder{
			zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()),
			zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()),
		} {
			zap.New(zapcore.NewCore(encoder, zapcore.AddSync(&out), zap.DebugLevel)).Info("x", zap.Any("value", value))
		}
	}
	text, err := xml.Marshal(secret)
	require.NoError(t, err)
	out.Write(text)

	require.Contains(t, out.String(), "[redacted]")
	require.NotContains(t, out.String(), canary)
	require.NotContains(t, out.String(), fmt.Sprintf("%x", canary))
	require.NotContains(t, out.String(), fmt.Sprintf("%X", canary))
	require.Equal(t, canary, secret.Reveal())
}

func TestAnEmptySecretShowsThatItIsEmpty(t *testing.T) {
	t.Parallel()
	require.Empty(t, fmt.Sprint(config.Secret{}))
	require.Equal(t, `""`, fmt.Sprintf("%#v", config.Secret{}))
	require.True(t, config.Secret{}.Empty())
}

// TestNoFaultHoldsWhatMightBeASecret writes a secret in all the wrong places.
func TestNoFaultHoldsWhatMightBeASecret(t *testing.T) {
	t.Parallel()
	dsn := "postgres://user:" + canary + "@host/db"
	files := []string{
		dsn,
		"'" + dsn,
		"- " + dsn,
		"a: *" + canary,
		"a: &" + canary + " b\nc: *" + canary,
		"nats: " + dsn,
		"nats: {password: [" + canary + "]}",
		"nats: {password: !" + canary + " x}",
		"nats: {password: {" + canary + ": x}}",
		"nats: {urls: [\"nats://user:" + canary + "@host\"]}",
		"nats: {urls: \"" + dsn + "\"}",
		"nats: {credentials_file: /tmp/" + canary + ", password_file: /tmp/" + canary + "}",
		"databases: {\"" + dsn + "\": {type: postgres}}",
		"databases: {a: \"" + dsn + "\"}",
		"databases: {a: {type: \"" + dsn + "\", connection_string: {x: " + canary + "}}}",
		"databases: {a: {connection_string_file: \"" + dsn + "\", timeout: " + canary + ", slots: " + canary + "}}",
		"databases: {a: {connection_string: " + canary + ", connection_string_file: " + canary + "}}",
		"databases: {a: {connection_string: \"" + canary + "${X}\", type: nope}}",
		"log: {level: " + canary + "}\nreply_prefixes: [" + canary + "]",
		"namespace: \"" + canary + ".x\"\ndefaults: {max_bytes: " + canary + ", kinds: [" + canary + "], settings: " + canary + "}",
		"a: \"\\" + canary + "\"",
		"%" + canary + "\n---\n",
	}
	for _, text := range files {
		_, err := load(t, text, "RUNNER_DATABASES="+dsn, "RUNNER_LOG_LEVEL=")
		require.Error(t, err, text)
		require.NotContains(t, fmt.Sprintf("%v %+v %#v", err, err, err), canary, text)
	}
}

func TestNoFaultOfTheEnvironmentHoldsWhatMightBeASecret(t *testing.T) {
	t.Parallel()
	_, err := config.Load(config.Options{Words: words(), Environ: []string{
		"RUNNER_DATABASES=a", "A_TYPE=" + canary, "A_CONNECTION_STRING_FILE=/tmp/" + canary, "A_POOL_MAX=" + canary,
		"A_SETTINGS=" + canary, "RUNNER_NATS_URLS=nats://u:" + canary + "@h:1", "RUNNER_NATS_TOKEN=" + canary,
		"RUNNER_NATS_USER=" + canary, "RUNNER_NATS_PASSWORT=" + canary, "RUNNER_NATS_NKEY_SEED_FILE=" + canary,
		"RUNNER_LOG_LEVEL=" + canary, "RUNNER_INSTANCE=" + canary + ".x",
	}})
	require.Error(t, err)
	require.NotContains(t, fmt.Sprintf("%v %#v", err, err), canary)
}
